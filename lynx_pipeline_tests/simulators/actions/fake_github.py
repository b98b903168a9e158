"""GitHub's API on this machine, as far as a deploy uses it: real HTTP, tokens with limited
permissions, and a state that tests read and change."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from lynx_pipeline_tests.simulators.actions.github_records import (
    HTML,
    Comment,
    Commit,
    Job,
    PullRequest,
    Review,
    Run,
    now,
)
from lynx_pipeline_tests.support.builders import JsonObject
from lynx_pipeline_tests.support.fake_issuer import REPOSITORY
from lynx_pipeline_tests.support.git_server import PUSH, Credentials
from lynx_pipeline_tests.support.http_server import Answer, json_answer, serving

BOT = "github-actions[bot]"
# The legacy permission of a role.
LEGACY = {"maintain": "write", "triage": "read"}
_JOBS = re.compile(f"/repos/{REPOSITORY}/actions/runs/([^/]+)/attempts/1/jobs")


@dataclass(frozen=True)
class Request:
    """A received request; ``path`` is without the query."""

    method: str
    path: str
    token: str


@dataclass
class FakeGitHub:
    """A running API with one repository. ``tokens`` are the valid tokens with their permissions;
    ``collaborators`` have a role, everybody else has that of ``strangers``. ``down``: the API
    returns 502. ``deleted`` is the number of the newest run that was deleted."""

    url: str
    pulls: dict[int, PullRequest] = field(default_factory=dict)
    comments: list[Comment] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    deleted: int = 0
    collaborators: dict[str, str] = field(default_factory=dict)
    strangers: str = "read"  # as in a public repository
    tokens: dict[str, Mapping[str, str]] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    down: bool = False

    def comment(self, number: int, login: str | None, body: str) -> Comment:
        """Add a comment, written now."""
        at = now()
        ids = [it.id for it in self.comments]
        self.comments.append(Comment(max(ids, default=1000) + 1, number, login, body, at, at))
        return self.comments[-1]

    def start(self, id: str, login: str | None = "octocat", **values: Any) -> Run:
        """Start a run, or the next attempt of the one with this id."""
        for run in self.runs:
            if run.id == id:
                run.attempt, run.conclusion = values.get("attempt", run.attempt + 1), None
                run.again_by = values.get("again_by", "")
                return run
        number = max([self.deleted, *(it.number for it in self.runs)]) + 1
        self.runs.append(Run(id, number, login, **values))
        return self.runs[-1]

    def delete_run(self, run: Run) -> None:
        """Delete a run, as everybody with write access can. Its number is not used again."""
        self.runs.remove(run)
        self.deleted = max(self.deleted, run.number)

    def created(self, comment: Comment) -> JsonObject:
        """The payload of ``issue_comment`` for a new comment."""
        issue = self._issue(self.pulls[comment.number])
        return self._payload("created", comment.login, issue=issue, comment=self._comment(comment))

    def labeled(self, number: int, label: str, by: str = "octocat") -> JsonObject:
        """The payload of ``pull_request_target`` for a label that was set."""
        pull = self._pull(self.pulls[number])
        return self._payload("labeled", by, number=number, label={"name": label}, pull_request=pull)

    def authorize(self, given: Credentials | None, service: str, _repository: str = "") -> int:
        """The status for a git request: a token that may read contents may fetch, and one that may
        write them may push."""
        if given is None or given[0] != "x-access-token" or given[1] not in self.tokens:
            return 401
        level = self.tokens[given[1]].get("contents")
        return 200 if level == "write" or (level == "read" and service != PUSH) else 403

    # ----- responses ------------------------------------------------------------------------

    def answer(self, method: str, target: str, authorization: str, raw: bytes) -> Answer:
        """The response to any request."""
        place = urlsplit(target)
        scheme, _, token = authorization.partition(" ")
        self.requests.append(Request(method, place.path, token))
        if self.down:
            return Answer(b"<html>Bad Gateway</html>", 502)
        if scheme.lower() not in ("token", "bearer") or token not in self.tokens:
            return _refused(401, "Bad credentials")
        try:
            may = self.tokens[token]
            if method == "GET" and place.path.startswith(f"/repos/{REPOSITORY}/actions/workflows/"):
                return self._listed_runs(may, place.path, parse_qs(place.query))
            if method == "GET" and (run := _JOBS.fullmatch(place.path)):
                return self._listed_jobs(may, run[1], parse_qs(place.query))
            found = self._found(method, place.path, may, raw)
        except _Refused as refusal:
            return _refused(*refusal.args)
        if isinstance(found, list):
            return self._page(found, place.path, parse_qs(place.query))
        return json_answer(found, 201 if method == "POST" and place.path != "/graphql" else 200)

    def _found(self, method: str, path: str, may: Mapping[str, str], raw: bytes) -> Any:
        parts = path.strip("/").split("/")
        owner, name = REPOSITORY.split("/")
        match method, *parts:
            case "POST", "graphql":
                _need(may, "read", ("pull-requests", "issues"))
                return self._node(json.loads(raw))
            case "GET", "user":
                raise _Refused(403, _FORBIDDEN)  # a job's token belongs to no user
            case "GET", "repos", _owner, _name if [_owner, _name] == [owner, name]:
                return self._repository()
            case _, "repos", _owner, _name, *rest if [_owner, _name] == [owner, name]:
                return self._below(method, rest, may, raw)
        raise _Refused(404, _MISSING)

    def _below(self, method: str, rest: Sequence[str], may: Mapping[str, str], raw: bytes) -> Any:
        pulls, either = ("pull-requests",), ("pull-requests", "issues")
        match method, *rest:
            case "GET", "collaborators", login, "permission":
                role = self.collaborators.get(login, self.strangers)
                permission = LEGACY.get(role, role)
                return {"permission": permission, "role_name": role, "user": _user(login)}
            case "GET", "pulls", number:
                _need(may, "read", pulls)
                return self._pull(self._numbered(number))
            case "GET", "pulls", number, "reviews":
                _need(may, "read", pulls)
                return [_review(it) for it in self._numbered(number).reviews]
            case "GET", "pulls", number, "commits":
                _need(may, "read", pulls)
                return [self._commit(it) for it in self._numbered(number).commits]
            case "GET", "issues", "comments", number:
                _need(may, "read", either)
                return self._comment(self._comment_numbered(number))
            case "PATCH", "issues", "comments", number:
                _need(may, "write", either)
                comment = self._comment_numbered(number)
                comment.edit(json.loads(raw)["body"])
                return self._comment(comment)
            case "GET", "issues", number:
                _need(may, "read", either)
                return self._issue(self._numbered(number))
            case "GET", "issues", number, "comments":
                _need(may, "read", either)
                wanted = self._numbered(number).number
                return [self._comment(it) for it in self.comments if it.number == wanted]
            case "POST", "issues", number, "comments":
                _need(may, "write", either)
                written = json.loads(raw)["body"]
                return self._comment(self.comment(self._numbered(number).number, BOT, written))
        raise _Refused(404, _MISSING)

    def _node(self, request: JsonObject) -> JsonObject:
        """The only modelled query: whether a comment was edited."""
        words = set(request["query"].replace("{", " ").replace("}", " ").split())
        assert {"lastEditedAt", "includesCreatedEdit", "IssueComment"} <= words
        wanted = request["variables"]["id"]
        found = [it for it in self.comments if it.node_id == wanted]
        if not found:
            text = f"Could not resolve to a node with the global id of '{wanted}'"
            return {"data": {"node": None}, "errors": [{"type": "NOT_FOUND", "message": text}]}
        node = {
            "__typename": "IssueComment",
            "lastEditedAt": found[0].last_edited_at,
            "includesCreatedEdit": found[0].last_edited_at == found[0].created_at,
        }
        return {"data": {"node": node}}

    def _listed_runs(
        self, may: Mapping[str, str], path: str, query: Mapping[str, list[str]]
    ) -> Answer:
        """The runs of a workflow, newest first; of a search at most 1000."""
        _need(may, "read", ("actions",))
        if not path.endswith("/deploy-grammar-tutor.yml/runs"):
            raise _Refused(404, _MISSING)
        (created,) = query["created"]
        sign, moment = ("<", created[1:]) if created[0] == "<" else (">=", created[2:])
        assert created == f"{sign}{moment}"
        found = [it for it in self.runs if (it.created_at < moment) == (sign == "<")]
        found.sort(key=lambda it: -it.number)
        size, page = int(query["per_page"][0]), int(query.get("page", ["1"])[0])
        assert 1 <= size <= 100
        listed = found[:1000][(page - 1) * size : page * size]
        return json_answer(
            {"total_count": len(found), "workflow_runs": [_listed(it) for it in listed]}
        )

    def _listed_jobs(
        self, may: Mapping[str, str], run: str, query: Mapping[str, list[str]]
    ) -> Answer:
        """The jobs of a run's first attempt."""
        _need(may, "read", ("actions",))
        assert query == {"per_page": ["100"]}
        for it in self.runs:
            if it.id == run:
                jobs = [_job(job) for job in it.jobs if job.attempt == 1]
                return json_answer({"total_count": len(jobs), "jobs": jobs})
        raise _Refused(404, _MISSING)

    def _numbered(self, number: str) -> PullRequest:
        if not number.isdigit() or int(number) not in self.pulls:
            raise _Refused(404, _MISSING)
        return self.pulls[int(number)]

    def _comment_numbered(self, number: str) -> Comment:
        for comment in self.comments:
            if str(comment.id) == number:
                return comment
        raise _Refused(404, _MISSING)

    def _page(self, found: list[Any], path: str, query: Mapping[str, list[str]]) -> Answer:
        size = min(100, max(1, int(query.get("per_page", ["30"])[0])))
        page, last = int(query.get("page", ["1"])[0]), max(1, -(-len(found) // size))
        pages = {"prev": page - 1, "next": page + 1, "last": last, "first": 1}
        if page == 1:
            del pages["prev"], pages["first"]
        if page >= last:
            del pages["next"], pages["last"]
        links = [
            f'<{self.url}{path}?per_page={size}&page={number}>; rel="{rel}"'
            for rel, number in pages.items()
        ]
        headers = {"Link": ", ".join(links)} if links else {}
        return json_answer(found[(page - 1) * size : page * size], headers=headers)

    # ----- the JSON -------------------------------------------------------------------------

    @property
    def _root(self) -> str:
        return f"{self.url}/repos/{REPOSITORY}"

    def _payload(self, action: str, sender: str | None, **values: Any) -> JsonObject:
        return {
            "action": action,
            **values,
            "repository": self._repository(),
            "sender": _user(sender),
        }

    def _repository(self) -> JsonObject:
        owner, name = REPOSITORY.split("/")
        return {
            "id": 74,
            "name": name,
            "full_name": REPOSITORY,
            "owner": {**(_user(owner) or {}), "id": 65, "type": "Organization"},
            "default_branch": "main",
            "private": False,
            "url": self._root,
            "html_url": f"{HTML}/{REPOSITORY}",
        }

    def _pull(self, it: PullRequest) -> JsonObject:
        return {
            **_common(it),
            "url": f"{self._root}/pulls/{it.number}",
            "issue_url": f"{self._root}/issues/{it.number}",
            "head": {"sha": it.head, "ref": "topic", "repo": self._repository()},
            "base": {"sha": "b" * 40, "ref": it.base, "repo": self._repository()},
        }

    def _issue(self, it: PullRequest) -> JsonObject:
        return {
            **_common(it),
            "url": f"{self._root}/issues/{it.number}",
            "pull_request": {"url": f"{self._root}/pulls/{it.number}"},
        }

    def _comment(self, it: Comment) -> JsonObject:
        return {
            "id": it.id,
            "node_id": it.node_id,
            "url": f"{self._root}/issues/comments/{it.id}",
            "html_url": it.html_url,
            "issue_url": f"{self._root}/issues/{it.number}",
            "user": _user(it.login),
            "body": it.body,
            "created_at": it.created_at,
            "updated_at": it.updated_at,
        }

    def _commit(self, it: Commit) -> JsonObject:
        return {
            "sha": it.sha,
            "url": f"{self._root}/commits/{it.sha}",
            "author": _user(it.author),
            "committer": _user(it.committer),
        }


def _common(it: PullRequest) -> JsonObject:
    return {
        "id": 1000 + it.number,
        "number": it.number,
        "state": it.state,
        "title": f"Pull request {it.number}",
        "user": _user(it.login),
        "labels": [{"name": name} for name in it.labels],
        "html_url": f"{HTML}/{REPOSITORY}/pull/{it.number}",
    }


def _listed(it: Run) -> JsonObject:
    return {
        "id": int(it.id),
        "run_number": it.number,
        "run_attempt": it.attempt,
        "actor": _user(it.login),
        "triggering_actor": _user(it.again_by or it.login),
        "created_at": it.created_at,
        "status": "in_progress" if it.conclusion is None else "completed",
        "conclusion": it.conclusion,
    }


def _job(it: Job) -> JsonObject:
    return {
        "name": it.name,
        "run_attempt": it.attempt,
        "status": "in_progress" if it.conclusion is None else "completed",
        "conclusion": it.conclusion,
    }


def _review(it: Review) -> JsonObject:
    return {
        "id": 1,
        "user": _user(it.login),
        "state": it.state,
        "commit_id": it.commit,
        "submitted_at": it.submitted_at,
        "body": "",
    }


def _user(login: str | None) -> JsonObject | None:
    if login is None:
        return None
    return {"login": login, "type": "Bot" if login.endswith("[bot]") else "User"}


# ----- refusals and the server --------------------------------------------------------------

_FORBIDDEN = "Resource not accessible by integration"
_MISSING = "Not Found"


class _Refused(Exception):
    """A status and a message."""


def _need(may: Mapping[str, str], level: str, names: Sequence[str]) -> None:
    enough = ("write",) if level == "write" else ("read", "write")
    if not any(may.get(name) in enough for name in names):
        raise _Refused(403, _FORBIDDEN)


def _refused(status: int, message: str) -> Answer:
    docs = "https://docs.github.com/rest"
    return json_answer(
        {"message": message, "documentation_url": docs, "status": str(status)}, status
    )


@contextmanager
def running() -> Iterator[FakeGitHub]:
    """An API for as long as the block runs."""
    with serving(lambda it: github.answer(it.method, it.target, it.authorization, it.body)) as url:
        github = FakeGitHub(url)
        yield github
