"""Who can approve what verdicts are by."""

import pytest

from lynx_pipeline.domain.release.approval import MOST_COMMITS, Commit, Review, check_approved
from lynx_pipeline.domain.release.request import PullRequest
from lynx_pipeline.errors import Refused

HEAD, OLD = "a" * 40, "b" * 40
PULL = PullRequest(7, True, frozenset(), "octocat", HEAD)
GOOD = Review("hubot", "APPROVED", HEAD)


def objection(login: str) -> str | None:
    """Only these own the baseline."""
    return None if login in ("hubot", "octocat", "Hubot") else f"{login} is no owner"


@pytest.mark.parametrize(
    "reviews",
    [
        pytest.param([GOOD], id="one"),
        pytest.param([Review("hubot", "CHANGES_REQUESTED", HEAD), GOOD], id="after all"),
        pytest.param([GOOD, Review("hubot", "COMMENTED", HEAD)], id="and a remark after"),
        pytest.param([Review("mallory", "CHANGES_REQUESTED", HEAD), GOOD], id="others don't count"),
    ],
)
def test_an_owner_who_did_not_write_it_approves(reviews: list[Review]) -> None:
    """One is enough."""
    assert check_approved(PULL, reviews, [Commit(HEAD, "octocat", "octocat")], objection) == "hubot"


@pytest.mark.parametrize(
    ("reviews", "wrote", "says"),
    [
        pytest.param([], [], "nobody has reviewed", id="none"),
        pytest.param([Review("octocat", "APPROVED", HEAD)], [], "octocat wrote", id="its author"),
        pytest.param([GOOD], ["Hubot"], "hubot wrote some", id="who pushed to it"),
        pytest.param([Review("hubot", "APPROVED", OLD)], [], "hubot approved bbb", id="before"),
        pytest.param([GOOD, Review("hubot", "DISMISSED", HEAD)], [], "DISMISSED", id="dismissed"),
        pytest.param(
            [GOOD, Review("Hubot", "CHANGES_REQUESTED", HEAD)], [], "CHANGES_REQUESTED", id="back"
        ),
        pytest.param([Review("hubot", "COMMENTED", HEAD)], [], "nobody has", id="a remark"),
        pytest.param([Review("mallory", "APPROVED", HEAD)], [], "no owner", id="a stranger"),
    ],
)
def test_nobody_else_does(reviews: list[Review], wrote: list[str], says: str) -> None:
    """The refusal says what kept each from counting."""
    with pytest.raises(Refused, match=says):
        check_approved(PULL, reviews, [Commit(HEAD, name, "octocat") for name in wrote], objection)


@pytest.mark.parametrize(
    ("commits", "says"),
    [
        pytest.param([Commit(OLD, None, "octocat")], "commit bbbbbbbbbbbb has an author", id="a"),
        pytest.param([Commit(OLD, "octocat", None)], "or committer whose e-mail", id="c"),
        pytest.param([Commit(OLD, "octocat", "octocat")] * MOST_COMMITS, "may have more", id="250"),
    ],
)
def test_who_wrote_it_has_to_be_known(commits: list[Commit], says: str) -> None:
    """Else whoever approves could have written it."""
    with pytest.raises(Refused, match=says):
        check_approved(PULL, [GOOD], commits, objection)
