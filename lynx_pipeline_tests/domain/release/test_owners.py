"""Who owns a file."""

import pytest

from lynx_pipeline.domain.release.owners import owners_of

FILE = ".github/workflows/deploy.yml"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("* @octocat", {"octocat"}, id="everything"),
        pytest.param("/.github/ @octocat @hubot", {"octocat", "hubot"}, id="two of a folder"),
        pytest.param("/.github/workflows/*.yml @Octocat", {"octocat"}, id="case does not matter"),
        pytest.param("* @hubot\n/.github/ @octocat", {"octocat"}, id="the last line counts"),
        pytest.param("* @hubot\n/.github/", set(), id="the last line takes owners away"),
        pytest.param(
            "/.github/ @octocat\n*.md @hubot", {"octocat"}, id="other files' lines do not"
        ),
        pytest.param("/.github/ @octo-org/team a@b.example", set(), id="teams and addresses"),
        pytest.param("/.github/ @octocat # not @hubot", {"octocat"}, id="a comment names nobody"),
        pytest.param("# * @octocat", set(), id="commented out"),
        pytest.param("/.github/ octocat", set(), id="without its sign"),
        pytest.param("/[ @octocat\n* @octocat", set(), id="no pattern"),
        pytest.param("", set(), id="empty"),
    ],
)
def test_the_last_line_that_fits_says_who(text: str, expected: set[str]) -> None:
    """People only, in lower case."""
    assert owners_of(text, FILE) == expected
