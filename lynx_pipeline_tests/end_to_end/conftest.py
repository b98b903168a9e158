"""Complete commands, as users type them: each in its own process and its own place.

A :class:`Place` is a project's root together with a state folder. ``demo`` is the place where
``lynx-pipeline demo`` ran, once per session. Tests share it and must not change it; a test that
changes state works in a copy.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import chdir, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest.mock import patch

import pytest
from dagster import (
    AssetCheckEvaluation,
    AssetCheckKey,
    AssetKey,
    AssetMaterialization,
    AssetRecordsFilter,
    DagsterInstance,
    ExecuteInProcessResult,
)
from dagster._core.event_api import PartitionKeyFilter
from filelock import FileLock

from lynx_pipeline.config import Settings, load_settings
from lynx_pipeline.definitions import defs
from lynx_pipeline.defs.instance import open_instance
from lynx_pipeline_tests.conftest import OURS
from lynx_pipeline_tests.support import REPO
from lynx_pipeline_tests.support.commands import Done, run, start
from lynx_pipeline_tests.support.places import git
from lynx_pipeline_tests.support.warm import COLD, environment

if TYPE_CHECKING:
    from lynx_pipeline_tests.simulators.actions.stage import Stage

COLD_PROGRAMS = COLD / "bin"
# The files of a clone besides code. The eval set itself is not among them.
PROJECT_FILES = (
    "pyproject.toml",
    "dagster.yaml",
    "workspace.yaml",
    "eval_baseline.json",
    ".gitignore",
    ".dvcignore",
    ".dvc/.gitignore",
    ".dvc/config",
    "data/dvc-remote",
    "data/eval/.gitignore",
    "data/eval/phase-20.jsonl.dvc",
    "data/processed/.gitignore",
    "data/processed/train.jsonl.dvc",
)
MODULE = ("-m", "lynx_pipeline.definitions")


class Checked(NamedTuple):
    """The result of a check, and its run."""

    run_id: str
    found: AssetCheckEvaluation


@dataclass(frozen=True)
class Place:
    """A project's root, a state folder, and further environment variables."""

    root: Path
    home: Path
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def environ(self) -> dict[str, str]:
        """The complete environment of a command that runs here."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(OURS)}
        path = f"{environment() / 'bin'}{os.pathsep}{inherited.get('PATH', '')}"
        # The default state folder needs no variable.
        home = {} if self.home == self.root / ".lynx" else {"LYNX_HOME": str(self.home)}
        return {**inherited, "PATH": path, **home, **self.variables}

    @property
    def settings(self) -> Settings:
        """The settings of a command that runs here."""
        return load_settings(self.root, self.environ)

    @property
    def registry(self) -> Path:
        """The registry's folder."""
        folder = self.settings.registry
        assert isinstance(folder, Path)
        return folder

    def with_variables(self, **variables: str) -> "Place":
        """The same place with these environment variables."""
        return replace(self, variables={**self.variables, **variables})

    @property
    def cold(self) -> "Place":
        """The same place, where programs start as they do for users."""
        return self.with_variables(PATH=f"{COLD_PROGRAMS}{os.pathsep}{os.environ['PATH']}")

    def run(self, *command: str) -> Done:
        """Run a command here, and wait for it."""
        return run(command, self.root, self.environ)

    def start(self, *command: str, log: Path) -> "subprocess.Popen[bytes]":
        """Start a command here as users do: see :func:`start`."""
        return start(command, self.root, self.cold.environ, log)

    def lynx(self, *arguments: str) -> Done:
        """Run ``lynx-pipeline``."""
        return self.run("lynx-pipeline", *arguments)

    def dagster(self, *arguments: str) -> Done:
        """Run ``dagster`` on our definitions."""
        return self.run("dagster", *arguments, *MODULE)

    def execute(self, job: str, run_id: str, **more: Any) -> ExecuteInProcessResult:
        """Execute a job for a candidate in this process, with ``more`` arguments. This saves the
        seconds that a new process spends on imports."""
        with self.instance() as instance, chdir(self.root):
            return defs.resolve_job_def(job).execute_in_process(
                instance=instance, partition_key=run_id, raise_on_error=False, **more
            )

    @contextmanager
    def instance(self) -> Iterator[DagsterInstance]:
        """The Dagster instance of the commands that run here, to read their results."""
        environ = {**self.environ, "LYNX_HOME": str(self.home)}
        with patch.dict(os.environ, environ, clear=True), open_instance() as it:
            yield it

    def latest(self, asset_name: str, partition: str | None = None) -> AssetMaterialization:
        """The latest materialization of an asset, or of one partition of it."""
        wanted = AssetRecordsFilter(
            asset_key=AssetKey(asset_name), asset_partitions=[partition] if partition else None
        )
        with self.instance() as instance:
            record = instance.fetch_materializations(wanted, limit=1).records[0]
        assert record.asset_materialization
        return record.asset_materialization

    def checked(self, asset_name: str, check: str, partition: str | None = None) -> Checked:
        """The latest evaluation of an asset check, or of one partition of it, and its run."""
        key = AssetCheckKey(AssetKey(asset_name), check)
        with self.instance() as instance:
            record = instance.event_log_storage.get_latest_asset_check_execution_by_key(
                [key], partition_filter=PartitionKeyFilter(key=partition) if partition else None
            )[key]
        assert record.evaluation
        return Checked(record.run_id, record.evaluation)

    def evidence(self, run_id: str) -> Path:
        """A candidate's evidence folder."""
        return self.home / "candidates" / run_id / "evidence"


@dataclass(frozen=True)
class Demo:
    """The results of ``lynx-pipeline demo``: its output, and the good and the bad run's ids."""

    place: Place
    output: str
    good: str
    bad: str

    def copy(self, home: Path) -> Place:
        """A copy of the state that a test may change. MLflow's artifacts are not copied."""
        shutil.copytree(self.place.home, home)
        return replace(self.place, home=home)


def job(name: str, run_id: str) -> list[str]:
    """The ``dagster`` arguments that execute a job for a candidate."""
    return ["job", "execute", "-j", name, "--tags", f'{{"dagster/partition": "{run_id}"}}']


def asset(name: str, run_id: str) -> list[str]:
    """The ``dagster`` arguments that materialize one asset for a candidate."""
    return ["asset", "materialize", "--select", name, "--partition", run_id]


def files_in(folder: Path) -> dict[str, bytes]:
    """Every file under ``folder`` with its bytes, by relative path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def clone(root: Path) -> Path:
    """Make ``root`` a clone of this repository, without the code."""
    for name in PROJECT_FILES:
        target = root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (REPO / name).is_dir():
            shutil.copytree(REPO / name, target)
        else:
            shutil.copy(REPO / name, target)
    git(root, "init", "--quiet")
    return root


def data_version(materialization: AssetMaterialization) -> str:
    """The data version of a materialization."""
    return (materialization.tags or {})["dagster/data_version"]


def metadata(materialization: AssetMaterialization) -> dict[str, Any]:
    """The plain values of a materialization's metadata."""
    return {key: value.value for key, value in materialization.metadata.items()}


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """``lynx-pipeline demo``, run at the repository's root with a fresh state folder.

    The first of pytest's workers runs it once per session; the others wait.
    """
    ours = tmp_path_factory.getbasetemp()
    folder = (ours.parent if "PYTEST_XDIST_WORKER" in os.environ else ours) / "demo"
    folder.mkdir(exist_ok=True)
    place, output = Place(REPO, folder / "home"), folder / "stdout"
    with FileLock(folder / "lock", timeout=240):
        if not output.exists():
            done = place.lynx("demo")
            assert done.returncode == 0, done.stdout + done.stderr
            output.write_text(done.stdout)
    with place.instance() as instance:
        records = sorted(instance.get_run_records(), key=lambda record: record.create_timestamp)
    good, bad = (record.dagster_run.tags["dagster/partition"] for record in records)
    return Demo(place, output.read_text(), good, bad)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Stage"]:
    """A team's services, and what the deploy workflow reaches."""
    from lynx_pipeline_tests.simulators.actions.stage import staged
    from lynx_pipeline_tests.support.package_index import cache

    with staged(tmp_path_factory.mktemp("team") / "stage") as it:
        it.uv_cache = cache()
        yield it
