"""A project checked out in the CI job that may promote it."""

import json
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from lynx_pipeline.adapters import oidc
from lynx_pipeline.adapters.ledgers import open_store
from lynx_pipeline.adapters.ledgers.store import Store
from lynx_pipeline.config import load_settings
from lynx_pipeline.domain.ledger.chain import Entry
from lynx_pipeline.domain.ledger.facts import Promoted, RolledBack
from lynx_pipeline.registry import Registry
from lynx_pipeline_tests.conftest import Tracking
from lynx_pipeline_tests.support.builders import baseline_of, eval_set, project
from lynx_pipeline_tests.support.fake_issuer import FakeIssuer
from lynx_pipeline_tests.support.places import GIT_ENV, InFolder, OnGit, Place, git
from lynx_pipeline_tests.support.world import Made, World

BASELINE, DVC, PYPROJECT = "eval_baseline.json", "data/eval.jsonl.dvc", "pyproject.toml"
CI = ("GITHUB_", "ACTIONS_")
LAX = json.dumps(baseline_of(eval_set(), {"half.a": 1, "half.b": 1, "all.x": 2}))


@dataclass(frozen=True, kw_only=True)
class Prod(World):
    """A project pushed to ``main`` of a remote and checked out in the CI job that may promote
    it."""

    issuer: FakeIssuer
    place: Place
    origin: OnGit

    @property
    def root(self) -> Path:
        """The checkout."""
        return self.settings.root

    @property
    def store(self) -> Store:
        """The registry's store."""
        return open_store(self.prod)

    @property
    def remote(self) -> str:
        """The checkout's remote, as a URL."""
        return f"file://{self.origin.bare}"

    def promote(self, made: Made, semver: str) -> Entry[Promoted]:
        """Promote in prod through the gate, as a new process would."""
        return Registry.open(self.prod).promote(made.sha, semver, evidence=made.evidence).entry

    def rollback(self, semver: str) -> Entry[Promoted | RolledBack]:
        """Roll back in prod, as a new process would."""
        return Registry.open(self.prod).rollback(semver).entry

    def git(self, *arguments: str) -> str:
        """Run git in the checkout."""
        return git(self.root, *arguments)

    def write(self, name: str, text: str) -> None:
        """Write a file in the checkout."""
        (self.root / name).write_text(text)

    def edit(self, name: str, old: str, new: str) -> None:
        """Replace text in a file of the checkout."""
        text = (self.root / name).read_text()
        assert old in text
        self.write(name, text.replace(old, new))

    def commit(self) -> str:
        """Commit the checkout, and push it as a colleague would."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "x")
        self.git("push", "--quiet", "origin", "HEAD:main")
        return self.git("rev-parse", "HEAD")

    def issue_tokens_for_head(self) -> None:
        """Issue the job's tokens for the checked-out commit from now on."""
        self.issuer.changes["sha"] = self.git("rev-parse", "HEAD")

    @property
    def colleague(self) -> "Prod":
        """The same project in a colleague's clone."""
        root = self.folder / "colleague"
        if not root.exists():
            git(self.folder, "clone", "--quiet", "--branch=main", str(self.origin.bare), str(root))
        return self.at(root)

    def at(self, root: Path) -> "Prod":
        """The same project in a different checkout, with its data."""
        shutil.copy(self.settings.eval_set, root / "data")
        environ = {"MLFLOW_TRACKING_URI": self.tracking.uri}
        return replace(self, settings=load_settings(root, environ))


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clear git's configuration, the CI variables and cached keys."""
    for name in os.environ:
        if name.startswith(("GIT_", *CI)):
            monkeypatch.delenv(name)
    for name, value in GIT_ENV.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(oidc, "_known", {})
    # The file in which the library looks for a Google Cloud machine.
    monkeypatch.setattr("id._internal.oidc.ambient._GCP_PRODUCT_NAME_FILE", "/nonexistent")


@pytest.fixture
def prod(
    tmp_path: Path,
    tracking: Tracking,
    issuer: FakeIssuer,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> Prod:
    """A checkout in the right job. The registry is a folder, or on git if the test requests it."""
    origin = OnGit.new(tmp_path / "origin.git")
    on_git = getattr(request, "param", "folder") == "git"
    place: Place = InFolder(tmp_path / "project/registry")
    if on_git:
        place = OnGit.new(tmp_path / "registry.git")
    settings = project(
        tmp_path / "project",
        environ={"MLFLOW_TRACKING_URI": tracking.uri},
        pyproject=f'registry = "{place.setting if on_git else "registry"}"\n'
        f'judges = [".github"]\n{issuer.table()}',
    )
    workflow = settings.root / issuer.policy().workflow
    workflow.parent.mkdir(parents=True)
    workflow.write_text("on: workflow_dispatch\n")
    it = Prod(
        settings,
        tracking,
        tmp_path,
        isolation="bubblewrap",
        issuer=issuer,
        place=place,
        origin=origin,
    )
    it.write(".gitignore", "/registry/\n.lynx/\ndata/eval.jsonl\n")
    it.git("init", "--quiet", "--initial-branch=main")
    it.git("remote", "add", "origin", it.remote)
    it.commit()
    it.issue_tokens_for_head()
    for name, value in issuer.job.items():
        monkeypatch.setenv(name, value)
    return it


@pytest.fixture
def promoted(prod: Prod) -> Prod:
    """One version in prod."""
    prod.promote(prod.candidate("good"), "v0.1.0")
    return prod


both_stores = pytest.mark.parametrize(
    "prod", ["folder", pytest.param("git", marks=pytest.mark.slow)], indirect=True
)


def raise_floors(prod: Prod) -> None:
    """Make the baseline stricter than the committed one."""
    values = json.loads((prod.root / BASELINE).read_text())
    prod.write(BASELINE, json.dumps({**values, "tolerance_pp": 0.01}))
