"""GitHub's API, as far as a deploy needs it: a pull request, its comments, who may write.

Asked at the address and with the token that the runner and the workflow give. No message holds
the token.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from lynx_pipeline.domain.release.approval import Commit, Review
from lynx_pipeline.domain.release.request import Comment, PullRequest
from lynx_pipeline.errors import BadInput, SystemFailed

if TYPE_CHECKING:
    from github.PullRequest import PullRequest as Pull

_SECONDS = 30
_TRIES = 3
_BOT = "github-actions[bot]"  # who writes with a workflow's token
_GHOST = "ghost"  # whose account is gone


class GitHub:
    """The repository that this workflow run belongs to.

    Every method raises SystemFailed if GitHub can't be asked or does not let this token ask.
    """

    def __init__(self) -> None:
        """Nothing is asked yet.

        Raises:
            BadInput: a variable lacks.
        """
        values = [os.environ.get(name, "") for name in ("GITHUB_TOKEN", "GITHUB_REPOSITORY")]
        if not all(values):
            raise BadInput(
                "GITHUB_TOKEN and GITHUB_REPOSITORY have to be set: this asks GitHub. In a "
                "workflow, give the step 'GITHUB_TOKEN: ${{ github.token }}'."
            )
        from github import Auth, Github
        from github.GithubRetry import GithubRetry

        url = os.environ.get("GITHUB_API_URL", "https://api.github.com")
        self._client = Github(
            base_url=url,
            auth=Auth.Token(values[0]),
            timeout=_SECONDS,
            retry=GithubRetry(total=_TRIES),
            per_page=100,
            seconds_between_requests=None,
            lazy=True,
        )
        self._url = url
        self._repository = self._client.get_repo(values[1])

    def pull_request(self, number: int) -> PullRequest:
        """The pull request as it is now."""
        with self._asking(f"pull request {number}"):
            pull = self._repository.get_pull(number)
            return PullRequest(
                number=number,
                open=pull.state == "open",
                labels=frozenset(label.name for label in pull.labels),
                author=_login(pull.user),
                head=pull.head.sha,
            )

    def comments(self, number: int) -> list[Comment]:
        """All comments on the pull request. An edit within the second in which one was written is
        not seen; ask :meth:`was_edited`."""
        with self._asking(f"the comments on pull request {number}"):
            return [
                Comment(c.id, _login(c.user), c.body or "", c.updated_at != c.created_at, c.node_id)
                for c in self._pull(number).get_issue_comments()
            ]

    def was_edited(self, comment: Comment) -> bool:
        """Whether anybody has edited the comment until now."""
        with self._asking(f"whether comment {comment.id} was edited"):
            _, answer = self._client.requester.graphql_node(
                comment.node, "lastEditedAt includesCreatedEdit", "IssueComment"
            )
            node = answer["data"]["node"]
            return node["lastEditedAt"] is not None or node["includesCreatedEdit"] is not False

    def may_write(self, login: str) -> bool:
        """Whether this person can write to the repository."""
        from github import UnknownObjectException

        with self._asking(f"the permission of {login}"), suppress(UnknownObjectException):
            permission = self._repository.get_collaborator_permission(login)
            return permission in ("admin", "write")
        return False

    def reviews(self, number: int) -> list[Review]:
        """The pull request's reviews, oldest first."""
        with self._asking(f"the reviews of pull request {number}"):
            return [
                Review(_login(r.user), r.state, r.commit_id or "")
                for r in self._pull(number).get_reviews()
            ]

    def commits(self, number: int) -> list[Commit]:
        """The pull request's commits, the first 250 of them."""
        with self._asking(f"the commits of pull request {number}"):
            return [
                Commit(c.sha, *(user.login if user else None for user in (c.author, c.committer)))
                for c in self._pull(number).get_commits()
            ]

    def say(
        self, number: int, name: str, run: int, text: str, *, over_later: bool = False
    ) -> str | None:
        """Let the comment of ours called ``name`` be ``text``, as workflow run ``run`` has it; a
        new one if there is none. Returns its address, None if a later run wrote it and this is not
        to be said ``over_later``: what that one says stands."""
        mark = f"<!-- {name}, run "
        body = f"{mark}{run} -->\n{text}"
        with self._asking(f"a comment on pull request {number}"):
            pull = self._pull(number)
            for comment in pull.get_issue_comments():
                if _login(comment.user) == _BOT and (comment.body or "").startswith(mark):
                    by = comment.body.removeprefix(mark).partition(" -->")[0]
                    if by.isdecimal() and int(by) > run and not over_later:
                        return None
                    comment.edit(body)
                    return comment.html_url
            return pull.create_issue_comment(body).html_url

    def _pull(self, number: int) -> "Pull":
        return self._repository.get_pull(number)

    @contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        from github import GithubException
        from requests import RequestException

        try:
            yield
        except GithubException as error:
            said = error.data.get("message") if isinstance(error.data, dict) else None
            why = f"status {error.status}, {str(said or 'no reason')[:200]!r}"
        except RequestException as error:
            why = type(error).__name__
        except (AssertionError, AttributeError, ValueError, TypeError, KeyError) as error:
            why = f"it answered something else than its API does: {type(error).__name__}"
        else:
            return
        raise SystemFailed(f"GitHub at {self._url} did not give {what}: {why}.")


def _login(user: object) -> str:
    return str(getattr(user, "login", None) or _GHOST)
