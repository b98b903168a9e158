"""For the adapters' tests: git asks nobody and reads no configuration but the tests' own."""

from collections.abc import Iterator

import pytest

from lynx_pipeline.adapters import oidc
from lynx_pipeline_tests.support.fake_issuer import FakeIssuer, jwk, running
from lynx_pipeline_tests.support.places import GIT_ENV

CI = ("GITHUB_ACTIONS", "GITLAB_CI", "BUILDKITE", "CIRCLECI", "GOOGLE_SERVICE_ACCOUNT_NAME")


@pytest.fixture(autouse=True)
def no_git_configuration_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clear git's variables, and set those that keep its configuration out."""
    for name, value in GIT_ENV.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """No keys from another test, and no CI job around this one."""
    monkeypatch.setattr(oidc, "_known", {})
    for name in (*CI, "ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    # Where the library would look whether this machine is Google's.
    monkeypatch.setattr("id._internal.oidc.ambient._GCP_PRODUCT_NAME_FILE", "/nonexistent")


@pytest.fixture
def evil() -> Iterator[FakeIssuer]:
    """Another server, whose keys are somebody else's."""
    with running() as it:
        it.keys = [jwk("evil")]
        yield it
