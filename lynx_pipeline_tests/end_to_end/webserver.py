"""``dagster dev`` for a test: on a free port, controlled through GraphQL, and always stopped."""

import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from lynx_pipeline_tests.end_to_end.conftest import Place
from lynx_pipeline_tests.support.dagster_project import DagsterProject

SECONDS = 90.0
_RUN = "query($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"
_BACKFILLED = """query($id: String!) {
  runsOrError(filter: {tags: [{key: "dagster/backfill", value: $id}]}) {
    ... on Runs { results { runId } }
  }
}"""
_LAUNCH = """mutation($parameters: ExecutionParams!) {
  it: launchRun(executionParams: $parameters) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
  }
}"""
_RETRY = """mutation($parameters: ReexecutionParams!) {
  it: launchRunReexecution(reexecutionParams: $parameters) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
  }
}"""
_FILL = """mutation($parameters: LaunchBackfillParams!) {
  it: launchPartitionBackfill(backfillParams: $parameters) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message }
  }
}"""


@dataclass(frozen=True)
class Webserver:
    """A running ``dagster dev``."""

    port: int

    def launch(self, job: str, partition: str, asset: str | None = None) -> str:
        """Launch a job, or one of its assets without checks; returns the new run's id."""
        selector: dict[str, Any] = {
            "repositoryLocationName": "lynx_pipeline.definitions",
            "repositoryName": "__repository__",
            "jobName": job,
        }
        if asset is not None:
            selector |= {"assetSelection": [{"path": [asset]}], "assetCheckSelection": []}
        tags = [{"key": "dagster/partition", "value": partition}]
        parameters = {"selector": selector, "executionMetadata": {"tags": tags}}
        return str(self._launched(_LAUNCH, parameters)["run"]["runId"])

    def retry(self, run: str) -> str:
        """Retry a failed run from the failed step; returns the new run's id."""
        parameters = {"parentRunId": run, "strategy": "FROM_FAILURE"}
        return str(self._launched(_RETRY, parameters)["run"]["runId"])

    def backfill(self, asset: str, partition: str) -> str:
        """Launch a backfill of one partition of an asset; returns its id."""
        parameters = {"assetSelection": [{"path": [asset]}], "partitionNames": [partition]}
        return str(self._launched(_FILL, parameters)["backfillId"])

    def backfilled(self, backfill: str) -> str:
        """Wait until the daemon launches a backfill's only run; returns its id."""
        (run,) = _until(lambda: self.ask(_BACKFILLED, id=backfill)["runsOrError"]["results"], bool)
        return str(run["runId"])

    def ended(self, run: str) -> str:
        """Wait until a run ends; returns its status, e.g. ``FAILURE``."""
        return _until(
            lambda: str(self.ask(_RUN, id=run)["runOrError"]["status"]),
            lambda status: status in ("SUCCESS", "FAILURE", "CANCELED"),
        )

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        """One GraphQL request."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        url = f"http://127.0.0.1:{self.port}/graphql"
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as response:
            answer: dict[str, Any] = json.load(response)
        assert "errors" not in answer, answer
        data: dict[str, Any] = answer["data"]
        return data

    def _launched(self, mutation: str, parameters: dict[str, Any]) -> dict[str, Any]:
        launched: dict[str, Any] = self.ask(mutation, parameters=parameters)["it"]
        assert launched["__typename"].endswith("Success"), launched
        return launched


T = TypeVar("T")


def _until(read: Callable[[], T], accepted: Callable[[T], bool]) -> T:
    """Call ``read`` until ``accepted`` returns true for its value; returns that value."""
    end = time.monotonic() + SECONDS
    while not accepted(found := read()):
        assert time.monotonic() < end, f"still {found!r} after {SECONDS:.0f} seconds"
        time.sleep(0.3)
    return found


@contextmanager
def running(
    place: Place | DagsterProject, log: Path, module: str = "lynx_pipeline.definitions"
) -> Iterator[Webserver]:
    """``dagster dev`` at ``place`` for as long as the block runs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    target = ("-m", module, "-h", "127.0.0.1", "-p", str(port))
    process = place.start("dagster", "dev", *target, log=log)
    try:
        _wait_until_up(process, port, log)
        yield Webserver(port)
    finally:
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        with suppress(ProcessLookupError):  # kills the rest of its process group
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait_until_up(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    def up() -> bool:
        assert process.poll() is None, log.read_text()
        with suppress(OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/server_info", timeout=5).close()
            return True
        return False

    _until(up, bool)
