"""How a run says how it ended: its tags and its log."""

import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from dagster import (
    DagsterEventType,
    DagsterInstance,
    DagsterRunStatus,
    RunsFilter,
    build_run_status_sensor_context,
)
from dagster._cli import create_dagster_cli
from dagster._core.events import DagsterEvent
from dagster._core.test_utils import create_run_for_test

from lynx_pipeline.adapters.mlflow_tracking import connected
from lynx_pipeline.definitions import defs
from lynx_pipeline.defs import assets
from lynx_pipeline.defs.gate import PROJECT
from lynx_pipeline.defs.instance import open_instance
from lynx_pipeline.defs.launch import launch
from lynx_pipeline.defs.requests import add_candidate
from lynx_pipeline.errors import BadInput, LynxError, Refused, SystemFailed
from lynx_pipeline_tests.conftest import Tracking
from lynx_pipeline_tests.support import REPO
from lynx_pipeline_tests.support.builders import GOOD, bundle
from lynx_pipeline_tests.support.builders import project as new_project

pytestmark = pytest.mark.slow

V = "v0.1.0-dev"
WRONG = "return ['wrong' for _ in prompts]"
CRASHES = "raise ValueError('no')"
NAME, AUTHOR = "shy-fox-12", "anna"


class Project:
    """A project as the working directory, with MLflow and a Dagster instance."""

    def __init__(self, root: Path, tracking: Tracking) -> None:
        self.root, self.tracking = root, tracking

    def candidate(self, body: str, version: str = "") -> str:
        """Log a candidate, which may request a version; returns its run id."""
        run_id = self.tracking.run({"model": bundle(self.root / f"model{len(body)}", body=body)})
        with connected(self.tracking.uri) as client:
            client.set_tag(run_id, "mlflow.runName", NAME)
            client.set_tag(run_id, "mlflow.user", AUTHOR)
            client.set_tag(run_id, "lynx.semver", version)
        return run_id

    def tags(self, candidate: str) -> dict[str, str]:
        """Our tags of the candidate's last run, without their prefix."""
        with open_instance() as instance:
            run = instance.get_runs(RunsFilter(tags={"dagster/partition": candidate}), limit=1)[0]
        return {k.removeprefix("lynx."): v for k, v in run.tags.items() if k.startswith("lynx.")}

    def log(self, candidate: str) -> list[tuple[int, str]]:
        """Level and message of everything in the log of the candidate's last run."""
        with open_instance() as instance:
            run = instance.get_runs(RunsFilter(tags={"dagster/partition": candidate}), limit=1)[0]
            return [(it.level, it.user_message) for it in instance.all_logs(run.run_id)]  # type: ignore[misc]


@pytest.fixture
def project(
    tmp_path: Path, tracking: Tracking, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Project]:
    """A project as the working directory."""
    settings = new_project(tmp_path / "project", environ={"MLFLOW_TRACKING_URI": tracking.uri})
    (settings.root / "dagster.yaml").write_bytes((REPO / "dagster.yaml").read_bytes())
    monkeypatch.chdir(settings.root)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking.uri)
    yield Project(settings.root, tracking)


def execute(job: str, candidate: str) -> tuple[int, str]:
    """``dagster job execute``: its exit code and what it prints."""
    cli: click.Command = create_dagster_cli()  # type: ignore[no-untyped-call]
    tags = ("--tags", f'{{"dagster/partition": "{candidate}"}}')
    arguments = ["job", "execute", "-m", "lynx_pipeline.definitions", "-j", job, *tags]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*superseded")
        done = CliRunner().invoke(cli, arguments)
    assert isinstance(done.exception, SystemExit | None), done.exception
    return done.exit_code, done.output


@pytest.mark.parametrize(
    ("body", "version", "outcome", "error"),
    [
        pytest.param(GOOD, V, "promoted", None, id="promoted"),
        pytest.param(GOOD, None, "evaluated", None, id="evaluated"),
        pytest.param(WRONG, V, "refused", Refused, id="refused"),
        pytest.param(CRASHES, V, "mistyped", BadInput, id="crashing candidate"),
    ],
)
def test_a_run_is_tagged_with_its_outcome(
    project: Project, body: str, version: str | None, outcome: str, error: type[LynxError] | None
) -> None:
    """And with the version, and the name and author of the MLflow run."""
    run_id = project.candidate(body)
    finished = launch(PROJECT, run_id, version)
    assert type(finished.failure) is (error or type(None))
    semver = {"semver": version} if version else {}
    known = {"run_name": NAME, "author": AUTHOR}
    assert project.tags(run_id) == {"outcome": outcome, **semver, **known}
    if outcome == "promoted":
        assert not launch(PROJECT, run_id, version).is_new
        assert project.tags(run_id)["outcome"] == "promoted"


@pytest.mark.parametrize("error", [RuntimeError("bug"), KeyboardInterrupt()])
def test_every_other_end_is_broken(
    project: Project, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """A bug and an interrupt, like a failed system."""

    def fails(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(assets, "evaluate_candidate", fails)
    run_id = project.candidate(GOOD)
    assert type(launch(PROJECT, run_id, V).failure) is SystemFailed
    assert project.tags(run_id)["outcome"] == "broken"


def test_tags_that_cannot_be_written_change_nothing_else(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The refusal stays a refusal, and the log says that the tags are missing."""

    def fails(*_: Any) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(DagsterInstance, "add_run_tags", fails)
    run_id = project.candidate(WRONG)
    failure = launch(PROJECT, run_id, V).failure
    assert type(failure) is Refused
    assert str(failure).startswith("the gate refused: 3 of 3 buckets fell ")
    assert "outcome" not in project.tags(run_id)
    assert any("tags could not be written" in text for _, text in project.log(run_id))


def test_dagsters_command_reports_a_refusal_in_words(project: Project) -> None:
    """One line each for the evaluation, the verdict and the refusal, and no stack trace. The
    refusal ends the log."""
    run_id = project.candidate(WRONG, V)
    add_candidate(PROJECT, run_id)
    code, output = execute("eval_and_promote", run_id)
    assert code == 1
    assert "Traceback" not in output
    assert "Stack Trace" not in output
    assert " DEBUG " not in output
    log = [text for level, text in project.log(run_id) if level >= logging.INFO]
    by_start = {text.partition(" ")[0]: text for text in log}
    assert by_start["Evaluated:"].endswith("0 of 12 answers are right.")
    assert "Worst bucket: all.x: fell 100.00 points" in by_start["REFUSED:"]
    assert log[-2] == (
        f"Refused: candidate {run_id} ({NAME} by {AUTHOR}) as {V}. Worst bucket: all.x, "
        "98.00 points below its floor. Nothing was changed."
    )
    assert log[-1].startswith("Execution of run for ")
    assert "Failure: the gate refused: 3 of 3 buckets fell" in output.split("RUN_FAILURE")[1]
    assert project.tags(run_id)["outcome"] == "refused"


def test_dagsters_command_reports_a_promotion_in_words(project: Project) -> None:
    """Without the dozens of lines that Dagster prints by default."""
    run_id = project.candidate(GOOD, V)
    add_candidate(PROJECT, run_id)
    code, output = execute("eval_and_promote", run_id)
    assert code == 0
    lines = [line for line in output.splitlines() if " - INFO - " in line]
    says = [line.split(" - ")[-1] for line in lines]
    assert says[-1].startswith(f"Promoted: tiny {V}, ledger entry 1. Worst bucket: ")
    assert len(output.splitlines()) < 15


def test_the_events_of_a_refusal_have_no_stack_trace(project: Project) -> None:
    """The UI shows these events."""
    run_id = project.candidate(WRONG)
    with open_instance() as instance:
        instance.add_dynamic_partitions("candidates", [run_id])
        done = defs.resolve_job_def("evaluate").execute_in_process(
            instance=instance, partition_key=run_id, raise_on_error=False
        )
        for kind in (DagsterEventType.STEP_FAILURE, DagsterEventType.RUN_FAILURE):
            (found,) = instance.all_logs(done.run_id, of_type=kind)
            event: DagsterEvent = found.get_dagster_event()
            data: Any = event.event_specific_data
            assert data.error.message.startswith("dagster._core.definitions.events.Failure: the ga")
            assert (data.error.stack, data.error.cause, data.error.context) == ([], None, None)


def test_a_bug_keeps_its_stack_trace(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the only way to find it."""
    monkeypatch.setattr(assets, "evaluate_candidate", None)
    run_id = project.candidate(GOOD)
    add_candidate(PROJECT, run_id)
    code, output = execute("evaluate", run_id)
    assert code == 1
    assert "TypeError: 'NoneType' object is not callable" in output
    assert "assets.py" in output


@pytest.mark.parametrize(
    ("tags", "after"),
    [
        ({"dagster/partition": "a"}, "broken"),
        ({"dagster/partition": "a", "lynx.outcome": "refused"}, "refused"),
        ({}, None),
    ],
    ids=["lost", "refused", "no candidate's"],
)
def test_a_run_whose_process_was_killed_is_tagged_by_the_sensor(
    tags: dict[str, str], after: str | None
) -> None:
    """A run that could still tag itself keeps its outcome."""
    with DagsterInstance.ephemeral() as instance:
        run = create_run_for_test(
            instance, job_name="evaluate", tags=tags, status=DagsterRunStatus.FAILURE
        )
        event = DagsterEvent(
            event_type_value=DagsterEventType.RUN_FAILURE.value, job_name="evaluate"
        )
        context = build_run_status_sensor_context(
            sensor_name="tag_lost_runs",
            dagster_event=event,
            dagster_instance=instance,
            dagster_run=run,
        )
        sensor: Any = defs.resolve_sensor_def("tag_lost_runs")
        sensor(context.for_run_failure())
        found = instance.get_run_by_id(run.run_id)
        assert found is not None
        assert found.tags.get("lynx.outcome") == after
