"""Scenarios of services that fail, of killed jobs and of runs that are repeated."""

import sys
from dataclasses import replace

from lynx_pipeline_tests.simulators.actions.job import Hooks
from lynx_pipeline_tests.simulators.actions.scenario import (
    NOWHERE,
    Seen,
    V,
    assert_promoted,
    bot_comment,
    evaluated_run,
    files,
    message,
    promote_with,
    refused,
    result,
    unchanged,
)
from lynx_pipeline_tests.simulators.actions.stage import ALIAS, Stage, request_text
from lynx_pipeline_tests.support import warm
from lynx_pipeline_tests.support.git_server import PUSH

# ----- unavailable services -------------------------------------------------------------------


def mlflow_down(stage: Stage) -> list[Seen]:
    """MLflow is down at the promotion."""
    return [refused(stage, "MLflow down at the promotion", lambda: None, 3, "MLflow at", NOWHERE)]


def dvc_down(stage: Stage) -> list[Seen]:
    """DVC's remote is down after the request: the later jobs don't need it."""
    away = stage.dvc_remote.with_name("away")

    def fall() -> None:
        stage.dvc_remote.rename(away)

    stage.clear()
    comment = stage.comment(request_text(ALIAS, V))
    try:
        run = stage.runner(comment, Hooks(before={"evaluate": fall})).run()
    finally:
        away.rename(stage.dvc_remote)
    assert result(run) == "exit code 0", message(run)
    assert_promoted(stage)
    assert run.jobs["evaluate"].token not in run.jobs["evaluate"].log
    assert run.jobs["report"].summary.strip() == bot_comment(stage)
    return [Seen("DVC's remote down after the request", result(run), message(run), f"+ {V}")]


def github_down(stage: Stage) -> list[Seen]:
    """GitHub's API is down before the promotion, so the request can't be checked again."""

    def fall() -> None:
        stage.github.down = True

    def rise() -> None:
        stage.github.down = False

    evaluated_run(stage)
    with unchanged(stage):
        run = promote_with(stage, Hooks(before={"promote": fall, "report": rise}))
    assert result(run) == "promote: exit code 3"
    assert "reading pull request 7 failed" in message(run), run.jobs["promote"].log
    return [Seen("GitHub's API down", result(run), message(run), "as before")]


# ----- re-runs --------------------------------------------------------------------------------

# Kills a step and its processes when a marker file appears, like the loss of a machine.
_KILLER = """
import os, pathlib, signal, subprocess, sys, time
marker, *command = sys.argv[1:]
child = subprocess.Popen(command)
while child.poll() is None and not pathlib.Path(marker).exists():
    time.sleep(0.005)
def tree(pid):
    for task in pathlib.Path(f"/proc/{pid}/task").glob("*"):
        for one in (task / "children").read_text().split():
            yield from tree(one)
    yield int(pid)
for pid in list(tree(child.pid)):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
sys.exit(137)
"""


def killed(stage: Stage) -> list[Seen]:
    """The machine is lost as the push starts, or right after it; the failed jobs are re-run."""
    marker = stage.folder / "marker"
    killer = stage.folder / "tools" / "killer.py"
    killer.write_text(_KILLER)
    wrap = {"promote/promote": [sys.executable, str(killer), str(marker)]}
    found = []
    for what, after in (("before the push", False), ("after the push", True)):
        given = evaluated_run(stage)
        marker.unlink(missing_ok=True)
        if after:
            stage.registry.hook("post-receive", f"touch {marker}; sleep 1")
        else:
            stage.git_hooks[PUSH] = marker.touch
        # The killer finds only the processes of a program that starts cold.
        cold = {"promote": {"READY_ENVIRONMENT": str(warm.COLD)}}
        runner = stage.runner(stage.comment(request_text(ALIAS, V)))
        usual_hooks = runner.hooks
        hooks = replace(usual_hooks, wrap={**usual_hooks.wrap, **wrap}, extra_env=cold)
        runner = replace(runner, hooks=hooks)
        try:
            run = runner.run(given)
        finally:
            stage.git_hooks.pop(PUSH, None)
        assert result(run) == "promote: exit code 137", run.jobs["promote"].log
        assert "running the failed jobs again is safe" in bot_comment(stage)
        if after:
            assert_promoted(stage)
        again = replace(runner, hooks=usual_hooks).rerun_failed(run)
        assert result(again) == "exit code 0", again.jobs["promote"].log
        assert_promoted(stage)
        assert bot_comment(stage).startswith(f"### Promoted `{V}`")
        assert len(stage.channel.got) == 1
        state = f"+ {V}" if after else "old or complete new ledger"
        found += [
            Seen(f"killed {what}", result(run), message(run), state),
            Seen(f"killed {what}, re-run", result(again), "", f"+ {V}, once"),
        ]
    return found


def twice(stage: Stage) -> list[Seen]:
    """A repeated request finds the promotion: nothing is written or announced again."""
    given = evaluated_run(stage)
    comment = stage.comment(request_text(ALIAS, V))
    first = stage.runner(comment).run(given)
    assert result(first) == "exit code 0", first.jobs["promote"].log
    assert_promoted(stage)
    with unchanged(stage):
        second = stage.runner(comment).run(given)
        stage.pull.labels.clear()
        by_others = replace(stage.runner(comment), again_by="hubot").run(given)
    for run in (second, by_others):
        assert result(run) == "exit code 0", run.jobs["promote"].log
    assert bot_comment(stage).startswith(f"### `{V}` was already promoted")
    return [
        Seen("the same request twice", result(second), "", "as before"),
        Seen("its job re-run by a different user", result(by_others), "", "as before"),
    ]


def late(stage: Stage) -> list[Seen]:
    """The report of an old run, run again, does not replace that of the promotion in force."""
    given = evaluated_run(stage)
    comment = stage.comment(request_text(ALIAS, V))
    first = stage.runner(comment)
    old = first.run(given)
    again = stage.comment(request_text(ALIAS, "v0.2.0"))
    ready = given.jobs["request"]
    outputs = {**ready.outputs, "comment": str(again.id), "semver": "v0.2.0"}
    request = replace(ready, outputs=outputs)
    new = stage.runner(again).run(replace(given, jobs={**given.jobs, "request": request}))
    assert result(new) == "exit code 0", new.jobs["promote"].log
    text = bot_comment(stage)
    assert text.startswith("### Promoted `v0.2.0`")
    with unchanged(stage):
        report = replace(first, run_attempt=2).run(old.only("request", "evaluate", "promote"))
    assert result(report) == "exit code 0"
    assert (
        f"{V} is not the latest version, v0.2.0 is. No notification sent."
        in report.jobs["report"].log
    )
    assert "A later run wrote the comment" in report.jobs["report"].log
    assert bot_comment(stage) == text
    return [Seen("the old run's report, re-run", result(report), message(report), "as before")]


def apart(stage: Stage) -> list[Seen]:
    """The registry is a separate repository to which only the environment's token can write."""
    stage.separate_tokens = {"registry-writes": "write", "registry-reads": "read"}
    reads = {"LYNX_REGISTRY_TOKEN": "registry-reads"}
    writes = {"LYNX_REGISTRY_TOKEN": "registry-writes"}
    found = []
    try:
        for what, its in (("without write access", reads), ("with a token that can write", writes)):
            given = evaluated_run(stage)
            runner = stage.runner(stage.comment(request_text(ALIAS, V)))
            secrets = runner.environment_secrets
            more = {"production": its, "report": reads}
            secrets = {name: {**secrets[name], **it} for name, it in more.items()}
            runner = replace(runner, environment_secrets=secrets)
            before = files(stage.registry)
            run = runner.run(given)
            found.append(
                Seen(f"a separate registry, {what}", result(run), message(run), "as before")
            )
            if its is reads:
                assert result(run) == "promote: exit code 3", run.jobs["promote"].log
                assert files(stage.registry) == before
    finally:
        stage.separate_tokens.clear()
    assert result(run) == "exit code 0", run.jobs["promote"].log
    assert_promoted(stage)
    assert len(stage.channel.got) == 1
    return [*found[:-1], replace(found[-1], registry=f"+ {V}, with its tag")]
