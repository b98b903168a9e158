"""GitLab's API on this machine, as far as a report uses it: real HTTP, tokens of bots, and the
notes on one merge request, which tests read and change."""

import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from lynx_pipeline_tests.support.builders import JsonObject
from lynx_pipeline_tests.support.http_server import Answer, Request, json_answer, serving

PROJECT = "74"
MERGE_REQUEST = 7
TOKEN, READ_TOKEN = "glpat-report", "glpat-read"
BOT = 501
# The ids of the tokens' bots.
_BOTS = {TOKEN: BOT, READ_TOKEN: 502}


@dataclass
class Note:
    """A note on the merge request."""

    id: int
    author: int
    body: str

    def to_json(self) -> JsonObject:
        """As the API shows it."""
        return {"id": self.id, "body": self.body, "author": {"id": self.author}, "system": False}


@dataclass
class FakeGitLab:
    """A running API. ``down`` is how many of the next requests it answers with 502."""

    url: str
    notes: list[Note] = field(default_factory=list)
    down: int = 0

    @property
    def job(self) -> dict[str, str]:
        """The environment variables of a job that may write notes."""
        return {
            "CI_API_V4_URL": f"{self.url}/api/v4",
            "CI_PROJECT_ID": PROJECT,
            "CI_PROJECT_URL": "https://gitlab.example.com/octo-org/octo-repo",
            "CI_PIPELINE_ID": "42",
            "CI_PIPELINE_URL": "https://gitlab.example.com/octo-org/octo-repo/-/pipelines/42",
            "GITLAB_TOKEN": TOKEN,
        }

    def note(self, author: int, body: str) -> Note:
        """Add a note."""
        self.notes.append(Note(len(self.notes) + 1, author, body))
        return self.notes[-1]

    def answer(self, request: Request) -> Answer:
        """The response to any request."""
        if self.down:
            self.down -= 1
            return Answer(b"<html>Bad Gateway</html>", 502)
        token = request.headers.get("PRIVATE-TOKEN", "")
        if token not in _BOTS:
            return json_answer({"message": "401 Unauthorized"}, 401)
        if request.method != "GET" and token == READ_TOKEN:
            return json_answer({"error": "insufficient_scope", "scope": "api"}, 403)
        place = urlsplit(request.target)
        body = json.loads(request.body)["body"] if request.body else ""
        notes = f"projects/{PROJECT}/merge_requests/{MERGE_REQUEST}/notes"
        match request.method, place.path.removeprefix("/api/v4/"):
            case "GET", "user":
                return json_answer({"id": _BOTS[token], "bot": True})
            case "GET", path if path == notes:
                return self._page(parse_qs(place.query))
            case "POST", path if path == notes:
                return json_answer(self.note(_BOTS[token], body).to_json(), 201)
            case "PUT", path if path.startswith(f"{notes}/"):
                (found,) = (it for it in self.notes if str(it.id) == path.rpartition("/")[2])
                found.body = body
                return json_answer(found.to_json())
        return json_answer({"message": "404 Not Found"}, 404)

    def _page(self, query: dict[str, list[str]]) -> Answer:
        notes = self.notes if query.get("sort") == ["asc"] else self.notes[::-1]
        size, page = int(query.get("per_page", ["20"])[0]), int(query.get("page", ["1"])[0])
        following = str(page + 1) if len(notes) > page * size else ""
        shown = [it.to_json() for it in notes[(page - 1) * size : page * size]]
        return json_answer(shown, headers={"X-Next-Page": following})


@contextmanager
def running(tls: ssl.SSLContext | None = None) -> Iterator[FakeGitLab]:
    """An API for as long as the block runs."""
    with serving(lambda it: gitlab.answer(it), tls) as url:
        gitlab = FakeGitLab(url)
        yield gitlab
