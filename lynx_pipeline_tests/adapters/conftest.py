"""For the adapters' tests: git asks nobody and reads no configuration but the tests' own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lynx_pipeline.adapters import oidc
from lynx_pipeline.adapters.isolation import choose_isolation
from lynx_pipeline.domain.evaluation import NONE
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.errors import Refused
from lynx_pipeline.sandboxed import worker
from lynx_pipeline_tests.builders import bundle
from lynx_pipeline_tests.fake_issuer import FakeIssuer, jwk, running
from lynx_pipeline_tests.places import GIT_ENV
from lynx_pipeline_tests.strangers import isolation

CI = ("GITHUB_ACTIONS", "GITLAB_CI", "BUILDKITE", "CIRCLECI", "GOOGLE_SERVICE_ACCOUNT_NAME")


@pytest.fixture(autouse=True)
def no_git_configuration_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clear git's variables, and set those that keep its configuration out."""
    for name, value in GIT_ENV.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle; ``script.py`` beside it is run in the worker's place."""
    monkeypatch.setattr(worker, "__file__", str(tmp_path / "script.py"))
    return bundle(tmp_path / "bundle")


@pytest.fixture
def isolated() -> bool:
    """Whether this machine has isolation. Where it has none, prod refuses."""
    if isolation().level != NONE:
        return True
    with pytest.raises(Refused):
        choose_isolation(Env.PROD, (), lambda _: None)
    return False


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
