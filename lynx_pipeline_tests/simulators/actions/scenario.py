"""What the scenarios of a rehearsal share: runs that they continue, and what a person sees."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from lynx_pipeline.deploy_workflow.comment import NAME
from lynx_pipeline_tests.simulators.actions.fake_github import BOT
from lynx_pipeline_tests.simulators.actions.job import Cancelled, Hooks
from lynx_pipeline_tests.simulators.actions.runner import RunResult
from lynx_pipeline_tests.simulators.actions.stage import ALIAS, Stage, request_text
from lynx_pipeline_tests.support.places import OnGit

V = "v0.1.0"
FAST = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
NOWHERE = "http://127.0.0.1:9"
FIRST_JOBS = ("request", "evaluate")


@dataclass(frozen=True)
class Seen:
    """What a person sees of a run: its result, the message, and the state of the registry."""

    what: str
    ended: str
    message: str
    registry: str


def result(run: RunResult) -> str:
    """The first failed job with its exit code; or ``exit code 0``, or ``no run``."""
    for name, job in run.jobs.items():
        for step in job.steps:
            if step.conclusion == "failure":
                last = job.steps[-1] if name == "evaluate" else step
                failed = next((s for s in job.steps if s.id and s.conclusion == "failure"), last)
                return f"{name}: exit code {failed.exit_code}"
    return "no run" if all(job.result == "skipped" for job in run.jobs.values()) else "exit code 0"


def message(run: RunResult) -> str:
    """The failed job's message on the run's page."""
    notes = [note for job in run.jobs.values() for note in job.annotations]
    ours = [note.message for note in notes if note.title == "lynx-pipeline"]
    others = [note.message for note in notes if note.level == "error"]
    return (ours or others or [""])[0]


def bot_comment(stage: Stage) -> str:
    """The bot's only comment; empty if there is none."""
    found = [comment.body for comment in stage.github.comments if comment.login == BOT]
    assert len(found) <= 1, "more than one comment"
    assert all(body.startswith(f"<!-- {NAME}, run ") for body in found)
    return found[0].partition("-->")[2].strip() if found else ""


def evaluated_run(stage: Stage) -> RunResult:
    """A run of the good candidate that was requested by an alias and evaluated, and not promoted.
    It is made once, and each scenario continues it differently. Its comment is the first one.
    What earlier scenarios left on the stage is removed each time."""
    if stage.started is None:
        stage.clear()
        run = stage.runner(stage.comment(request_text(ALIAS, V)), stop_before("promote")).run()
        assert run.jobs["evaluate"].result == "success", run.jobs["evaluate"].log
        stage.started = run.only(*FIRST_JOBS)
    stage.clear()
    return stage.started


def stop_before(job: str) -> Hooks:
    def cancel() -> None:
        raise Cancelled

    return Hooks(before={job: cancel})


@contextmanager
def unchanged(stage: Stage) -> Iterator[None]:
    """Assert that the block changes no byte of the registry's remote, and announces nothing."""
    before, announced = files(stage.registry), len(stage.channel.got)
    yield
    assert files(stage.registry) == before
    assert len(stage.channel.got) == announced


def files(place: OnGit) -> dict[str, bytes]:
    """Every file of the repository, except its hooks."""
    return {
        str(path.relative_to(place.bare)): path.read_bytes()
        for path in sorted(place.bare.rglob("*"))
        if path.is_file() and "hooks" not in path.parts
    }


def assert_promoted(stage: Stage, semver: str = V) -> None:
    """Assert that the registry has this one promotion, by the workflow, with its tag."""
    (line,) = stage.registry.index().splitlines()
    entry = json.loads(line)
    assert (entry["semver"], entry["env"], entry["event"]) == (semver, "prod", "promoted")
    assert entry["actor"]["workflow_ref"].endswith("/deploy-grammar-tutor.yml@refs/heads/main")
    assert entry["actor"]["environment"] == "production"
    assert stage.registry.tags() == [f"grammar-tutor@{semver}"]


def promote_with(stage: Stage, hooks: Hooks, mlflow: str = "") -> RunResult:
    """Run the second half of the good candidate's run."""
    given = evaluated_run(stage)
    runner = stage.runner(stage.comment(request_text(ALIAS, V)), hooks)
    return replace(runner, vars={"MLFLOW_TRACKING_URI": mlflow or stage.mlflow}).run(given)


def refused(
    stage: Stage, what: str, act: Callable[[], object], code: int, says: str, mlflow: str = ""
) -> Seen:
    """Call ``act`` between evaluation and promotion; assert that nothing is promoted."""
    evaluated_run(stage)
    with unchanged(stage):
        run = promote_with(
            stage, Hooks(before={"promote": act}, extra_env={"promote": FAST}), mlflow
        )
    assert run.jobs["promote"].result == "failure"
    assert result(run) == f"promote: exit code {code}", run.jobs["promote"].log
    assert says in message(run), message(run)
    assert "stopped in job `promote`" in bot_comment(stage)
    return Seen(what, result(run), message(run), "as before")


def latest_artifacts(stage: Stage) -> Path:
    """The artifacts of the current run."""
    return stage.folder / "runs" / str(stage.runs) / "attempt-1" / "artifacts"
