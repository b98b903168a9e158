"""What the fake GitHub keeps: pull requests, comments, reviews, commits and workflow runs."""

from dataclasses import dataclass, field
from datetime import UTC, datetime

from lynx_pipeline_tests.support.fake_issuer import COMMIT, REPOSITORY

HTML = "https://github.com"


def now() -> str:
    """The time, as GitHub writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass
class Review:
    """A review of a pull request; ``state`` is APPROVED, CHANGES_REQUESTED, COMMENTED, ..."""

    login: str
    state: str = "APPROVED"
    commit: str = COMMIT
    submitted_at: str = "2026-01-01T00:00:00Z"


@dataclass
class Commit:
    """A commit of a pull request. A login is None if no account has the e-mail address."""

    sha: str = COMMIT
    author: str | None = "octocat"
    committer: str | None = "octocat"


@dataclass
class PullRequest:
    """A pull request."""

    number: int
    login: str = "octocat"
    labels: list[str] = field(default_factory=list)
    state: str = "open"
    head: str = COMMIT
    base: str = "main"
    reviews: list[Review] = field(default_factory=list)
    commits: list[Commit] = field(default_factory=lambda: [Commit()])


@dataclass
class Comment:
    """A comment on the pull request ``number``. An edited one has a ``last_edited_at``, and a later
    ``updated_at`` unless that was within the same second. A ``login`` of None: the account was
    deleted."""

    id: int
    number: int
    login: str | None
    body: str
    created_at: str
    updated_at: str
    last_edited_at: str | None = None

    def edit(self, body: str, at: str | None = None) -> None:
        """Edit the comment, by default now."""
        self.body = body
        self.last_edited_at = self.updated_at = at or now()

    @property
    def node_id(self) -> str:
        """The comment's id in GraphQL."""
        return f"IC_{self.id}"

    @property
    def html_url(self) -> str:
        """The address of its page."""
        return f"{HTML}/{REPOSITORY}/pull/{self.number}#issuecomment-{self.id}"


@dataclass
class Job:
    """A job of a run, in one of its attempts. While it runs, it has no ``conclusion``."""

    name: str
    attempt: int = 1
    conclusion: str | None = None


@dataclass
class Run:
    """A run of the deploy workflow, started by ``login`` and re-run last by ``again_by``. ``id`` is
    a number; the jobs see it, too. ``jobs`` are those of all attempts, without those that wait."""

    id: str
    number: int
    login: str | None = "octocat"
    again_by: str = ""
    attempt: int = 1
    created_at: str = field(default_factory=now)
    conclusion: str | None = None
    jobs: list[Job] = field(default_factory=list)
