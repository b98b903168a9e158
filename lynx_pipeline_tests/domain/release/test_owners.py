"""Who owns a file according to CODEOWNERS."""

import pytest

from lynx_pipeline.domain.release.owners import owners_of

FILE = ".github/workflows/deploy.yml"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("* @octocat", {"octocat"}, id="everything"),
        pytest.param(
            "/.github/ @octocat @hubot", {"octocat", "hubot"}, id="two owners of a folder"
        ),
        pytest.param("/.github/workflows/*.yml @Octocat", {"octocat"}, id="case does not matter"),
        pytest.param("* @hubot\n/.github/ @octocat", {"octocat"}, id="the last line counts"),
        pytest.param("* @hubot\n/.github/", set(), id="a last line without owners removes them"),
        pytest.param(
            "/.github/ @octocat\n*.md @hubot", {"octocat"}, id="other files' lines are ignored"
        ),
        pytest.param(
            "/.github/ @octo-org/team a@b.example", set(), id="teams and addresses are ignored"
        ),
        pytest.param("/.github/ @octocat # not @hubot", {"octocat"}, id="comments are ignored"),
        pytest.param("# * @octocat", set(), id="commented out"),
        pytest.param("/.github/ octocat", set(), id="login without @"),
        pytest.param("/[ @octocat\n* @octocat", set(), id="invalid pattern"),
        pytest.param("", set(), id="empty"),
    ],
)
def test_the_last_matching_line_names_the_owners(text: str, expected: set[str]) -> None:
    """Only users count, in lower case."""
    assert owners_of(text, FILE) == expected
