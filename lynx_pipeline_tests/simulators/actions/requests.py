"""Scenarios of requests, verdicts, and of what is promoted."""

import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256

import yaml

from lynx_pipeline_tests.simulators.actions.job import Hooks
from lynx_pipeline_tests.simulators.actions.scenario import (
    Seen,
    V,
    bot_comment,
    evaluated_run,
    latest_artifacts,
    message,
    refused,
    result,
    unchanged,
)
from lynx_pipeline_tests.simulators.actions.stage import ALIAS, Stage, request_text
from lynx_pipeline_tests.support import REPO

# ----- requests -------------------------------------------------------------------------------


def unrelated(stage: Stage) -> list[Seen]:
    """Other comments and labels start no job."""
    stage.clear()
    with unchanged(stage):
        comment = stage.runner(stage.comment("LGTM")).run()
        label = stage.labelled("documentation").run()
        stage.pull.labels.clear()
        unlabelled = stage.runner(stage.comment(request_text(stage.good, V))).run()
    assert result(comment) == result(label) == result(unlabelled) == "no run"
    return [
        Seen("an unrelated comment", result(comment), "", "as before"),
        Seen("a different label", result(label), "", "as before"),
        Seen("no label", result(unlabelled), "", "as before"),
    ]


def strangers(stage: Stage) -> list[Seen]:
    """Nobody else can make an owner's request run again, and the bot does not answer."""
    stage.clear()
    old = stage.runner(stage.comment(request_text(stage.good, V)))
    found = []
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
    return found


def again(stage: Stage) -> list[Seen]:
    """A run that is re-run evaluates nothing, from the start or from the evaluation on: every try
    is a run of its own. The report of the first attempt remains."""
    given = evaluated_run(stage)
    runner = stage.runner(stage.comment(request_text(ALIAS, V)))
    first = runner.run(given)
    assert result(first) == "exit code 0", first.jobs["promote"].log
    report, found = bot_comment(stage), []
    for attempt, kept in enumerate(((), ("request",)), 2):
        with unchanged(stage):
            run = replace(runner, run_attempt=attempt).run(first.only(*kept))
        job = "evaluate" if kept else "request"
        assert result(run) == f"{job}: exit code 1", run.jobs[job].log
        assert f"this is attempt {attempt} of a workflow run" in run.jobs[job].log
        assert bot_comment(stage) == report
        found.append(Seen(f"a run re-run from `{job}` on", result(run), message(run), "as before"))
    return found


def edited(stage: Stage) -> list[Seen]:
    """The comment is edited before the promotion."""

    def edit() -> None:
        comment = stage.github.comments[0]
        comment.edit(comment.body)

    what, says = "a comment edited during the run", "edited after it was written"
    return [refused(stage, what, edit, 1, says)]


def taken_back(stage: Stage) -> list[Seen]:
    """The label, the request or the author's access is revoked before the promotion."""
    lost = stage.github.collaborators
    try:
        return [
            refused(
                stage,
                "the label removed during the run",
                lambda: stage.pull.labels.clear(),
                1,
                "has no label 'deploy-candidate'",
            ),
            refused(
                stage,
                "a newer request during the run",
                lambda: stage.comment(request_text(stage.bad, "v0.2.0")),
                1,
                "a newer request has its own run",
            ),
            refused(
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
    """Candidate, evidence or data are replaced in transit, with and without GitHub's own digest."""
    away = stage.dvc_remote.with_name("away")

    def change(member: str, digest: bool, artifact: str = "evidence") -> Callable[[], None]:
        def act() -> None:
            archive = latest_artifacts(stage) / f"{artifact}.zip"
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

    def change_eval_set() -> None:
        stage.dvc_remote.rename(away)  # where it would be fetched again
        md5 = yaml.safe_load((REPO / "data/eval/phase-20.jsonl.dvc").read_text())["outs"][0]["md5"]
        change(f"files/md5/{md5[:2]}/{md5[2:]}", True, "data")()

    def data_replaced() -> Seen:
        try:
            return refused(
                stage,
                "the eval set replaced, with its digest",
                change_eval_set,
                3,
                "DVC could not pull it",
            )
        finally:
            away.rename(stage.dvc_remote)

    stage.clear()
    hooks = Hooks(before={"evaluate": change("bundle/MLmodel", True, "candidate")})
    with unchanged(stage):
        run = stage.runner(stage.comment(request_text(stage.good, V)), hooks).run()
    assert result(run) == "evaluate: exit code 2", run.jobs["evaluate"].log
    assert "the candidate changed in transit: 'MLmodel' was changed" in message(run)
    assert "the candidate changed in transit" in bot_comment(stage)
    return [
        Seen("the candidate replaced, with its digest", result(run), message(run), "as before"),
        refused(
            stage,
            "the evidence changed in transit",
            change("candidate_eval.json", False),
            1,
            "digest validation failed",
        ),
        refused(
            stage,
            "the evaluation replaced, with its digest",
            change("candidate_eval.json", True),
            2,
            "it changed in transit",
        ),
        refused(
            stage,
            "the predictions replaced, with their digest",
            change("predictions.parquet", True),
            2,
            "its SHA-256 differs",
        ),
        data_replaced(),
    ]


def relogged(stage: Stage) -> list[Seen]:
    """After the evaluation, a different model is logged under the same run, or the requested alias
    is moved to a different model."""
    try:
        return [
            refused(
                stage,
                "the requested alias moved during the run",
                lambda: stage.move_alias(stage.bad),
                1,
                "If an alias was moved, request it again",
            ),
            refused(
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
        secrets = {"candidate": {"MLFLOW_TRACKING_TOKEN": "precious"}}
        run = replace(runner, environment_secrets=secrets).run()
    assert result(run) == "request: exit code 1", run.jobs["request"].log
    assert "neither its own artifact service nor in 'artifact_locations'" in message(run), message(
        run
    )
    return [Seen("artifacts on a foreign host", result(run), message(run), "as before")]
