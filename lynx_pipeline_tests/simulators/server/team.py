"""A team's server on this machine: PostgreSQL, and the commands of ``deploy/systemd``'s units as
processes, in the environment of ``deploy/lynx.env`` with different paths and free ports.
"""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from string import Template
from typing import Any, TypeVar

from lynx_pipeline.adapters.mlflow_tracking import connected, tag_run
from lynx_pipeline.evaluation.candidate import SEMVER_TAG
from lynx_pipeline_tests.conftest import OURS, Tracking
from lynx_pipeline_tests.simulators.server import postgres_server
from lynx_pipeline_tests.simulators.server.postgres_server import Postgres
from lynx_pipeline_tests.support import REPO
from lynx_pipeline_tests.support.builders import GOOD, bundle, project

DEPLOY = REPO / "deploy"
PROGRAMS = Path(sys.executable).parent
UNITS = ("code", "daemon", "webserver", "viewer", "mlflow")
SECONDS = 180.0
JOB = "eval_and_promote"
# Slow enough to be killed during the evaluation: twelve questions, one by one.
SLOW = f"import time; time.sleep(0.7); {GOOD}"

_REPOSITORY = {
    "repositoryLocationName": "lynx_pipeline.definitions",
    "repositoryName": "__repository__",
}
_LAUNCH = """mutation($parameters: ExecutionParams!) {
  it: launchRun(executionParams: $parameters) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on UnauthorizedError { message }
    ... on PythonError { message }
  }
}"""
_PARTITION = """mutation($selector: RepositorySelector!, $key: String!) {
  it: addDynamicPartition(
    repositorySelector: $selector, partitionsDefName: "candidates", partitionKey: $key
  ) { __typename }
}"""
_RUNS = """query($key: String!) {
  runsOrError(filter: {tags: [{key: "dagster/partition", value: $key}]}) {
    ... on Runs { results { runId jobName status startTime endTime parentRunId } }
  }
}"""
_STEPS = """query($id: ID!) {
  runOrError(runId: $id) { ... on Run { stepStats { stepKey startTime endTime } } }
}"""
_FAILURES = """query($id: ID!) {
  logsForRun(runId: $id, limit: 1000) {
    ... on EventConnection { events { ... on RunFailureEvent { message } } }
  }
}"""

T = TypeVar("T")


def until(read: Callable[[], T], accepted: Callable[[T], bool], what: str) -> T:
    """Call ``read`` until ``accepted`` returns true for its value; returns that value."""
    end = time.monotonic() + SECONDS
    while not accepted(found := read()):
        assert time.monotonic() < end, f"{what}: still {found!r} after {SECONDS:.0f} seconds"
        time.sleep(0.2)
    return found


def command_of(
    unit: str, deploy: Path, environ: Mapping[str, str]
) -> tuple[list[str], dict[str, str]]:
    """The command that systemd would run for one of our units, with ``deploy`` instead of
    ``/srv/lynx/deploy``, and its environment."""
    text = (DEPLOY / f"systemd/lynx-{unit}.service").read_text()
    (line,) = re.findall(r"(?m)^ExecStart=(.*)$", text)
    own = dict(it.split("=", 1) for it in re.findall(r"(?m)^Environment=(\S+)$", text))
    local = line.replace("/srv/lynx/.venv/bin", str(PROGRAMS))
    local = local.replace("/srv/lynx/deploy", str(deploy))
    return [Template(it).substitute(environ) for it in shlex.split(local)], {**environ, **own}


def settings_of(file: Path) -> dict[str, str]:
    """The variables of an environment file."""
    lines = (line.strip() for line in file.read_text().splitlines())
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


@dataclass
class Team:
    """A server whose database is ``postgres`` and whose state is in ``home``."""

    folder: Path
    root: Path
    home: Path
    postgres: Postgres
    ports: Mapping[str, int]
    # The folder of the code server's socket: its unit's RuntimeDirectory.
    runtime: Path
    processes: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)
    restarts: Counter[str] = field(default_factory=Counter)

    @property
    def environ(self) -> dict[str, str]:
        """The environment of the units and the scripts."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith((*OURS, "PG"))}
        path = [str(PROGRAMS), str(postgres_server.programs()), inherited["PATH"]]
        return {
            **inherited,
            **settings_of(DEPLOY / "lynx.env"),
            **self.postgres.environ,
            "PATH": os.pathsep.join(path),
            "DAGSTER_HOME": str(self.deploy),
            "LYNX_HOME": str(self.home),
            "LYNX_DAGSTER_FILES": str(self.home / "dagster"),
            "LYNX_CODE_SOCKET": str(self.socket),
            "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{self.ports['mlflow']}",
            **{f"LYNX_{k}_PORT".upper(): str(v) for k, v in self.ports.items()},
        }

    # ----- processes ---------------------------------------------------------------------------

    def start(self, *units: str) -> None:
        """Start units, as systemd does, and wait until they serve."""
        for unit in units or UNITS:
            if unit == "code":  # its RuntimeDirectory, which systemd empties
                shutil.rmtree(self.runtime, ignore_errors=True)
                self.runtime.mkdir(mode=0o700)
            self._start(unit)
        for unit in units or UNITS:
            until(partial(self.up, unit), bool, f"{unit} starts")

    def _start(self, unit: str) -> None:
        command, environ = command_of(unit, self.deploy, self.environ)
        with (self.folder / f"{unit}.log").open("ab") as log:
            self.processes[unit] = subprocess.Popen(
                command,
                cwd=self.root,
                env=environ,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def up(self, unit: str) -> bool:
        """Whether the unit passes its documented health check. A unit that ended is started again,
        as systemd does: Dagster's processes can collide when they create an empty database's
        tables at the same time."""
        if self.processes[unit].poll() is not None:
            log = self.folder / f"{unit}.log"
            self.restarts[unit] += 1
            assert self.restarts[unit] < 3, f"{unit} ended: {log.read_text()[-3000:]}"
            self._start(unit)
            return False
        if unit == "daemon":
            return True
        if unit == "code":
            check = [PROGRAMS / "dagster", "api", "grpc-health-check", "--socket", self.socket]
            return self.socket.exists() and self.run(*map(str, check)).returncode == 0
        address = {"webserver": ("editors", "server_info"), "viewer": ("viewers", "server_info")}
        port, path = address.get(unit, ("mlflow", "health"))
        with suppress(OSError):
            url = f"http://127.0.0.1:{self.ports[port]}/{path}"
            urllib.request.urlopen(url, timeout=5).close()
            return True
        return False

    def kill(self, *units: str) -> None:
        """SIGKILL units with all their processes."""
        for unit in units or tuple(self.processes):
            process = self.processes.pop(unit)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def kill_worker(self, run_id: str) -> None:
        """SIGKILL the process that evaluates a candidate: the one that locks its folder."""
        server = self.processes["code"].pid
        children = Path(f"/proc/{server}/task").glob("*/children")
        workers = [pid for file in children for pid in file.read_text().split()]
        lock = str(self.home / "candidates" / run_id / ".lock")
        (worker,) = [pid for pid in workers if lock in _open_files(pid)]
        os.kill(int(worker), signal.SIGKILL)

    @property
    def socket(self) -> Path:
        """The code server's socket."""
        return self.runtime / "code.sock"

    def run(self, *command: str, **environ: str) -> "subprocess.CompletedProcess[str]":
        """Run a command in the services' environment, and wait for it."""
        return subprocess.run(
            command,
            cwd=self.root,
            env={**self.environ, **environ},
            capture_output=True,
            text=True,
            timeout=120,
        )

    def done(self, *command: str) -> str:
        """The output of a command that must succeed."""
        done = self.run(*command)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout.strip()

    @property
    def deploy(self) -> Path:
        """The server's copy of ``deploy``."""
        return self.folder / "deploy"

    # ----- what a team does --------------------------------------------------------------------

    @cached_property
    def tracking(self) -> Tracking:
        """The team's MLflow server, and the experiment that candidates are logged to."""
        uri = self.environ["MLFLOW_TRACKING_URI"]
        with connected(uri) as client:
            found = client.get_experiment_by_name("tiny")
            return Tracking(uri, found.experiment_id if found else client.create_experiment("tiny"))

    def log(self, name: str, semver: str, body: str = GOOD) -> str:
        """Log a model in MLflow and tag its run as a candidate; returns the run's id."""
        made = bundle(self.folder / "bundles" / name, body=f"name = {name!r}; {body}")
        run_id = self.tracking.run({"model": made})
        tag_run(self.tracking.uri, run_id, SEMVER_TAG, semver)
        tag_run(self.tracking.uri, run_id, "deploy-candidate", "true")
        with connected(self.tracking.uri) as client:
            client.set_terminated(run_id)
        return run_id

    def launch(self, run_id: str, job: str = JOB, by: str = "editors") -> dict[str, Any]:
        """Launch a job for a candidate in a group's UI; returns the UI's response."""
        self.ask(_PARTITION, by=by, selector=_REPOSITORY, key=run_id)
        selector = {**_REPOSITORY, "jobName": job}
        tags = [{"key": "dagster/partition", "value": run_id}]
        parameters = {"selector": selector, "executionMetadata": {"tags": tags}}
        answer: dict[str, Any] = self.ask(_LAUNCH, by=by, parameters=parameters)["it"]
        return answer

    def launched(self, run_id: str, job: str = JOB) -> str:
        """Launch a job for a candidate in the editors' UI; returns the new run's id."""
        answer = self.launch(run_id, job)
        assert answer["__typename"] == "LaunchRunSuccess", answer
        return str(answer["run"]["runId"])

    def sensor(self, what: str) -> None:
        """Start or stop the sensor that requests runs for tagged candidates."""
        workspace = str(self.deploy / "workspace.yaml")
        self.done("dagster", "sensor", what, "tagged_candidates", "--workspace", workspace)

    def runs(self, run_id: str) -> list[dict[str, Any]]:
        """A candidate's runs, newest first."""
        found: list[dict[str, Any]] = self.ask(_RUNS, key=run_id)["runsOrError"]["results"]
        return found

    def ended(self, run_id: str) -> list[dict[str, Any]]:
        """A candidate's runs, once the newest has succeeded."""
        return until(
            lambda: self.runs(run_id),
            lambda runs: bool(runs) and runs[0]["status"] == "SUCCESS",
            f"candidate {run_id}",
        )

    def why_failed(self, run: str) -> str:
        """Dagster's message for a failed run."""
        events = self.ask(_FAILURES, id=run)["logsForRun"]["events"]
        return " ".join(it["message"] for it in events if "message" in it)

    def step(self, run: str, key: str) -> tuple[float, float]:
        """When a step of a run started and ended."""
        steps = self.ask(_STEPS, id=run)["runOrError"]["stepStats"]
        (found,) = [it for it in steps if it["stepKey"] == key]
        return found["startTime"], found["endTime"]

    def answering(self, run_id: str) -> None:
        """Wait until the candidate has answered some questions."""
        journal = self.home / "candidates" / run_id / "evidence" / "candidate_eval.json.journal"
        until(lambda: journal.exists() and journal.stat().st_size, lambda n: n > 600, "answers")

    def ask(self, query: str, by: str = "editors", **variables: Any) -> dict[str, Any]:
        """One GraphQL request."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        url = f"http://127.0.0.1:{self.ports[by]}/graphql"
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                answer: dict[str, Any] = json.load(response)
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read().decode()) from None
        assert "errors" not in answer, answer
        data: dict[str, Any] = answer["data"]
        return data

    def promoted(self) -> list[str]:
        """The versions in the registry, in order. Asserts that all are unique and it verifies."""
        self.done("lynx-pipeline", "registry", "verify")
        entries = json.loads(self.done("lynx-pipeline", "registry", "list", "--json"))
        versions = [it["semver"] for it in entries if it["event"] == "promoted"]
        assert len(set(versions)) == len(versions), versions
        return versions

    def alias(self) -> str:
        """The version that MLflow's alias points to."""
        with connected(self.tracking.uri) as client:
            version = client.get_model_version_by_alias("tiny", "dev")
            return str(version.tags[SEMVER_TAG])

    def alive(self, tolerance: int) -> bool:
        """Whether the daemon's last heartbeat is at most ``tolerance`` seconds old."""
        check = (str(PROGRAMS / "dagster-daemon"), "liveness-check")
        return self.run(*check, DAGSTER_DAEMON_HEARTBEAT_TOLERANCE=str(tolerance)).returncode == 0


def _open_files(pid: str) -> list[str]:
    return [str(it.readlink()) for it in Path(f"/proc/{pid}/fd").iterdir() if it.is_symlink()]


@contextmanager
def server(folder: Path, postgres: Postgres, runtime: Path) -> Iterator[Team]:
    """A new team's server whose units are not started yet; kills all of them at the end."""
    folder.mkdir(parents=True)
    settings = "[tool.lynx_pipeline.evaluation]\nworkers = 1\nbatch_size = 1\n"
    root = project(folder / "project", pyproject=settings).root
    it = Team(folder, root, folder / "home", postgres, free_ports(), runtime)
    it.home.mkdir()
    shutil.copytree(DEPLOY, it.deploy)
    try:
        yield it
    finally:
        it.kill()


def free_ports() -> dict[str, int]:
    """A free port for each server."""
    with socket.socket() as a, socket.socket() as b, socket.socket() as c:
        for it in (a, b, c):
            it.bind(("127.0.0.1", 0))
        numbers = [int(it.getsockname()[1]) for it in (a, b, c)]
    return dict(zip(("editors", "viewers", "mlflow"), numbers, strict=True))


@contextmanager
def team_server(folder: Path) -> Iterator[Team]:
    """A team's server with its database, for as long as the block runs."""
    runtime = Path(tempfile.mkdtemp(prefix="lynx-code-"))  # a socket's path must be short
    try:
        with postgres_server.running() as postgres, server(folder, postgres, runtime) as it:
            yield it
    finally:
        shutil.rmtree(runtime, ignore_errors=True)
