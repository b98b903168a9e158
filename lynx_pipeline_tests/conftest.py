"""For all tests: grouping and order, and an environment without the caller's settings."""

import os
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from xdist.scheduler import LoadScopeScheduling

from lynx_pipeline.adapters import notify
from lynx_pipeline.adapters.mlflow_tracking import connected
from lynx_pipeline_tests.support import fake_issuer
from lynx_pipeline_tests.support.fake_issuer import FakeIssuer
from lynx_pipeline_tests.support.receiver import Receiver, receiving

# Prefixes of the variables that the package, and what it calls, read.
OURS = (
    *("LYNX_", "DAGSTER_", "MLFLOW_", "DVC_", "APPRISE_"),
    *("GITHUB_", "ACTIONS_", "GITLAB_", "CI_"),
)

# Tests that share a costly fixture run on one worker, so that it is created once. The values are
# about how many seconds each group takes. (xdist's own loadgroup does not group with pytest 9.2.)
GROUPS: Mapping[str, int] = {
    "lynx_pipeline_tests/end_to_end/test_act.py": 180,
    "lynx_pipeline_tests/end_to_end/test_rehearsal.py": 120,
    "lynx_pipeline_tests/sandbox/ray/": 160,
    "lynx_pipeline_tests/end_to_end/test_s3.py": 240,
    "lynx_pipeline_tests/browser/": 130,
    "lynx_pipeline_tests/examples/miniserve/": 120,
    "lynx_pipeline_tests/registry/": 120,
    "lynx_pipeline_tests/adapters/ledgers/tamper/": 70,
    "lynx_pipeline_tests/adapters/test_dvc_cloud_versions.py": 50,
    "lynx_pipeline_tests/adapters/test_dvc_imports.py": 30,
    "lynx_pipeline_tests/defs/test_sensors.py": 30,
    "lynx_pipeline_tests/examples/": 30,
    "lynx_pipeline_tests/evaluation/test_baseline.py": 20,
}

# No deadlines: how long an example takes depends on the tests that run beside it.
# `./dev test` loads "quick", everything else uses "full".
hypothesis.settings.register_profile("full", deadline=None, max_examples=100)
hypothesis.settings.register_profile("quick", deadline=None, max_examples=20)
hypothesis.settings.load_profile("full")


def pytest_configure() -> None:
    """Let programs that tests start be interrupted with Ctrl+C. What a shell starts in the
    background ignores it, and all that this starts."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Scheduler(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Gives a worker a whole group at a time, or a single test outside the groups."""

    def _split_scope(self, nodeid: str) -> str:
        return _group(nodeid) or nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduler:
    """Keep groups together. xdist must not sort them by number of tests: the longest are first."""
    config.option.loadscopereorder = False
    return Scheduler(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the longest tests, so that no worker runs one of them alone at the end."""
    items.sort(key=_seconds, reverse=True)


def _group(nodeid: str) -> str | None:
    return next((group for group in GROUPS if nodeid.startswith(group)), None)


def _seconds(item: pytest.Item) -> int:
    """About how long the test, or its group, takes."""
    if group := _group(item.nodeid):
        return GROUPS[group]
    slow = item.get_closest_marker("slow")
    return int(slow.kwargs.get("seconds", 10)) if slow else 0


@dataclass(frozen=True)
class Tracking:
    """An MLflow tracking store and an experiment in it."""

    uri: str
    experiment: str

    def run(self, folders: Mapping[str, Path] | None = None, status: str = "FINISHED") -> str:
        """Create a run with ``folders`` among its artifacts, as MLflow 2 logs models. Returns its
        id."""
        with connected(self.uri) as client:
            run_id: str = client.create_run(self.experiment).info.run_id
            for path, folder in (folders or {}).items():
                client.log_artifacts(run_id, str(folder), path)
            client.set_terminated(run_id, status)
        return run_id

    def artifacts(self, run_id: str) -> Path:
        """The folder of the run's artifacts on disk."""
        with connected(self.uri) as client:
            return Path(client.get_run(run_id).info.artifact_uri.removeprefix("file://"))


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clear the variables that the package reads, including those of CI, where tests also run."""
    for name in os.environ:
        if name.startswith(OURS):
            monkeypatch.delenv(name)
    # Otherwise each DVC command starts one more process, for its analytics.
    monkeypatch.setenv("DVC_NO_ANALYTICS", "true")


@pytest.fixture(scope="session")
def tracking(tmp_path_factory: pytest.TempPathFactory) -> Tracking:
    """An MLflow store in SQLite, which takes seconds to create. Tests add their own runs."""
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
    """The only configured channel."""
    with receiving() as it:
        monkeypatch.setenv(notify.CHANNELS, it.url)
        yield it
