"""What the tests of ``doctor`` look at: a project in production, and GitHub's API."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lynx_pipeline_tests.support.http_server import Answer, Request
from lynx_pipeline_tests.support.places import git

REVIEW = {
    "required_approving_review_count": 1,
    "require_code_owner_review": True,
    "dismiss_stale_reviews_on_push": True,
    "require_last_push_approval": True,
}


@dataclass
class GitHub:
    """GitHub's API: what it answers to the questions of ``doctor``."""

    url: str = ""
    environments: dict[str, bool] = field(
        default_factory=lambda: dict.fromkeys(("candidate", "production", "report"), True)
    )
    rules: list[dict[str, Any]] = field(
        default_factory=lambda: [
            {"type": "pull_request", "parameters": REVIEW},
            {"type": "non_fast_forward"},
        ]
    )

    codeowners: list[dict[str, Any]] = field(default_factory=list)

    def answer(self, request: Request) -> Answer:
        """The answer to a request with the right token."""
        path = request.target.partition("?")[0]
        if request.authorization != "token good":
            return Answer(b'{"message": "Bad credentials"}', 401)
        found: Any = self.rules if path == "/repos/octo/shop/rules/branches/main" else None
        if path == "/repos/octo/shop/environments":
            listed: list[dict[str, Any]] = [
                {"name": name, "deployment_branch_policy": {} if restricted else None}
                for name, restricted in self.environments.items()
            ]
            found = {"environments": listed}
        if path == "/repos/octo/shop/codeowners/errors":
            found = {"errors": self.codeowners}
        if found is None:
            return Answer(b'{"message": "Not Found"}', 404)
        return Answer(json.dumps(found).encode(), 200, {"Content-Type": "application/json"})


@dataclass(frozen=True)
class SetUp:
    """A project that is set up for production and pushed to its origin."""

    root: Path
    origin: Path
    github: GitHub

    def edit(self, name: str, old: str, new: str) -> None:
        """Replace text in a file."""
        text = (self.root / name).read_text()
        assert old in text
        (self.root / name).write_text(text.replace(old, new))

    def commit(self) -> None:
        """Commit everything, and push it."""
        git(self.root, "add", "--all")
        git(self.root, "commit", "--quiet", "--message", "x")
        git(self.root, "push", "--quiet", "origin", "HEAD:main")
