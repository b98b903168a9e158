"""Who can approve a change to the gate inputs."""

import pytest

from lynx_pipeline.domain.release.approval import MOST_COMMITS, Commit, Review, check_approved
from lynx_pipeline.domain.release.request import PullRequest
from lynx_pipeline.errors import Refused

HEAD, OLD = "a" * 40, "b" * 40
PULL = PullRequest(7, True, frozenset(), "octocat", HEAD)
GOOD = Review("hubot", "APPROVED", HEAD)


def objection(login: str) -> str | None:
    """The objection to a login that does not own the baseline."""
    return None if login in ("hubot", "octocat", "Hubot") else f"{login} is not an owner"


@pytest.mark.parametrize(
    "reviews",
    [
        pytest.param([GOOD], id="one"),
        pytest.param(
            [Review("hubot", "CHANGES_REQUESTED", HEAD), GOOD],
            id="approved after requesting changes",
        ),
        pytest.param([GOOD, Review("hubot", "COMMENTED", HEAD)], id="approved, then commented"),
        pytest.param(
            [Review("mallory", "CHANGES_REQUESTED", HEAD), GOOD],
            id="a stranger's review is ignored",
        ),
    ],
)
def test_an_owner_who_did_not_write_the_change_can_approve_it(reviews: list[Review]) -> None:
    """One approval is enough."""
    assert check_approved(PULL, reviews, [Commit(HEAD, "octocat", "octocat")], objection) == "hubot"


@pytest.mark.parametrize(
    ("reviews", "wrote", "says"),
    [
        pytest.param([], [], "nobody has reviewed", id="no review"),
        pytest.param([Review("octocat", "APPROVED", HEAD)], [], "octocat wrote", id="its author"),
        pytest.param([GOOD], ["Hubot"], "hubot wrote part", id="author of a commit"),
        pytest.param(
            [Review("hubot", "APPROVED", OLD)], [], "hubot approved bbb", id="an earlier commit"
        ),
        pytest.param([GOOD, Review("hubot", "DISMISSED", HEAD)], [], "DISMISSED", id="dismissed"),
        pytest.param(
            [GOOD, Review("Hubot", "CHANGES_REQUESTED", HEAD)],
            [],
            "CHANGES_REQUESTED",
            id="withdrawn",
        ),
        pytest.param([Review("hubot", "COMMENTED", HEAD)], [], "nobody has", id="only commented"),
        pytest.param([Review("mallory", "APPROVED", HEAD)], [], "not an owner", id="a stranger"),
    ],
)
def test_nobody_else_can_approve(reviews: list[Review], wrote: list[str], says: str) -> None:
    """The refusal says why each review does not count."""
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
def test_all_authors_must_be_known(commits: list[Commit], says: str) -> None:
    """Otherwise the approver might have written the change."""
    with pytest.raises(Refused, match=says):
        check_approved(PULL, [GOOD], commits, objection)
