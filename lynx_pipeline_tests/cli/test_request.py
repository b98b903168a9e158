"""``request``: a release request on the command line."""

from pathlib import Path

import pytest

from lynx_pipeline.cli import main
from lynx_pipeline.config import Settings
from lynx_pipeline_tests.cli.helpers import Capsys, one_paragraph
from lynx_pipeline_tests.support.builders import RUN


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param([], id="no options"),
        pytest.param(["--run-id", RUN], id="no version"),
        pytest.param(["--semver", "v0.1.0-dev"], id="no run"),
        pytest.param(["--from-comment", "comment", "--run-id", RUN], id="a comment and a run"),
        pytest.param(["--from-comment", "comment"], id="a comment without a request"),
        pytest.param(["--from-comment", "missing"], id="no comment"),
        pytest.param(["--run-id", RUN, "--semver", "v0.1.0"], id="a prod version in dev"),
        pytest.param(["--run-id", RUN, "--semver", "$(id)"], id="a shell command"),
    ],
)
def test_an_invalid_request_is_bad_input(
    promoted: Settings, capsys: Capsys, arguments: list[str]
) -> None:
    """The error comes before MLflow is asked for the run."""
    Path("comment").write_text("please deploy\n")
    assert main(["request", *arguments]) == 2
    one_paragraph(capsys)
