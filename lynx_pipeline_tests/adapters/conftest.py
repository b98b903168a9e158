"""For the adapters' tests: git never prompts and reads only the tests' own configuration."""

from collections.abc import Iterator

import pytest

from lynx_pipeline.adapters import oidc
from lynx_pipeline_tests.support.fake_issuer import FakeIssuer, jwk, running
from lynx_pipeline_tests.support.places import GIT_ENV

CI = ("GITHUB_ACTIONS", "GITLAB_CI", "BUILDKITE", "CIRCLECI", "GOOGLE_SERVICE_ACCOUNT_NAME")


@pytest.fixture(autouse=True)
def no_git_configuration_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the variables that keep git's configuration on this machine out."""
    for name, value in GIT_ENV.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start without cached keys, and as if outside any CI job."""
    monkeypatch.setattr(oidc, "_known", {})
    for name in (*CI, "ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    # The file in which the library checks whether this machine is Google's.
    monkeypatch.setattr("id._internal.oidc.ambient._GCP_PRODUCT_NAME_FILE", "/nonexistent")


@pytest.fixture
def evil() -> Iterator[FakeIssuer]:
    """Another issuer, with an attacker's key."""
    with running() as it:
        it.keys = [jwk("evil")]
        yield it
