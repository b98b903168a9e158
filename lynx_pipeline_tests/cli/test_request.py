"""``request``: a release request on the command line."""

from pathlib import Path

import pytest

from lynx_pipeline.cli import main
from lynx_pipeline.config import Settings
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
