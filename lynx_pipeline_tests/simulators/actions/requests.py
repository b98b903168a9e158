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
    latest_artifacts,
    message,
    refused,
    result,
    stop_before,
    unchanged,
)
from lynx_pipeline_tests.simulators.actions.stage import Stage, request_text
from lynx_pipeline_tests.support import REPO
from lynx_pipeline_tests.support.places import BRANCH

# ----- candidates ------------------------------------------------------------------------------


def failing(stage: Stage) -> list[Seen]:
    """What a candidate printed before it failed is kept, and the comment says where."""
    stage.clear()
    comment = stage.comment(request_text(stage.log_failing(), V))
    with unchanged(stage):
        run = stage.runner(comment).run()
    assert result(run) == "evaluate: exit code 2", run.jobs["evaluate"].log
    assert "RuntimeError: no idea" in message(run)
    assert "is in the artifact candidate-output, on the page of" in bot_comment(stage)
    with zipfile.ZipFile(run.artifacts / "candidate-output.zip") as kept:
        (file,) = kept.namelist()
        assert b"Traceback (most recent call last)" in kept.read(file)
    return [Seen("a candidate that fails", result(run), message(run), "as before")]


def label(stage: Stage) -> list[Seen]:
    """The label starts the same run as the comment; a different label starts none."""
    stage.clear()
    comment = stage.comment(request_text(stage.good, V))
    with unchanged(stage):
        other = stage.labelled("documentation").run()
        run = stage.labelled(hooks=stop_before("evaluate")).run()
    assert result(other) == "no run"
    assert run.jobs["request"].outputs["comment"] == str(comment.id)
    return [Seen("a different label", result(other), "", "as before")]


def several_models(stage: Stage) -> list[Seen]:
    """In a project with two models, the comment names one. Only its registry changes."""
    stage.clear()
    with stage.two_models():
        with unchanged(stage):
            unnamed = stage.runner(stage.comment(request_text(stage.good, V))).run()
        assert result(unnamed) == "request: exit code 2"
        assert "has 2 models: grammar-tutor, strict-tutor. Name one:" in message(unnamed)
        assert "has 2 models" in bot_comment(stage)
        text = f"{request_text(stage.good, V)} gate=strict-tutor"
        run = stage.runner(stage.comment(text)).run()
        assert {job.result for job in run.jobs.values()} == {"success"}, result(run)
    assert run.jobs["evaluate"].token not in run.jobs["evaluate"].log
    assert bot_comment(stage).startswith(f"### Promoted `{V}`")
    assert run.jobs["report"].summary.strip() == bot_comment(stage)
    assert stage.registry.tags() == [f"strict-tutor@{V}"]
    branches = [it for it in stage.registry.refs() if it.startswith("refs/heads/")]
    assert branches == [f"refs/heads/{BRANCH}/strict-tutor"]
    assert stage.channel.got[-1]["title"] == f"strict-tutor: promoted {V} in prod"
    return [
        Seen("one of two models, unnamed", result(unnamed), message(unnamed), "as before"),
        Seen("one of two models", result(run), bot_comment(stage).splitlines()[0], f"+ {V}"),
    ]


# ----- requests -------------------------------------------------------------------------------


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


def too_many(stage: Stage) -> list[Seen]:
    """A person's requests of the last 24 hours are limited, and deleting their runs does not help.
    The pull request says when the next one is possible."""
    found = []
    for what in ("more requests than allowed", "their runs deleted"):
        stage.clear()
        for number in range(20):
            earlier = stage.github.start(f"earlier {number}", conclusion="failure")
            if what == "their runs deleted":
                stage.github.delete_run(earlier)
        with unchanged(stage):
            run = stage.runner(stage.comment(request_text(stage.good, V))).run()
        assert result(run) == "request: exit code 1", run.jobs["request"].log
        assert "octocat made 20 requests in the 24 hours before this one" in message(run)
        assert run.jobs["evaluate"].result == "skipped"
        assert "The next one is possible after" in bot_comment(stage)
        found.append(Seen(what, result(run), message(run), "as before"))
    return found


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
    later = refused(
        stage, "a comment edited during the run", edit, 1, "edited after it was written"
    )
    return [first, later]


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
