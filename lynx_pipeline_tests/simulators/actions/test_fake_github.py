"""The fake API works with PyGithub, and refuses what GitHub refuses."""

from collections.abc import Iterator

import pytest
from github import Auth, BadCredentialsException, Github, GithubException, UnknownObjectException
from github.Repository import Repository

from lynx_pipeline_tests.simulators.actions.fake_github import BOT, FakeGitHub, running
from lynx_pipeline_tests.simulators.actions.github_records import Commit, PullRequest, Review
from lynx_pipeline_tests.support.fake_issuer import REPOSITORY
from lynx_pipeline_tests.support.git_server import FETCH, PUSH


@pytest.fixture
def fake() -> Iterator[FakeGitHub]:
    """A fake API with one pull request, and tokens with different permissions."""
    with running() as fake:
        fake.pulls[7] = PullRequest(7, labels=["deploy-candidate"])
        fake.tokens |= {
            "reads": {"pull-requests": "read"},
            "writes": {"pull-requests": "write", "contents": "write"},
            "issues": {"issues": "write"},
            "contents": {"contents": "read"},
        }
        yield fake


def repository(fake: FakeGitHub, token: str) -> Repository:
    """The repository, for a client with this token."""
    client = Github(
        base_url=fake.url,
        auth=Auth.Token(token),
        retry=None,
        per_page=100,
        seconds_between_requests=None,
        seconds_between_writes=None,
        lazy=True,
    )
    return client.get_repo(REPOSITORY)


def test_a_pull_request_is_read(fake: FakeGitHub) -> None:
    """Labels, reviews and commits are included, and every request is recorded."""
    fake.pulls[7].reviews = [Review("hubot", "CHANGES_REQUESTED", "d" * 40)]
    fake.pulls[7].commits = [Commit("e" * 40, None, "web-flow")]
    pull = repository(fake, "reads").get_pull(7)
    assert (pull.state, pull.user.login, pull.head.sha) == ("open", "octocat", fake.pulls[7].head)
    assert [label.name for label in pull.labels] == ["deploy-candidate"]
    assert pull.base.ref == "main"
    (review,) = pull.get_reviews()
    assert (review.user.login, review.state, review.commit_id) == (
        "hubot",
        "CHANGES_REQUESTED",
        "d" * 40,
    )
    (commit,) = pull.get_commits()
    assert not commit.author
    assert commit.committer.login == "web-flow"
    assert {request.token for request in fake.requests} == {"reads"}
    assert fake.requests[-1].path.endswith("/pulls/7/commits")


def test_comments_are_paginated(fake: FakeGitHub) -> None:
    """All of them arrive, in order, and only those on this pull request."""
    fake.pulls[8] = PullRequest(8)
    for number in range(205):
        fake.comment(7, "octocat", f"comment {number}")
    fake.comment(8, "octocat", "elsewhere")
    found = list(repository(fake, "reads").get_issue(7).get_comments())
    assert [comment.body for comment in found] == [f"comment {n}" for n in range(205)]
    assert [r.path for r in fake.requests].count(f"/repos/{REPOSITORY}/issues/7/comments") == 3


def test_a_comment_is_written_and_edited(fake: FakeGitHub) -> None:
    """The author is the bot, to which a job's token belongs."""
    pull = repository(fake, "writes").get_pull(7)
    comment = pull.create_issue_comment("first")
    comment.edit("second")
    (kept,) = fake.comments
    assert (kept.login, kept.body, kept.number) == (BOT, "second", 7)
    assert comment.html_url == kept.html_url
    assert repository(fake, "issues").get_issue(7).get_comment(kept.id).user.type == "Bot"


def test_permissions_of_users_are_returned(fake: FakeGitHub) -> None:
    """Roles have their legacy names; a stranger can read a public repository."""
    fake.collaborators |= {"boss": "admin", "keeper": "maintain", "nobody": "none"}
    there = repository(fake, "contents")
    found = [
        there.get_collaborator_permission(login) for login in ("boss", "keeper", "nobody", "x")
    ]
    assert found == ["admin", "write", "none", "read"]


def test_requests_without_permission_are_refused(fake: FakeGitHub) -> None:
    """Errors for unknown tokens, missing permissions, unknown items, and a server that is down."""
    with pytest.raises(BadCredentialsException):
        repository(fake, "stolen").get_pull(7).complete()
    with pytest.raises(GithubException, match="not accessible") as refused:
        repository(fake, "contents").get_pull(7).complete()
    assert refused.value.status == 403
    with pytest.raises(GithubException, match="not accessible"):
        repository(fake, "reads").get_pull(7).create_issue_comment("no")
    with pytest.raises(UnknownObjectException):
        repository(fake, "reads").get_pull(9).complete()
    fake.down = True
    with pytest.raises(GithubException) as down:
        repository(fake, "reads").get_pull(7).complete()
    assert down.value.status == 502
    assert fake.comments == []


def test_git_access_needs_the_contents_permission(fake: FakeGitHub) -> None:
    """Fetching and pushing need different levels; an unknown token is rejected."""
    statuses = {
        token: (
            fake.authorize(("x-access-token", token), FETCH),
            fake.authorize(("x-access-token", token), PUSH),
        )
        for token in ("writes", "contents", "reads", "stolen")
    }
    assert statuses == {
        "writes": (200, 200),
        "contents": (200, 403),
        "reads": (403, 403),
        "stolen": (401, 401),
    }
    assert fake.authorize(None, FETCH) == 401
    assert fake.authorize(("octocat", "writes"), FETCH) == 401
