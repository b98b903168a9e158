"""What the run launcher of a team's server says of runs, against a real code server."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from dagster import DagsterInstance, DagsterRunStatus
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher import WorkerStatus
from dagster._core.storage.tags import GRPC_INFO_TAG
from dagster._core.test_utils import create_run_for_test
from dagster._grpc.client import DagsterGrpcClient

from lynx_pipeline.defs.run_launcher import WatchedRunLauncher


@pytest.fixture
def launcher() -> Iterator[WatchedRunLauncher]:
    """The launcher of an instance."""
    with DagsterInstance.ephemeral() as instance:
        it = WatchedRunLauncher()
        it.register_instance(instance)
        yield it


def started(launcher: WatchedRunLauncher, socket: Path | None) -> WorkerStatus:
    """What is said of a run that started, of a code server if one got it."""
    info = json.dumps({"host": "localhost", "socket": str(socket)})
    run = create_run_for_test(
        launcher._instance,
        status=DagsterRunStatus.STARTED,
        tags={GRPC_INFO_TAG: info} if socket else {},
    )
    return launcher.check_run_worker_health(run).status


def test_a_run_that_no_server_got_is_not_given_up(launcher: WatchedRunLauncher) -> None:
    """Such as that of ``dagster job execute``."""
    assert launcher.supports_check_run_worker_health
    assert started(launcher, None) is WorkerStatus.RUNNING


def test_a_server_that_is_away_settles_nothing(
    launcher: WatchedRunLauncher, tmp_path: Path
) -> None:
    """It may be starting; the run is asked about again."""
    with pytest.raises(DagsterUserCodeUnreachableError):
        started(launcher, tmp_path / "nobody.sock")


@pytest.mark.slow
def test_a_run_that_its_server_does_not_know_has_lost_its_worker(
    launcher: WatchedRunLauncher,
) -> None:
    """The server was started again since."""
    with tempfile.TemporaryDirectory() as folder:  # a socket's path is short
        socket = Path(folder) / "code.sock"
        command = ("api", "grpc", "-m", "lynx_pipeline.definitions", "--socket", str(socket))
        program = Path(sys.executable).with_name("dagster")
        server = subprocess.Popen([program, *command], stderr=subprocess.DEVNULL)
        try:
            end = time.monotonic() + 60
            client = DagsterGrpcClient(host="localhost", socket=str(socket))
            while not socket.exists() or client.health_check_query() != "SERVING":  # type: ignore[no-untyped-call]
                assert server.poll() is None and time.monotonic() < end
                time.sleep(0.2)
            assert started(launcher, socket) is WorkerStatus.NOT_FOUND
        finally:
            server.kill()
            server.wait()
