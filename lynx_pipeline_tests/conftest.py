"""For all tests: nothing of the caller's environment decides what they find."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import pytest

from lynx_pipeline.adapters import notify
from lynx_pipeline.adapters.mlflow_tracking import connected
from lynx_pipeline_tests.support import fake_issuer
from lynx_pipeline_tests.support.fake_issuer import FakeIssuer
from lynx_pipeline_tests.support.receiver import Receiver, receiving

# What the variables begin with that the package, and what it calls, read.
OURS = ("LYNX_", "DAGSTER_", "MLFLOW_", "DVC_", "GITHUB_", "ACTIONS_", "APPRISE_")

# How long a rule takes says nothing where other tests run beside it.
hypothesis.settings.register_profile("lynx", deadline=None)
hypothesis.settings.load_profile("lynx")


@dataclass(frozen=True)
class Tracking:
    """An MLflow tracking store and an experiment in it."""

    uri: str
    experiment: str

    def run(self, folders: Mapping[str, Path] | None = None) -> str:
        """A new run with ``folders`` among its artifacts, the way MLflow 2 logs models; its id."""
        with connected(self.uri) as client:
            run_id: str = client.create_run(self.experiment).info.run_id
            for path, folder in (folders or {}).items():
                client.log_artifacts(run_id, str(folder), path)
        return run_id

    def artifacts(self, run_id: str) -> Path:
        """Where the run's artifacts lie on the disk."""
        with connected(self.uri) as client:
            return Path(client.get_run(run_id).info.artifact_uri.removeprefix("file://"))


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clear the variables that the package reads; those of CI too, where the tests run as well."""
    for name in os.environ:
        if name.startswith(OURS):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def tracking(tmp_path_factory: pytest.TempPathFactory) -> Tracking:
    """An MLflow server's worth of SQLite, for tests that add runs of their own. Making one
    takes seconds."""
    folder = tmp_path_factory.mktemp("mlflow")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    with connected(uri) as client:
        experiment = client.create_experiment("tiny", str(folder / "artifacts"))
    return Tracking(uri, experiment)


@pytest.fixture
def issuer() -> Iterator[FakeIssuer]:
    """The issuer that the policy trusts."""
    with fake_issuer.running() as it:
        yield it


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """The one configured channel."""
    with receiving() as it:
        monkeypatch.setenv(notify.CHANNELS, it.url)
        yield it
