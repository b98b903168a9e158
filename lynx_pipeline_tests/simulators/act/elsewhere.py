"""The team's repository is another one, which ``lynx-pipeline init`` made. Its workflow installs
the wheel that it contains, or uses this project's action.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lynx_pipeline.config import load_settings
from lynx_pipeline.evaluation.inputs import read_eval_set
from lynx_pipeline.setup.workflows import FOLDER
from lynx_pipeline_tests.simulators.act.runner import ActRun, run
from lynx_pipeline_tests.simulators.act.scenarios import promoted, refused
from lynx_pipeline_tests.simulators.actions.scenario import V, bot_comment, unchanged
from lynx_pipeline_tests.simulators.actions.stage import (
    OWNER,
    WORKFLOW,
    Stage,
    copy_of_ours,
    request_text,
)
from lynx_pipeline_tests.support import git_server
from lynx_pipeline_tests.support.places import BRANCH, git

LOCK = f"{FOLDER}/requirements-promote.lock"
ACTION = f"octo-org/lynx_pipeline@{'0123456789' * 4}"
_OTHER = f"octo-org/lynx_pipeline@{'f' * 40}"


def move(stage: Stage, wheel: Path | None) -> None:
    """Put another project in place of the team's: the same model and eval set, in a repository that
    has nothing else. It is set up as in docs/your-repository.md. Without ``wheel``, its workflow
    uses the action."""
    ours, root = stage.folder / "team", stage.folder / "elsewhere"
    settings = load_settings(ours)
    read_eval_set(settings)  # pulls it
    root.mkdir()
    git(root, "init", "--quiet", "--initial-branch=main")
    shutil.copy(settings.eval_set, root / "eval.jsonl")
    command = [sys.executable, "-m", "lynx_pipeline", "init", "--yes"]
    if wheel is None:
        command += ["--action", ACTION]
        stage.actions[ACTION] = stage.folder / "action"
        copy_of_ours(stage.actions[ACTION])
    else:
        command += ["--wheel", str(wheel)]
    command += ["--name", settings.model, "--owner", OWNER, "--candidate", stage.good]
    environ = {**os.environ, "MLFLOW_TRACKING_URI": stage.mlflow}
    subprocess.run(command, cwd=root, env=environ, check=True, capture_output=True)
    file = root / "pyproject.toml"
    head, rest = file.read_text().split("\n# [tool.lynx_pipeline.identity]\n")
    table = "[tool.lynx_pipeline]\n"
    place = f'registry = "git+{stage.git.url}/registry.git#{BRANCH}"\n'
    policy = stage.issuer.table(workflow=WORKFLOW, events=("issue_comment", "pull_request_target"))
    file.write_text(f"{head.replace(table, table + place)}\n{policy}{rest}")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "Add a deploy gate")
    git(root, "push", "--quiet", "--force", _origin(stage), "main")
    stage.sha = git(root, "rev-parse", "HEAD")
    ours.rename(stage.folder / "ours")
    root.rename(ours)


def bumped(stage: Stage) -> tuple[ActRun, str]:
    """Between evaluation and promotion, a lock file of a job changes on the branch, or the action's
    commit: refused."""
    stage.clear()
    comment = stage.comment(request_text(stage.good, V))
    with unchanged(stage), _bump_after_evaluation(stage):
        done = run(stage, comment)
    changed = WORKFLOW if stage.actions else LOCK
    assert done.code == 1
    assert done.failed()[0] == "promote/Promote", done.log
    assert done.jobs == {
        **dict.fromkeys(("request", "evaluate", "report"), "success"),
        "promote": "failure",
    }
    assert f"which changes {changed}: the verdict would use outdated gate inputs" in done.log
    text = bot_comment(stage)
    assert "stopped in job `promote`" in text
    return done, text


@contextmanager
def _bump_after_evaluation(stage: Stage) -> Iterator[None]:
    """Push another release as soon as somebody fetches after the evidence was kept."""
    artifacts = stage.folder / f"act-{stage.runs + 1}" / "artifacts"
    elsewhere = stage.folder / "colleague"
    git(stage.folder, "clone", "--quiet", _origin(stage), str(elsewhere))
    if stage.actions:
        workflow = elsewhere / WORKFLOW
        workflow.write_text(workflow.read_text().replace(ACTION, _OTHER))
    else:
        lock = elsewhere / LOCK
        lock.write_text(lock.read_text() + "# another release\n")
    git(elsewhere, "commit", "--quiet", "--all", "--message", "Upgrade")

    def bump() -> None:
        if any(artifacts.glob("**/evidence*")):
            git(elsewhere, "push", "--quiet", "origin", "main")

    stage.git_hooks[git_server.FETCH] = bump
    try:
        yield
    finally:
        del stage.git_hooks[git_server.FETCH]


def _origin(stage: Stage) -> str:
    return f"file://{stage.folder / 'served' / 'origin.git'}"


WITH_WHEEL = (promoted, bumped)
# This project's own workflow promotes with the action, too.
WITH_ACTION = (refused, bumped)
