"""The scenarios under act. Each acts, asserts the results, and returns the run and its comment."""

import json

from lynx_pipeline_tests.simulators.act.runner import ActRun, run
from lynx_pipeline_tests.simulators.actions.scenario import (
    FAST,
    NOWHERE,
    V,
    assert_promoted,
    bot_comment,
    unchanged,
)
from lynx_pipeline_tests.simulators.actions.stage import Stage, request_text


def promoted(stage: Stage) -> tuple[ActRun, str]:
    """A good candidate is promoted, tagged, announced and reported."""
    stage.clear()
    done = run(stage, stage.comment(request_text(stage.good, V)))
    assert done.code == 0, done.log
    assert done.jobs == dict.fromkeys(("request", "evaluate", "promote", "report"), "success")
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
    assert done.code == 1
    assert done.failed()[0] == "request/Read the request and fetch the candidate", done.log
    assert done.jobs == {"request": "failure", "report": "success"}
    assert not list(stage.folder.glob("act-*/home/evil"))
    text = bot_comment(stage)
    assert text.startswith("### Deployment of the candidate stopped in job `request`")
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
    assert done.code == 1
    assert done.failed()[0] == "request/Read the request and fetch the candidate", done.log
    assert done.jobs == {"request": "failure", "report": "success"}
    text = bot_comment(stage)
    assert text.startswith("### Deployment of the candidate stopped in job `request`")
    assert "MLflow at" in text
    return done, text


ALL = (promoted, refused, hostile, mlflow_down)
