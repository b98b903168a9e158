"""What changes prod: the workflow's verified identity, by what is committed, on evidence.

Everything is real here but the issuer's address: HTTP, signatures, git with its remote, MLflow,
and both kinds of registry. Run as a module this is one of two racing promoters.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from lynx_pipeline import registry
from lynx_pipeline.adapters import oidc
from lynx_pipeline.config import load_settings
from lynx_pipeline.domain.identity import PRESENT
from lynx_pipeline.domain.ledger import PROMOTED, ROLLED_BACK, Entry, Store
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.errors import BadInput, LynxError, Refused, SystemFailed
from lynx_pipeline.flow import promotion
from lynx_pipeline.flow.evaluation import EVAL, PREDICTIONS
from lynx_pipeline.flow.promotion import GateRefused, Supported
from lynx_pipeline_tests.builders import (
    baseline_of,
    eval_items,
    eval_set,
    jsonl,
    md5,
    project,
)
from lynx_pipeline_tests.conftest import Tracking
from lynx_pipeline_tests.fake_issuer import (
    MAIN,
    WORKFLOW_REF,
    FakeIssuer,
    jwk,
    rs,
    running,
)
from lynx_pipeline_tests.places import GIT_ENV, InFolder, OnGit, Place, git
from lynx_pipeline_tests.world import Made, World

pytestmark = pytest.mark.slow

REPO = Path(__file__).parents[1]
BASELINE, DVC, PYPROJECT = "eval_baseline.json", "data/eval.jsonl.dvc", "pyproject.toml"
IDENTITY = "prod is changed only by the CI workflow's verified identity"
CI = ("GITHUB_", "ACTIONS_")
LAX = json.dumps(baseline_of(eval_set(), {"half.a": 1, "half.b": 1, "all.x": 2}))


@dataclass(frozen=True, kw_only=True)
class Prod(World):
    """A project that is a commit on ``main`` of a remote, checked out in the CI job that may
    promote it."""

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
        return registry.open_store(self.prod)

    @property
    def remote(self) -> str:
        """The checkout's remote, as a URL."""
        return f"file://{self.origin.bare}"

    def promote(self, made: Made, semver: str) -> Entry:
        """The gated promotion in prod, as a new process would do it."""
        return registry.promote(made.sha, semver, evidence=made.evidence, settings=self.prod)

    def rollback(self, semver: str) -> Entry:
        """The rollback in prod, as a new process would do it."""
        return registry.rollback(semver, settings=self.prod)

    def git(self, *arguments: str) -> str:
        """Run git in the checkout."""
        return git(self.root, *arguments)

    def write(self, name: str, text: str) -> None:
        """Write a file of the checkout."""
        (self.root / name).write_text(text)

    def edit(self, name: str, old: str, new: str) -> None:
        """Change a file of the checkout."""
        text = (self.root / name).read_text()
        assert old in text
        self.write(name, text.replace(old, new))

    def commit(self) -> str:
        """Commit the checkout, and push it as a colleague would."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "x")
        self.git("push", "--quiet", "origin", "HEAD:main")
        return self.git("rev-parse", "HEAD")

    def run_here(self) -> None:
        """From now on the job's tokens are for the checked-out commit."""
        self.issuer.changes["sha"] = self.git("rev-parse", "HEAD")

    @property
    def colleague(self) -> "Prod":
        """The same project in a colleague's clone."""
        root = self.folder / "colleague"
        if not root.exists():
            git(self.folder, "clone", "--quiet", "--branch=main", str(self.origin.bare), str(root))
        return self.at(root)

    def at(self, root: Path) -> "Prod":
        """The same project in another checkout, with its data."""
        shutil.copy(self.settings.eval_set, root / "data")
        environ = {"MLFLOW_TRACKING_URI": self.tracking.uri}
        return replace(self, settings=load_settings(root, environ))


@pytest.fixture(autouse=True)
def outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """No configuration of git's, no CI job and no keys from outside the test."""
    for name in os.environ:
        if name.startswith(("GIT_", *CI)):
            monkeypatch.delenv(name)
    for name, value in GIT_ENV.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(oidc, "_known", {})
    # Where the library would look whether this machine is Google's.
    monkeypatch.setattr("id._internal.oidc.ambient._GCP_PRODUCT_NAME_FILE", "/nonexistent")


@pytest.fixture
def prod(
    tmp_path: Path,
    tracking: Tracking,
    issuer: FakeIssuer,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> Prod:
    """A checkout in the right job. The registry is a folder, or what the test asks for."""
    origin = OnGit.new(tmp_path / "origin.git")
    on_git = getattr(request, "param", "folder") == "git"
    place: Place = InFolder(tmp_path / "project/registry")
    if on_git:
        place = OnGit.new(tmp_path / "registry.git")
    settings = project(
        tmp_path / "project",
        environ={"MLFLOW_TRACKING_URI": tracking.uri},
        pyproject=f'registry = "{place.setting if on_git else "registry"}"\n{issuer.table()}',
    )
    it = Prod(
        settings,
        tracking,
        tmp_path,
        isolation="bubblewrap",
        issuer=issuer,
        place=place,
        origin=origin,
    )
    it.write(".gitignore", "registry/\n.lynx/\ndata/eval.jsonl\n")
    it.git("init", "--quiet", "--initial-branch=main")
    it.git("remote", "add", "origin", it.remote)
    it.commit()
    it.run_here()
    for name, value in issuer.job.items():
        monkeypatch.setenv(name, value)
    return it


both_stores = pytest.mark.parametrize("prod", ["folder", "git"], indirect=True)


def leave_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    """This is a developer's machine from now on."""
    for name in (
        "GITHUB_ACTIONS",
        "ACTIONS_ID_TOKEN_REQUEST_URL",
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
    ):
        monkeypatch.delenv(name)


# ----- the one way in -------------------------------------------------------------------------


@both_stores
def test_the_workflow_promotes_in_prod(prod: Prod) -> None:
    """The entry says who did it, the evidence is kept beside it, and only prod sees it."""
    good = prod.candidate("good")
    prod.issuer.changes["jti"] = "this token"
    entry = prod.promote(good, "v0.1.0")
    head = prod.git("rev-parse", "HEAD")
    assert (entry.fact.env, entry.fact.event, entry.fact.semver) == (Env.PROD, PROMOTED, "v0.1.0")
    assert entry.fact.canonical_sha == good.sha
    assert entry.fact.actor == {
        "iss": prod.issuer.url,
        "repository_id": "74",
        "repository_owner_id": "65",
        "workflow_ref": WORKFLOW_REF,
        "job_workflow_ref": WORKFLOW_REF,
        "ref": MAIN,
        "sha": head,
        "environment": "production",
        "runner_environment": "github-hosted",
        "event_name": "workflow_dispatch",
        **{name: prod.issuer.claims()[name] for name in PRESENT},
        "jti": "this token",
    }
    assert registry.verify(settings=prod.prod).entries == (entry,)
    assert registry.resolve(settings=prod.prod).semver == "v0.1.0"
    assert registry.resolve("v0.1.0", settings=prod.prod).canonical_sha == good.sha
    with pytest.raises(Refused, match="nothing was promoted in dev"):
        registry.resolve(settings=prod.settings)
    kept = entry.fact.evidence or {}
    assert kept["isolation"] == "bubblewrap"
    for name, file in (
        ("baseline", prod.settings.baseline),
        ("candidate_eval", good.evidence / EVAL),
        ("predictions", good.evidence / PREDICTIONS),
    ):
        assert prod.store.evidence(kept[f"{name}_sha256"]) == file.read_bytes()
    assert registry.audit("v0.1.0", settings=prod.prod).findings == ()


@both_stores
def test_a_promotion_repeated_changes_nothing(prod: Prod) -> None:
    """A retried job says the same, with its old token or a new one."""
    good = prod.candidate("good")
    prod.issuer.token_to_give = prod.issuer.token(**prod.issuer.changes)
    first = prod.promote(good, "v0.1.0")
    before = prod.place.all()
    assert prod.promote(good, "v0.1.0") == first
    prod.issuer.token_to_give = None
    assert prod.promote(good, "v0.1.0") == first
    assert prod.place.all() == before


@both_stores
def test_a_rollback_needs_an_identity_and_takes_one(
    prod: Prod, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The entry names whoever it was."""
    one, two = prod.candidate("one"), prod.candidate("two")
    prod.promote(one, "v0.1.0")
    prod.promote(two, "v0.2.0")
    before = prod.place.all()
    with monkeypatch.context() as patch:
        leave_ci(patch)
        with pytest.raises(Refused, match=IDENTITY):
            prod.rollback("v0.1.0")
    with pytest.raises(Refused, match="never promoted in prod"):
        prod.rollback("v0.3.0")
    assert prod.place.all() == before
    prod.issuer.changes["jti"] = "back"
    entry = prod.rollback("v0.1.0")
    assert (entry.seq, entry.fact.event, entry.fact.canonical_sha) == (3, ROLLED_BACK, one.sha)
    assert (entry.fact.actor or {})["jti"] == "back"
    assert registry.resolve(settings=prod.prod).canonical_sha == one.sha
    before = prod.place.all()
    assert prod.rollback("v0.1.0").fact.canonical_sha == one.sha
    assert prod.place.all() == before


def test_a_shallow_checkout_is_enough(prod: Prod) -> None:
    """As a runner makes it: one commit, no branch; also where the branch has moved since."""
    prod.colleague.write("README.md", "one\n")
    prod.colleague.commit()
    root = prod.folder / "runner"
    git(root.parent, "clone", "--quiet", "--depth=1", "--branch=main", prod.remote, root.name)
    git(root, "checkout", "--quiet", "--detach")
    runner = prod.at(root)
    runner.run_here()
    prod.colleague.write("README.md", "two\n")
    prod.colleague.commit()
    assert runner.promote(runner.candidate("good"), "v0.1.0").seq == 1


# ----- a token is for one change --------------------------------------------------------------


@both_stores
def test_a_token_changes_prod_once(prod: Prod) -> None:
    """Neither a second promotion nor a rollback goes on a token that was used."""
    one, two = prod.candidate("one"), prod.candidate("two")
    used = prod.issuer.token(jti="used", **prod.issuer.changes)
    prod.issuer.token_to_give = used
    prod.promote(one, "v0.1.0")
    before = prod.place.all()
    for made in (one, two):
        with pytest.raises(Refused, match="claim 'jti': got 'used', which entry 1 already used"):
            prod.promote(made, "v0.2.0")
    assert prod.place.all() == before
    prod.issuer.token_to_give = None
    prod.promote(two, "v0.2.0")
    prod.issuer.token_to_give = used
    before = prod.place.all()
    with pytest.raises(Refused, match="claim 'jti': got 'used', which entry 1 already used"):
        prod.rollback("v0.1.0")
    assert prod.place.all() == before


def after_judging(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Do this once, when a promotion has been judged and is not yet in the ledger."""
    judge, todo = promotion.judged_fact, [act]

    def judged_fact(*arguments: Any) -> Supported:
        supported = judge(*arguments)
        if todo:
            todo.pop()()
        return supported

    monkeypatch.setattr(promotion, "judged_fact", judged_fact)


@both_stores
def test_a_token_that_is_used_meanwhile_is_refused(
    prod: Prod, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unused when it was verified, used when the entry was to be written."""
    one, two = prod.candidate("one"), prod.candidate("two")
    prod.issuer.token_to_give = prod.issuer.token(**prod.issuer.changes)
    after_judging(monkeypatch, partial(prod.promote, one, "v0.1.0"))
    with pytest.raises(Refused, match=r"claim 'jti'.*entry 1 already used"):
        prod.promote(two, "v0.2.0")
    (entry,) = registry.history(settings=prod.prod)
    assert entry.fact.semver == "v0.1.0"


@both_stores
def test_of_two_promoters_with_one_token_one_wins(prod: Prod) -> None:
    """Two processes, both through with judging before either writes."""
    made = {"v0.1.0": prod.candidate("one"), "v0.2.0": prod.candidate("two")}
    prod.issuer.token_to_give = prod.issuer.token(**prod.issuer.changes)
    start = prod.folder / "start"
    start.mkdir()
    environ = {
        **os.environ,
        "PYTHONPATH": str(REPO),
        "LYNX_ENV": "prod",
        "MLFLOW_TRACKING_URI": prod.tracking.uri,
    }
    racers = [
        subprocess.Popen(
            [sys.executable, "-m", __name__, it.sha, semver, it.evidence, start],
            cwd=prod.root,
            env=environ,
            stdout=subprocess.PIPE,
            text=True,
        )
        for semver, it in made.items()
    ]
    said = [racer.communicate(timeout=120)[0] for racer in racers]
    assert sorted(text.partition(":")[0] for text in said) == ["Refused", "promoted"], said
    (refused,) = (text for text in said if text.startswith("Refused"))
    assert "claim 'jti'" in refused or "is not greater than v0.2.0" in refused
    (entry,) = registry.history(settings=prod.prod)
    assert f"promoted: {entry.fact.semver}\n" in said


# ----- who is not the workflow ----------------------------------------------------------------


def test_a_spoofed_runner_is_refused(prod: Prod, monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables say nothing, and tokens count only with the issuer's signature."""
    good = prod.candidate("good")
    leave_ci(monkeypatch)
    spoofed = {
        "CI": "true",
        "GITHUB_ACTIONS": "true",
        "GITHUB_REPOSITORY": "octo-org/octo-repo",
        "GITHUB_REPOSITORY_ID": "74",
        "GITHUB_REPOSITORY_OWNER_ID": "65",
        "GITHUB_REF": MAIN,
        "GITHUB_SHA": prod.git("rev-parse", "HEAD"),
        "GITHUB_WORKFLOW_REF": WORKFLOW_REF,
        "GITHUB_ACTOR": "octocat",
        "GITHUB_EVENT_NAME": "workflow_dispatch",
        "RUNNER_ENVIRONMENT": "github-hosted",
    }
    for name, value in spoofed.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(Refused, match=r"permissions: id-token: write"):
        prod.promote(good, "v0.1.0")
    with running() as evil:
        evil.keys = [jwk("evil")]
        claims = {**prod.issuer.changes, "iss": prod.issuer.url}
        evil.token_to_give = evil.token(sign=rs("evil"), **claims)
        for name, value in evil.job.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(Refused, match="Signature verification failed"):
            prod.promote(good, "v0.1.0")
    assert prod.place.all() == {}


@pytest.mark.parametrize(
    "changes",
    [
        {"repository_id": "75"},
        {"repository_owner_id": "66"},
        {"ref": "refs/pull/7/merge"},
        {"workflow_ref": WORKFLOW_REF.replace("deploy", "lint")},
        {"job_workflow_ref": WORKFLOW_REF.replace(MAIN, "refs/heads/x")},
        {"environment": "staging"},
        {"event_name": "push"},
        {"runner_environment": "self-hosted"},
        {"sha": "d" * 40},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_token_of_another_run_is_refused(prod: Prod, changes: dict[str, str]) -> None:
    """Promotion and rollback alike, before a byte is written."""
    good = prod.candidate("good")
    prod.issuer.changes |= changes
    (name,) = changes
    for write in (partial(prod.promote, good, "v0.1.0"), partial(prod.rollback, "v0.1.0")):
        with pytest.raises(Refused, match=f"claim '{name}': got '{changes[name]}', expected"):
            write()
    assert prod.place.all() == {}


def test_an_issuer_that_is_down_promotes_nothing(prod: Prod) -> None:
    """And it is no refusal: it can be tried again."""
    good = prod.candidate("good")
    prod.issuer.keys = [jwk(), jwk()]
    with pytest.raises(SystemFailed):
        prod.promote(good, "v0.1.0")
    assert prod.place.all() == {}
    prod.issuer.keys = [jwk()]
    prod.promote(good, "v0.1.0")


# ----- what a perfect identity can't do -------------------------------------------------------


def test_the_gate_refuses_whoever_asks(prod: Prod) -> None:
    """A regressed candidate stays out."""
    bad = prod.candidate("bad", wrong=1)
    with pytest.raises(GateRefused, match=r"half\.a"):
        prod.promote(bad, "v0.1.0")
    assert prod.place.all() == {}


@pytest.mark.parametrize("isolation", ["none", "", "Bubblewrap", "bubblewrap2"])
def test_a_candidate_that_could_read_the_answers_is_refused(prod: Prod, isolation: str) -> None:
    """Prod takes bubblewrap, exactly."""
    made = replace(prod, isolation=isolation).candidate("bare")
    with pytest.raises(LynxError, match="isolation"):
        prod.promote(made, "v0.1.0")
    assert prod.place.all() == {}


def test_nothing_is_done_by_hand_in_prod(prod: Prod) -> None:
    """Neither a registration nor a promotion without evidence; no token is even asked for."""
    good = prod.candidate("good")
    with pytest.raises(Refused, match=IDENTITY):
        registry.register_pending(good.run_id, settings=prod.prod)
    with pytest.raises(Refused, match=IDENTITY):
        registry.promote(good.sha, "v0.1.0", settings=prod.prod)
    assert (prod.place.all(), prod.issuer.asked) == ({}, [])


@pytest.mark.parametrize("semver", ["v0.1.0-dev", "v0.1.0-rc.1", "0.1.0", "latest"])
def test_prod_takes_no_other_versions(prod: Prod, semver: str) -> None:
    """Whoever asks."""
    good = prod.candidate("good")
    with pytest.raises(BadInput, match="can't name a promotion in prod"):
        prod.promote(good, semver)
    assert prod.place.all() == {}


def test_without_a_policy_nobody_changes_prod(prod: Prod) -> None:
    """A table that is not there trusts nobody."""
    good = prod.candidate("good")
    text = (prod.root / PYPROJECT).read_text()
    prod.write(PYPROJECT, text.partition("[tool.lynx_pipeline.identity]")[0])
    prod.commit()
    prod.run_here()
    for write in (partial(prod.promote, good, "v0.1.0"), partial(prod.rollback, "v0.1.0")):
        with pytest.raises(Refused, match=r"fill \[tool\.lynx_pipeline\.identity\]"):
            write()
    assert (prod.place.all(), prod.issuer.asked) == ({}, [])


# ----- what is judged by is what is committed -------------------------------------------------


def _lower(prod: Prod) -> None:
    prod.write(BASELINE, LAX)


def _lower_and_stage(prod: Prod) -> None:
    _lower(prod)
    prod.git("add", "--all")


def _lower_behind_gits_back(prod: Prod) -> None:
    prod.git("update-index", "--assume-unchanged", BASELINE)
    _lower(prod)


def _lower_and_commit(prod: Prod) -> None:
    _lower_and_stage(prod)
    prod.git("commit", "--quiet", "--message", "x")


def _lower_by_a_link(prod: Prod) -> None:
    _lower(prod)
    (prod.root / BASELINE).rename(prod.root / "lax.json")
    (prod.root / BASELINE).symlink_to("lax.json")


def _lower_and_replace(prod: Prod) -> None:
    """Git itself then shows the lower floors for the committed ones."""
    old = prod.git("rev-parse", f"HEAD:{BASELINE}")
    _lower(prod)
    prod.git("replace", old, prod.git("hash-object", "-w", BASELINE))
    assert prod.git("show", f"HEAD:{BASELINE}") == LAX
    assert prod.git("status", "--porcelain") == f"M {BASELINE}"


def _lower_and_replace_the_commit(prod: Prod) -> None:
    head = prod.git("rev-parse", "HEAD")
    _lower_and_commit(prod)
    lower = prod.git("rev-parse", "HEAD")
    prod.git("reset", "--quiet", "--soft", head)
    prod.git("replace", head, lower)
    assert prod.git("show", f"HEAD:{BASELINE}") == LAX


def _stop_tracking(name: str) -> Callable[[Prod], None]:
    def change(prod: Prod) -> None:
        with (prod.root / ".gitignore").open("a") as file:
            file.write(f"{name}\n")
        prod.git("rm", "--quiet", "--cached", name)
        prod.commit()
        prod.run_here()

    return change


def _own_policy(prod: Prod) -> None:
    """A token that only the edited policy would let in."""
    prod.edit(PYPROJECT, '"production"', '"mine"')
    prod.issuer.changes["environment"] = "mine"


def _own_issuer(prod: Prod) -> None:
    prod.edit(PYPROJECT, '"workflow_dispatch"', '"push", "workflow_dispatch"')
    prod.issuer.changes["event_name"] = "push"


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        pytest.param(_lower, Refused, f"^{BASELINE} is not what", id="lower floors"),
        pytest.param(_lower_and_stage, Refused, f"^{BASELINE} is not what", id="staged"),
        pytest.param(_lower_behind_gits_back, Refused, f"^{BASELINE} is not", id="unseen by git"),
        pytest.param(_lower_by_a_link, Refused, f"^{BASELINE} is not what", id="by a link"),
        pytest.param(_lower_and_replace, Refused, f"^{BASELINE} is not what", id="git replace"),
        pytest.param(
            _lower_and_replace_the_commit, Refused, f"^{BASELINE} is not", id="replaced commit"
        ),
        pytest.param(_lower_and_commit, Refused, "claim 'sha'", id="committed on top"),
        pytest.param(_stop_tracking(BASELINE), Refused, f"^{BASELINE} is not", id="not tracked"),
        pytest.param(_stop_tracking(DVC), Refused, f"^{DVC} is not what", id="data not tracked"),
        pytest.param(
            lambda p: p.edit(DVC, "hash: md5", "hash:  md5"), Refused, f"^{DVC} is not", id="data"
        ),
        pytest.param(
            lambda p: p.edit(PYPROJECT, "tiny", "small"), Refused, f"^{PYPROJECT} is", id="model"
        ),
        pytest.param(_own_policy, Refused, f"^{PYPROJECT} is not what", id="own policy"),
        pytest.param(_own_issuer, Refused, f"^{PYPROJECT} is not what", id="one more event"),
        pytest.param(
            lambda p: p.write("data/eval.jsonl", "{}\n"), BadInput, "was changed", id="eval set"
        ),
        pytest.param(
            lambda p: shutil.rmtree(p.root / ".git"), BadInput, "is no git checkout", id="no git"
        ),
        pytest.param(
            lambda p: p.git("checkout", "--quiet", "--orphan", "x"),
            BadInput,
            "no git checkout with a commit",
            id="no commit",
        ),
        pytest.param(
            lambda p: p.git("remote", "remove", "origin"), SystemFailed, "origin", id="no remote"
        ),
        pytest.param(
            lambda p: shutil.rmtree(p.origin.bare), SystemFailed, "origin", id="remote gone"
        ),
        pytest.param(
            lambda p: p.origin.git("update-ref", "-d", MAIN),
            SystemFailed,
            "has no such ref",
            id="branch gone",
        ),
    ],
)
def test_only_what_is_committed_counts(
    prod: Prod, change: Callable[[Prod], object], error: type[LynxError], says: str
) -> None:
    """A good candidate stays out too: nobody can say by what it would be judged."""
    good = prod.candidate("good")
    change(prod)
    with pytest.raises(error, match=says):
        prod.promote(good, "v0.1.0")
    assert prod.place.all() == {}


def test_another_repository_in_the_environment_does_not_count(
    prod: Prod, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither for lower floors on the disk, nor against the right ones."""
    bad, good = prod.candidate("bad", wrong=5), prod.candidate("good")
    other = prod.colleague
    _lower(other)
    other.git("add", "--all")
    other.git("commit", "--quiet", "--message", "lower")
    right = (prod.root / BASELINE).read_text()
    variables = {
        "GIT_DIR": other.root / ".git",
        "GIT_WORK_TREE": other.root,
        "GIT_INDEX_FILE": other.root / ".git/index",
        "GIT_OBJECT_DIRECTORY": other.root / ".git/objects",
        "GIT_COMMON_DIR": other.root / ".git",
    }
    _lower(prod)
    head = other.git("rev-parse", "HEAD")
    for name, value in variables.items():
        monkeypatch.setenv(name, str(value))
    with pytest.raises(Refused, match=f"^{BASELINE} is not what"):
        prod.promote(bad, "v0.1.0")
    prod.issuer.changes["sha"], ours = head, prod.issuer.changes["sha"]
    with pytest.raises(Refused, match="claim 'sha'"):
        prod.promote(bad, "v0.1.0")
    assert prod.place.all() == {}
    prod.issuer.changes["sha"] = ours
    prod.write(BASELINE, right)
    assert prod.promote(good, "v0.1.0").seq == 1


def test_floors_that_change_after_judging_count_for_nothing(
    prod: Prod, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exchanged between the verdict and the entry."""
    good = prod.candidate("good")
    after_judging(monkeypatch, partial(_lower, prod))
    with pytest.raises(Refused, match="was changed while the candidate was judged by it"):
        prod.promote(good, "v0.1.0")
    assert prod.place.all() == {}


def _easy(prod: Prod) -> None:
    """An eval set that takes any answer, in the place of the committed one."""
    items = [{**item, "accept": ["wrong"]} for item in eval_items()]
    raw = jsonl(items)
    prod.settings.eval_set.write_bytes(raw)
    prod.edit(DVC, eval_set().dvc_hash, md5(raw))
    prod.write(BASELINE, json.dumps(baseline_of(eval_set(items))))


@pytest.mark.parametrize("put_back", [False, True], ids=["for good", "put back"])
def test_an_eval_set_that_is_there_only_while_judging_counts_for_nothing(
    prod: Prod, monkeypatch: pytest.MonkeyPatch, put_back: bool
) -> None:
    """Exchanged with its .dvc file and floors that fit, and perhaps put back afterwards."""
    files = [prod.root / name for name in (BASELINE, DVC, "data/eval.jsonl")]
    right = [file.read_bytes() for file in files]

    def restore() -> None:
        for file, raw in zip(files, right, strict=True):
            file.write_bytes(raw)

    _easy(prod)
    bad = prod.candidate("bad", wrong=12)
    restore()
    judge = promotion.judged_fact

    def judged_fact(*arguments: Any) -> Supported:
        _easy(prod)
        supported = judge(*arguments)
        if put_back:
            restore()
        return supported

    monkeypatch.setattr(promotion, "judged_fact", judged_fact)
    with pytest.raises(Refused, match=r"commit|was changed while"):
        prod.promote(bad, "v0.1.0")
    assert prod.place.all() == {}


# ----- what is judged by is still in force ----------------------------------------------------


def _raise_floors(prod: Prod) -> None:
    values = json.loads((prod.root / BASELINE).read_text())
    prod.write(BASELINE, json.dumps({**values, "tolerance_pp": 0.01}))


@pytest.mark.parametrize(
    ("change", "names"),
    [
        pytest.param(_raise_floors, BASELINE, id="floors"),
        pytest.param(lambda p: p.write(DVC, "outs: []\n"), DVC, id="eval set"),
        pytest.param(lambda p: (p.root / DVC).unlink(), DVC, id="eval set removed"),
        pytest.param(
            lambda p: p.edit(PYPROJECT, '"production"', '"stricter"'),
            "[tool.lynx_pipeline] in pyproject.toml",
            id="policy",
        ),
        pytest.param(
            lambda p: p.edit(PYPROJECT, BASELINE, "other.json"),
            "[tool.lynx_pipeline] in pyproject.toml",
            id="place of the floors",
        ),
        pytest.param(
            lambda p: p.write(PYPROJECT, "[tool"),
            "[tool.lynx_pipeline] in pyproject.toml",
            id="broken settings",
        ),
        pytest.param(
            lambda p: (p.root / PYPROJECT).unlink(),
            "[tool.lynx_pipeline] in pyproject.toml",
            id="no settings",
        ),
    ],
)
def test_a_branch_that_has_moved_to_other_rules_refuses(
    prod: Prod, change: Callable[[Prod], object], names: str
) -> None:
    """A run that is started anew weeks later does not go by floors that count no more."""
    good = prod.candidate("good")
    other = prod.colleague
    change(other)
    new = other.commit()
    for write in (partial(prod.promote, good, "v0.1.0"), partial(prod.rollback, "v0.1.0")):
        with pytest.raises(Refused) as caught:
            write()
        assert f"to {new[:12]}, which changes {names}: " in str(caught.value)
        assert "Start the workflow anew" in str(caught.value)
    assert prod.place.all() == {}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        pytest.param("README.md", "new\n", id="another file"),
        pytest.param("data/more.jsonl.dvc", "outs: []\n", id="other data"),
        pytest.param(PYPROJECT, "\n[tool.other]\nx = 1\n", id="another tool's table"),
    ],
)
def test_a_branch_that_has_moved_otherwise_does_not_matter(
    prod: Prod, name: str, text: str
) -> None:
    """The rules are the same there."""
    good = prod.candidate("good")
    other = prod.colleague
    with (other.root / name).open("a") as file:
        file.write(text)
    other.commit()
    assert prod.promote(good, "v0.1.0").seq == 1


def test_a_rewritten_branch_with_the_same_rules_does_not_matter(prod: Prod) -> None:
    """Its history is not what is judged by."""
    good = prod.candidate("good")
    prod.colleague.git("commit", "--quiet", "--amend", "--message", "y")
    prod.colleague.git("push", "--quiet", "--force", "origin", "HEAD:main")
    assert prod.promote(good, "v0.1.0").seq == 1


# ----- one of two racing promoters ------------------------------------------------------------


def race(sha: str, semver: str, evidence: Path, start: Path) -> str:
    """Promote here; wait between verdict and entry until the other one has come as far."""

    def wait() -> None:
        (start / semver).touch()
        end = time.monotonic() + 60
        while len(list(start.iterdir())) < 2 and time.monotonic() < end:
            time.sleep(0.001)

    with pytest.MonkeyPatch.context() as patch:
        after_judging(patch, wait)
        try:
            return f"promoted: {registry.promote(sha, semver, evidence=evidence).fact.semver}"
        except LynxError as error:
            return f"{type(error).__name__}: {error}"


# ----- behind the gate's back ---------------------------------------------------------------


def before_judging(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Do something once the identity is proven and before anything is judged."""
    real = promotion.judge_evidence

    def judge(*args: Any) -> Any:
        act()
        return real(*args)

    monkeypatch.setattr(promotion, "judge_evidence", judge)


@pytest.mark.parametrize(
    ("old", "new", "names"),
    [
        ('"production"', '"mine"', "identity"),
        ('registry = "registry"', 'registry = "elsewhere"', "registry"),
        ('model = "tiny"', 'model = "other"', "model"),
    ],
)
def test_settings_read_before_the_file_was_put_back_count_for_nothing(
    prod: Prod, old: str, new: str, names: str
) -> None:
    """The settings in use are compared, not only the file that they came from."""
    good = prod.candidate("good")
    prod.edit(PYPROJECT, old, new)
    settings = prod.prod
    prod.edit(PYPROJECT, new, old)
    if names == "identity":
        prod.issuer.changes["environment"] = "mine"
    with pytest.raises(Refused, match=f"^'{names}' is not what the commit"):
        registry.promote(good.sha, "v0.1.0", evidence=good.evidence, settings=settings)
    assert prod.place.all() == {}


def test_floors_raised_on_the_branch_while_judging_refuse(
    prod: Prod, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A colleague's merge during the download counts."""
    good = prod.candidate("good")

    def merge() -> None:
        _raise_floors(prod.colleague)
        prod.colleague.commit()

    before_judging(monkeypatch, merge)
    with pytest.raises(Refused, match="has moved from"):
        prod.promote(good, "v0.1.0")
    assert prod.place.all() == {}


@pytest.mark.parametrize(
    "name", [".github/CODEOWNERS", "lynx_pipeline/registry.py", "dev", "requirements.lock"]
)
def test_code_and_owners_changed_on_the_branch_refuse(prod: Prod, name: str) -> None:
    """A run of weeks ago, started again, has the gate and the owners of then."""
    good = prod.candidate("good")
    old = prod.git("rev-parse", "HEAD")
    file = prod.root / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("as it is now\n")
    prod.commit()
    prod.git("checkout", "--quiet", old)
    prod.run_here()
    with pytest.raises(Refused, match=rf"has moved from .* changes {name}: "):
        prod.promote(good, "v0.1.0")
    assert prod.place.all() == {}


def test_a_ref_that_only_ends_like_the_branch_is_not_it(prod: Prod) -> None:
    """Asked for refs/heads/main, git lists refs/a/refs/heads/main as well, and first."""
    good = prod.candidate("good")
    old = prod.git("rev-parse", "HEAD")
    _raise_floors(prod)
    prod.commit()
    prod.git("checkout", "--quiet", old)
    prod.run_here()
    prod.git("push", "--quiet", "origin", f"{old}:refs/a/refs/heads/main")
    with pytest.raises(Refused, match="has moved from"):
        prod.promote(good, "v0.1.0")
    assert prod.place.all() == {}


@pytest.mark.parametrize("prod", ["git"], indirect=True)
@pytest.mark.parametrize("kind", ["insteadOf", "pushInsteadOf"])
def test_git_configuration_leads_to_no_other_registry(
    prod: Prod, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """From a file or from the environment: nothing is read from there, nothing written."""
    good = prod.candidate("good")
    evil = OnGit.new(prod.folder / "evil.git")
    real = prod.place.setting.removeprefix("git+").partition("#")[0]
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", f"url.file://{evil.bare}.{kind}")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", real)
    with pytest.raises(Refused, match=f"leads from {real} to file://{evil.bare}"):
        prod.promote(good, "v0.1.0")
    with pytest.raises(Refused, match="leads from"):
        registry.resolve(settings=prod.prod)
    assert prod.place.all() == evil.all() == {}


def test_git_configuration_leads_to_no_other_branch_tip(
    prod: Prod, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor can it hide that the floors were raised."""
    good = prod.candidate("good")
    stale = prod.folder / "stale.git"
    shutil.copytree(prod.origin.bare, stale)
    _raise_floors(prod.colleague)
    prod.colleague.commit()
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", f"url.file://{stale}.insteadOf")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", prod.remote)
    with pytest.raises(Refused, match="leads from"):
        prod.promote(good, "v0.1.0")
    assert prod.place.all() == {}


@pytest.mark.parametrize("prod", ["git"], indirect=True)
def test_git_settings_for_a_remote_named_origin_are_not_ours(
    prod: Prod, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor people's hooks, nor that they sign what they push."""
    good = prod.candidate("good")
    evil = OnGit.new(prod.folder / "evil.git")
    hooks = prod.folder / "hooks"
    hooks.mkdir()
    (hooks / "pre-push").write_text("#!/bin/sh\nexit 1\n")
    (hooks / "pre-push").chmod(0o755)
    config = prod.folder / "gitconfig"
    config.write_text(
        f'[remote "origin"]\n\tpushurl = file://{evil.bare}\n\tmirror = true\n'
        f"[core]\n\thooksPath = {hooks}\n[push]\n\tgpgSign = true\n\tpushOption = x\n"
        "[tag]\n\tgpgSign = true\n[commit]\n\tgpgSign = true\n[protocol]\n\tversion = 0\n"
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    prod.promote(good, "v0.1.0")
    assert evil.all() == {}
    assert registry.resolve(settings=prod.prod).canonical_sha == good.sha


# ----- and audited ----------------------------------------------------------------------------


@both_stores
def test_a_promotion_in_prod_holds_in_an_audit(prod: Prod) -> None:
    """Also after the project went on to another policy and other floors."""
    good = prod.candidate("good")
    prod.promote(good, "v0.1.0")
    _raise_floors(prod)
    prod.edit(PYPROJECT, '"production"', '"stricter"')
    prod.commit()
    found = registry.audit("v0.1.0", settings=prod.prod)
    assert found.findings == ()
    assert found.verdict is not None
    assert found.verdict.passed


@pytest.mark.parametrize(
    ("actor", "says"),
    [
        ({"environment": "mine"}, "claim 'environment'"),
        ({"repository_id": "1"}, "claim 'repository_id'"),
        ({"sha": "0" * 40}, "git knows no commit"),
    ],
)
def test_an_entry_under_another_identity_is_caught(
    prod: Prod, actor: dict[str, str], says: str
) -> None:
    """The claims are held against the policy of the commit that they name."""
    entry = prod.promote(prod.candidate("good"), "v0.1.0")
    claims = {**(entry.fact.actor or {}), "jti": "another", **actor}
    prod.store.append(lambda _: replace(entry.fact, semver="v0.2.0", actor=claims))
    (finding,) = registry.audit("v0.2.0", settings=prod.prod).findings
    assert "does not bear it out" in finding
    assert says in finding


def test_an_entry_by_floors_that_nobody_committed_is_caught(prod: Prod) -> None:
    """Although they are kept, and the candidate keeps them."""
    bad = prod.candidate("bad", wrong=5)
    entry = prod.promote(prod.candidate("good"), "v0.1.0")
    settings = load_settings(prod.root, {"MLFLOW_TRACKING_URI": prod.tracking.uri})
    prod.write(BASELINE, LAX)
    forged = promotion.judged_fact(
        settings, bad.evidence, bad.sha, "v0.2.0", entry.fact.time, entry.fact.actor and
        {**entry.fact.actor, "jti": "another"}
    )  # fmt: skip
    fact = replace(forged.fact, env=Env.PROD)
    prod.store.append(lambda _: fact, forged.evidence)
    (finding,) = registry.audit("v0.2.0", settings=prod.prod).findings
    assert "baseline_sha256 is not of what the commit" in finding


if __name__ == "__main__":
    print(race(sys.argv[1], sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4])))
