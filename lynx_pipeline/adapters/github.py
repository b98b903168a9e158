"""The part of GitHub's API that a deploy needs: a pull request, its comments, who may write, and
the workflow's runs.

The runner sets the API's address and the workflow passes the token. No message contains the token.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from lynx_pipeline.domain.release.approval import Commit, Review
from lynx_pipeline.domain.release.own_comment import marked, writer
from lynx_pipeline.domain.release.request import Comment, PullRequest
from lynx_pipeline.domain.release.request_limit import Job, RecentRuns, Run
from lynx_pipeline.errors import BadInput, SystemFailed

if TYPE_CHECKING:
    from github.PullRequest import PullRequest as Pull

_SECONDS = 30
_TRIES = 3
_MOST_PAGES = 10  # of runs, with 100 on each
_BOT = "github-actions[bot]"  # the author of what a workflow's token writes
_GHOST = "ghost"  # GitHub's login for deleted accounts


class GitHub:
    """The repository that this workflow run belongs to.

    Every method raises SystemFailed if GitHub can't be reached or refuses the token.
    """

    def __init__(self, repository: str | None = None) -> None:
        """Create the client for ``repository``, such as ``owner/name``; by default, the one that
        this workflow run belongs to. This sends no request.

        Raises:
            BadInput: an environment variable is missing.
        """
        token = os.environ.get("GITHUB_TOKEN", "")
        repository = repository or os.environ.get("GITHUB_REPOSITORY", "")
        if not (token and repository):
            raise BadInput(
                "GitHub can't be used: GITHUB_TOKEN or GITHUB_REPOSITORY is not set. In a "
                "workflow, add 'GITHUB_TOKEN: ${{ github.token }}' to the step's env."
            )
        from github import Auth, Github
        from github.GithubRetry import GithubRetry

        url = os.environ.get("GITHUB_API_URL", "https://api.github.com")
        self._client = Github(
            base_url=url,
            auth=Auth.Token(token),
            timeout=_SECONDS,
            retry=GithubRetry(total=_TRIES),
            per_page=100,
            seconds_between_requests=None,
            lazy=True,
        )
        self._url = url
        self._repository = self._client.get_repo(repository)

    def pull_request(self, number: int) -> PullRequest:
        """The pull request as it is now."""
        with self._requesting(f"reading pull request {number}"):
            pull = self._repository.get_pull(number)
            return PullRequest(
                number=number,
                open=pull.state == "open",
                labels=frozenset(label.name for label in pull.labels),
                author=_login(pull.user),
                head=pull.head.sha,
            )

    def comments(self, number: int) -> list[Comment]:
        """All comments on the pull request. ``edited`` misses an edit within the second in which
        the comment was written; :meth:`was_edited` does not."""
        with self._requesting(f"reading the comments on pull request {number}"):
            return [
                Comment(c.id, _login(c.user), c.body or "", c.updated_at != c.created_at, c.node_id)
                for c in self._pull(number).get_issue_comments()
            ]

    def was_edited(self, comment: Comment) -> bool:
        """Whether anybody has edited the comment so far."""
        with self._requesting(f"checking whether comment {comment.id} was edited"):
            _, answer = self._client.requester.graphql_node(
                comment.node, "lastEditedAt includesCreatedEdit", "IssueComment"
            )
            node = answer["data"]["node"]
            return node["lastEditedAt"] is not None or node["includesCreatedEdit"] is not False

    def may_write(self, login: str) -> bool:
        """Whether this user can write to the repository."""
        from github import UnknownObjectException

        action = f"reading the permission of {login}"
        with self._requesting(action), suppress(UnknownObjectException):
            permission = self._repository.get_collaborator_permission(login)
            return permission in ("admin", "write")
        return False

    def reviews(self, number: int) -> list[Review]:
        """The pull request's reviews, oldest first."""
        with self._requesting(f"reading the reviews of pull request {number}"):
            return [
                Review(_login(r.user), r.state, r.commit_id or "")
                for r in self._pull(number).get_reviews()
            ]

    def commits(self, number: int) -> list[Commit]:
        """The pull request's first 250 commits."""
        with self._requesting(f"reading the commits of pull request {number}"):
            return [
                Commit(c.sha, *(user.login if user else None for user in (c.author, c.committer)))
                for c in self._pull(number).get_commits()
            ]

    def runs(self, workflow: str, since: datetime) -> RecentRuns:
        """The runs of the workflow with this file name that were created at ``since`` or later: the
        newest 1000, since GitHub lists no more."""
        moment = since.strftime("%Y-%m-%dT%H:%M:%SZ")
        with self._requesting(f"reading the runs of {workflow}, which needs 'actions: read',"):
            found: dict[int, Run] = {}
            for page in range(1, _MOST_PAGES + 1):
                listed = self._runs(workflow, created=f">={moment}", per_page=100, page=page)
                found |= {run.number: run for run in map(_run, listed)}
                if len(listed) < 100:
                    older = self._runs(workflow, created=f"<{moment}", per_page=1)
                    before = max((_run(it).number for it in older), default=0)
                    return RecentRuns(tuple(found.values()), before)
            return RecentRuns(tuple(found.values()), min(found) - 1)

    def _runs(self, workflow: str, **query: str | int) -> list[dict[str, Any]]:
        path = f"actions/workflows/{quote(workflow)}/runs?{urlencode(query)}"
        return list(self._json(path)["workflow_runs"])

    def jobs(self, run: int) -> list[Job]:
        """The jobs of the first attempt of the run with this id, up to 100. While it runs, it lacks
        those that wait for others."""
        with self._requesting(f"reading the jobs of run {run}, which needs 'actions: read',"):
            found = self._json(f"actions/runs/{run}/attempts/1/jobs?per_page=100")["jobs"]
            return [Job(str(it["name"]), it["conclusion"] == "skipped") for it in found]

    def environments(self) -> dict[str, bool]:
        """The deployment environments, and whether each restricts the branches that use it."""
        with self._requesting("reading the environments"):
            found = self._json("environments?per_page=100")["environments"]
            return {it["name"]: it["deployment_branch_policy"] is not None for it in found}

    def rules(self, branch: str) -> dict[str, dict[str, Any]]:
        """The rules in force for a branch: their parameters by their types."""
        with self._requesting(f"reading the rules of the branch {branch}"):
            found = self._json(f"rules/branches/{branch}?per_page=100")
            return {it["type"]: it.get("parameters") or {} for it in found}

    def codeowners_errors(self) -> list[str]:
        """What GitHub can't use in ``CODEOWNERS``, such as an owner that is an organization."""
        with self._requesting("reading the errors of CODEOWNERS"):
            found = self._json("codeowners/errors")["errors"]
            return [f"line {it['line']}: {it['kind']}" for it in found]

    def _json(self, path: str) -> Any:
        url = f"/repos/{self._repository.full_name}/{path}"
        return self._client.requester.requestJsonAndCheck("GET", url)[1]

    def upsert_comment(
        self, number: int, name: str, run: int, text: str, *, overwrite_later: bool = False
    ) -> str | None:
        """Set our comment called ``name`` to ``text``, on behalf of workflow run ``run``. Create
        it if it is missing. A comment that a later run wrote is kept, unless ``overwrite_later``.

        Returns the comment's address, or None if a later run's comment was kept.
        """
        body = marked(name, run, text)
        with self._requesting(f"writing a comment on pull request {number}"):
            pull = self._pull(number)
            for comment in pull.get_issue_comments():
                before = writer(name, comment.body or "")
                if _login(comment.user) == _BOT and before is not None:
                    if before > run and not overwrite_later:
                        return None
                    comment.edit(body)
                    return comment.html_url
            return pull.create_issue_comment(body).html_url

    def _pull(self, number: int) -> "Pull":
        return self._repository.get_pull(number)

    @contextmanager
    def _requesting(self, action: str) -> Iterator[None]:
        """Turn every way in which the block's requests can fail into a SystemFailed."""
        from github import GithubException
        from requests import RequestException

        try:
            yield
        except GithubException as error:
            message = error.data.get("message") if isinstance(error.data, dict) else None
            why = f"status {error.status}, {str(message or 'no reason given')[:200]!r}"
        except RequestException as error:
            why = type(error).__name__
        except (AssertionError, AttributeError, ValueError, TypeError, KeyError) as error:
            why = f"it returned malformed output: {type(error).__name__}"
        else:
            return
        raise SystemFailed(
            f"GitHub at {self._url}: {action} failed: {why}. Check the token's permissions and "
            "GitHub's status, then try again."
        )


def _run(values: dict[str, Any]) -> Run:
    actor = values["actor"]
    return Run(
        number=int(values["run_number"]),
        created=datetime.fromisoformat(values["created_at"]),
        by="" if actor is None else str(actor["login"]).lower(),
        has_jobs=values["conclusion"] != "skipped",
        id=int(values["id"]),
    )


def _login(user: object) -> str:
    return str(getattr(user, "login", None) or _GHOST)
