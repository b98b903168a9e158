"""The scenarios under act. Each acts, asserts the results, and returns the run and its comment."""

import json
import zipfile

from lynx_pipeline_tests.simulators.act.runner import ActRun, run
from lynx_pipeline_tests.simulators.actions.github_records import Job
from lynx_pipeline_tests.simulators.actions.scenario import (
    FAST,
    NOWHERE,
    V,
    assert_promoted,
    bot_comment,
    unchanged,
)
from lynx_pipeline_tests.simulators.actions.stage import ALIAS, LABEL, OWNER, Stage, request_text
from lynx_pipeline_tests.support.places import BRANCH

JOBS = ("request", "evaluate", "promote", "report")


def promoted(stage: Stage) -> tuple[ActRun, str]:
    """A good candidate is promoted, tagged, announced and reported."""
    stage.clear()
    done = run(stage, stage.comment(request_text(stage.good, V)))
    assert done.code == 0, done.log
    assert done.jobs == dict.fromkeys(JOBS, "success")
    # By this name, requests for the candidate are counted.
    assert done.names["evaluate"] == f"Evaluate {stage.canonical_sha(stage.good)}"
    assert_promoted(stage)
    (line,) = stage.registry.index().splitlines()
    text = bot_comment(stage)
    assert text.startswith(f"### Promoted `{V}`\n")
    assert f"- registry entry 1, hash `{json.loads(line)['hash']}`" in text
    (notification,) = stage.channel.got
    assert notification["title"] == f"grammar-tutor: promoted {V} in prod"
    return done, text


def refused(stage: Stage) -> tuple[ActRun, str]:
    """A regressed candidate fails the run, and the comment has the bucket table."""
    stage.clear()
    comment = stage.comment(request_text(stage.bad, V))
    with unchanged(stage):
        done = run(stage, comment)
    assert done.code == 1
    assert done.failed()[-1] == "evaluate/Record the outcome"
    assert done.jobs == {"request": "success", "evaluate": "failure", "report": "success"}
    text = bot_comment(stage)
    assert text.startswith(f"### Refused `{V}`: it failed the gate")
    assert "| tense.past&#95;simple |" in text
    assert "be shown" not in text  # act fills the outputs of skipped jobs with their expressions
    return done, text


def hostile(stage: Stage) -> tuple[ActRun, str]:
    """A comment that a shell would misread runs nothing, and its author gets the form to use."""
    stage.clear()
    touch = "touch $HOME/evil"
    evil = f"\"; {touch} #$({touch})`{touch}`' ${{{{ secrets.APPRISE_URLS }}}}"
    comment = stage.comment(f"{evil} {request_text(stage.good, V)}")
    with unchanged(stage):
        done = run(stage, comment)
    text = _stopped_at_request(stage, done)
    assert not list(stage.folder.glob("act-*/home/evil"))
    assert "t be read" in text
    assert "be shown" not in text
    assert stage.channel.url not in text + done.log
    return done, text


def mlflow_down(stage: Stage) -> tuple[ActRun, str]:
    """MLflow is down: the comment says so."""
    stage.clear()
    comment = stage.comment(request_text(stage.good, V))
    with unchanged(stage):
        done = run(stage, comment, NOWHERE, **FAST)
    text = _stopped_at_request(stage, done)
    assert "MLflow at" in text
    return done, text


def dvc_down(stage: Stage) -> tuple[ActRun, str]:
    """DVC's remote is down at the request: nothing is evaluated, and the comment says why."""
    stage.clear()
    comment = stage.comment(request_text(ALIAS, V))
    away = stage.dvc_remote.with_name("away")
    stage.dvc_remote.rename(away)
    try:
        with unchanged(stage):
            done = run(stage, comment)
    finally:
        away.rename(stage.dvc_remote)
    text = _stopped_at_request(stage, done, "Fetch the data", f"`{V}`")
    assert "DVC could not pull it" in text
    return done, text


def failing(stage: Stage) -> tuple[ActRun, str]:
    """The label starts the run. What a candidate printed before it failed is kept, and the comment
    says where."""
    stage.clear()
    comment = stage.comment(request_text(stage.log_failing(), V))
    with unchanged(stage):
        done = run(stage, comment, label=LABEL)
    assert done.code == 1
    assert done.failed()[-1] == "evaluate/Record the outcome", done.log
    assert done.jobs == {"request": "success", "evaluate": "failure", "report": "success"}
    text = bot_comment(stage)
    assert "RuntimeError: no idea" in done.log
    assert "no idea" in text
    assert "is in the artifact candidate-output, on the page of" in text
    with zipfile.ZipFile(done.artifacts / "candidate-output.zip") as kept:
        (file,) = kept.namelist()
        assert b"Traceback (most recent call last)" in kept.read(file)
    return done, text


def unnamed(stage: Stage) -> tuple[ActRun, str]:
    """In a project with two models, a comment must name one."""
    stage.clear()
    with stage.two_models(), unchanged(stage):
        done = run(stage, stage.comment(request_text(stage.good, V)))
    text = _stopped_at_request(stage, done)
    assert "has 2 models: grammar-tutor, strict-tutor. Name one:" in done.log
    assert "has 2 models" in text
    return done, text


def named(stage: Stage) -> tuple[ActRun, str]:
    """Only the named model's registry changes. A notification that fails is reported, and the
    promotion remains."""
    stage.clear()
    stage.channel.status = 500
    with stage.two_models():
        text = f"{request_text(stage.good, V)} gate=strict-tutor"
        done = run(stage, stage.comment(text))
    assert done.code == 0, done.log
    assert done.jobs == dict.fromkeys(JOBS, "success")
    text = bot_comment(stage)
    assert text.startswith(f"### Promoted `{V}`")
    assert "The announcement failed; the log says why." in text
    assert stage.channel.rejected[-1]["title"] == f"strict-tutor: promoted {V} in prod"
    assert stage.registry.tags() == [f"strict-tutor@{V}"]
    branches = [it for it in stage.registry.refs() if it.startswith("refs/heads/")]
    assert branches == [f"refs/heads/{BRANCH}/strict-tutor"]
    return done, text


def too_many(stage: Stage) -> tuple[ActRun, str]:
    """A person's requests of the last 24 hours are limited, and deleting their runs does not help.
    The pull request says when the next one is possible."""
    stage.clear()
    for number in range(20):
        earlier = stage.github.start(str(number), conclusion="failure")
        if number % 2:
            stage.github.delete_run(earlier)
    with unchanged(stage):
        done = run(stage, stage.comment(request_text(stage.good, V)))
    text = _stopped_at_request(stage, done)
    assert "octocat made 20 requests in the 24 hours before this one" in done.log
    assert "The next one is possible after" in text
    return done, text


def too_often(stage: Stage) -> tuple[ActRun, str]:
    """Requests for one candidate are limited, whichever owner made them."""
    stage.clear()
    sha = stage.canonical_sha(stage.good)
    for number in range(20):
        job = Job(f"Evaluate {sha}", 1, "failure")
        by = (OWNER, "reader")[number % 2]
        stage.github.start(str(number), by, conclusion="failure", jobs=[job])
    with unchanged(stage):
        done = run(stage, stage.comment(request_text(stage.good, V)))
    text = _stopped_at_request(stage, done)
    assert f"for this candidate (bundle {sha[:12]}) there were 20 requests" in done.log
    assert "The next one is possible after" in text
    return done, text


def edited(stage: Stage) -> tuple[ActRun, str]:
    """A comment that was edited is refused when the label is set, even if the edit was within the
    same second."""
    stage.clear()
    comment = stage.comment("LGTM")
    comment.edit(request_text(stage.good, V), at=comment.created_at)
    with unchanged(stage):
        done = run(stage, comment, label=LABEL)
    text = _stopped_at_request(stage, done)
    assert "edited after it was written" in text
    return done, text


def stranger(stage: Stage) -> tuple[ActRun, str]:
    """Somebody who is no owner is refused, and can't make the bot comment."""
    return _unauthorized(stage, "mallory", "mallory is not an owner of")


def reader(stage: Stage) -> tuple[ActRun, str]:
    """An owner without write access is refused, and can't make the bot comment."""
    return _unauthorized(stage, "reader", "reader cannot write to this repository")


def _unauthorized(stage: Stage, author: str, says: str) -> tuple[ActRun, str]:
    stage.clear()
    comment = stage.comment(request_text(stage.good, V), author)
    with unchanged(stage):
        done = run(stage, comment)
    assert done.code == 1
    assert says in done.log
    assert done.jobs == {"request": "failure"}
    assert bot_comment(stage) == ""
    return done, ""


def _stopped_at_request(
    stage: Stage,
    done: ActRun,
    step: str = "Read the request and fetch the candidate",
    what: str = "the candidate",
) -> str:
    """The comment on a run whose job ``request`` failed in this step."""
    assert done.code == 1
    assert done.failed()[0] == f"request/{step}", done.log
    assert done.jobs == {"request": "failure", "report": "success"}
    text = bot_comment(stage)
    assert text.startswith(f"### Deployment of {what} stopped in job `request`")
    assert "- To try again, write a new comment, because this job can't be re-run." in text, text
    return text


ALL = (
    promoted,
    refused,
    hostile,
    mlflow_down,
    dvc_down,
    failing,
    unnamed,
    named,
    too_many,
    too_often,
    edited,
    stranger,
    reader,
)
