"""``request``: a release request on the command line; and ``demo`` where it can't run."""

from pathlib import Path

import pytest

from lynx_pipeline.cli import main
from lynx_pipeline.config import Settings
from lynx_pipeline.domain.release.request import Request, parse_comment
from lynx_pipeline_tests.cli.helpers import Capsys, one_paragraph
from lynx_pipeline_tests.support.builders import RUN

MISSING = "give --run-id and --semver, or --from-comment"
FORM = "can't name a promotion in dev: expected vX.Y.Z-dev"
BOTH = "give either --from-comment or --run-id and --semver, not both"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param([], MISSING, id="no options"),
        pytest.param(["--run-id", RUN], MISSING, id="no version"),
        pytest.param(["--semver", "v0.1.0-dev"], MISSING, id="no run"),
        pytest.param(["--from-comment", "comment", "--run-id", RUN], BOTH, id="comment and run"),
        pytest.param(["--from-comment", "comment"], "contains 0 requests", id="no request"),
        pytest.param(["--from-comment", "missing"], "no comment", id="no comment"),
        pytest.param(["--run-id", RUN, "--semver", "v0.1.0"], FORM, id="a prod version in dev"),
        pytest.param(["--run-id", RUN, "--semver", "$(id)"], FORM, id="a shell command"),
    ],
)
def test_an_invalid_request_is_bad_input(
    promoted: Settings, capsys: Capsys, arguments: list[str], message: str
) -> None:
    """The error comes before MLflow is asked for the run."""
    Path("comment").write_text("please deploy\n")
    assert main(["request", *arguments]) == 2
    assert message in one_paragraph(capsys)


@pytest.mark.parametrize("model", [None, "student@3"])
def test_a_request_in_prod_is_refused_and_says_where_to_make_it(
    promoted: Settings, capsys: Capsys, monkeypatch: pytest.MonkeyPatch, model: str | None
) -> None:
    """The printed command would fail at its end. The comment in the message is a valid request."""
    monkeypatch.setenv("LYNX_ENV", "prod")
    more = ["--model", model] if model else []
    assert main(["request", "--run-id", RUN, "--semver", "v0.1.0", *more]) == 1
    message = one_paragraph(capsys)
    assert "'deploy-candidate'" in message
    comment = message.partition("write the comment '")[2].partition("'")[0]
    assert parse_comment(comment.encode()) == Request(RUN, "v0.1.0", model)
    assert not promoted.home.exists()
    assert main(["request", "--run-id", RUN, "--semver", "v0.1.0-dev"]) == 2
    assert "can't name a promotion in prod" in one_paragraph(capsys)


def test_a_demo_from_a_clone_says_where_to_run_it(
    promoted: Settings, capsys: Capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a folder that is no project, and in another project."""
    for folder, says, advice in (
        (promoted.root.parent, "is not in a project", "Run the demo in that clone."),
        (promoted.root, "has no examples/grammar_tutor/demo.py", "Run it in an empty folder."),
    ):
        monkeypatch.chdir(folder)
        assert main(["demo"]) == 2
        message = one_paragraph(capsys)
        assert f"{folder} {says}" in message
        assert advice in message
    assert not promoted.home.exists()
