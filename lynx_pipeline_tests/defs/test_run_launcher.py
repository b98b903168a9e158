"""How the run launcher of a team's server judges runs, with a real code server."""

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
    """A launcher with an instance."""
    with DagsterInstance.ephemeral() as instance:
        it = WatchedRunLauncher()
        it.register_instance(instance)
        yield it


def health(launcher: WatchedRunLauncher, socket: Path | None) -> WorkerStatus:
    """The health of a started run, which has the code server at ``socket`` if there is one."""
    info = json.dumps({"host": "localhost", "socket": str(socket)})
    run = create_run_for_test(
        launcher._instance,
        status=DagsterRunStatus.STARTED,
        tags={GRPC_INFO_TAG: info} if socket else {},
    )
    return launcher.check_run_worker_health(run).status


def test_a_run_without_a_code_server_counts_as_running(launcher: WatchedRunLauncher) -> None:
    """``dagster job execute`` starts such runs."""
    assert launcher.supports_check_run_worker_health
    assert health(launcher, None) is WorkerStatus.RUNNING


def test_an_unreachable_code_server_is_not_a_verdict(
    launcher: WatchedRunLauncher, tmp_path: Path
) -> None:
    """The server may be starting, so the check fails and is repeated later."""
    with pytest.raises(DagsterUserCodeUnreachableError):
        health(launcher, tmp_path / "nobody.sock")


@pytest.mark.slow
def test_a_run_unknown_to_its_code_server_has_lost_its_worker(
    launcher: WatchedRunLauncher,
) -> None:
    """The server was restarted since the run started."""
    with tempfile.TemporaryDirectory() as folder:  # a socket's path must be short
        socket = Path(folder) / "code.sock"
        command = ("api", "grpc", "-m", "lynx_pipeline.definitions", "--socket", str(socket))
        program = Path(sys.executable).with_name("dagster")
        server = subprocess.Popen([program, *command], stderr=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 60
            client = DagsterGrpcClient(host="localhost", socket=str(socket))
            while not socket.exists() or client.health_check_query() != "SERVING":  # type: ignore[no-untyped-call]
                assert server.poll() is None and time.monotonic() < deadline
                time.sleep(0.2)
            assert health(launcher, socket) is WorkerStatus.NOT_FOUND
        finally:
            server.kill()
            server.wait()
