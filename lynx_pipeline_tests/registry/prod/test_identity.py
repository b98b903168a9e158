"""Only the workflow's verified identity changes prod, and each token allows one change."""

import os
import subprocess
import sys
from dataclasses import asdict, replace
from functools import partial

import pytest

from lynx_pipeline.domain.ledger.facts import Actor, Evidence
from lynx_pipeline.domain.release.identity import PRESENT
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.errors import BadInput, LynxError, Refused, SystemFailed
from lynx_pipeline.evaluation.evidence import EVAL, PREDICTIONS
from lynx_pipeline.evaluation.judgement import GateRefused
from lynx_pipeline.registry import Registry
from lynx_pipeline.registry.audit import audit
from lynx_pipeline.reports.audit import print_audit
from lynx_pipeline_tests.registry.prod import judging
from lynx_pipeline_tests.registry.prod.conftest import PYPROJECT, Prod, both_stores
from lynx_pipeline_tests.registry.prod.judging import after_judging
from lynx_pipeline_tests.support import REPO
from lynx_pipeline_tests.support.builders import PROMOTED, ROLLED_BACK
from lynx_pipeline_tests.support.fake_issuer import MAIN, WORKFLOW_REF, jwk, rs, running
from lynx_pipeline_tests.support.places import git

IDENTITY = "prod is changed only by the CI workflow's verified identity"


def leave_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the CI job's variables, as on a developer's machine."""
    for name in (
        "GITHUB_ACTIONS",
        "ACTIONS_ID_TOKEN_REQUEST_URL",
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
    ):
        monkeypatch.delenv(name)


# ----- the workflow may change prod -----------------------------------------------------------


@both_stores
def test_the_workflow_promotes_in_prod(prod: Prod) -> None:
    """The entry names the actor, the evidence is stored, and only prod resolves the version."""
    good = prod.candidate("good")
    prod.issuer.changes["jti"] = "this token"
    entry = prod.promote(good, "v0.1.0")
    head = prod.git("rev-parse", "HEAD")
    assert (entry.fact.env, entry.fact.event, entry.fact.semver) == (Env.PROD, PROMOTED, "v0.1.0")
    assert entry.fact.canonical_sha == good.sha
    assert isinstance(entry.fact.actor, Actor)
    assert asdict(entry.fact.actor) == {
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
    assert Registry.open(prod.prod).verify().entries == (entry,)
    assert Registry.open(prod.prod).resolve().semver == "v0.1.0"
    assert Registry.open(prod.prod).resolve("v0.1.0").canonical_sha == good.sha
    with pytest.raises(Refused, match="nothing was promoted in dev"):
        Registry.open(prod.settings).resolve()
    kept = entry.fact.evidence
    assert isinstance(kept, Evidence)
    assert kept.isolation == "bubblewrap"
    for name, file in (
        ("baseline", prod.settings.baseline),
        ("candidate_eval", good.evidence / EVAL),
        ("predictions", good.evidence / PREDICTIONS),
    ):
        assert prod.store.evidence(getattr(kept, f"{name}_sha256")) == file.read_bytes()
    assert audit(Registry.open(prod.prod), "v0.1.0").findings == ()


def test_a_job_of_a_pinned_reusable_workflow_promotes(
    prod: Prod, capsys: pytest.CaptureFixture[str]
) -> None:
    """The audit names both files. A job of the caller promotes no longer."""
    called = f"octo-org/ci/.github/workflows/promote.yml@{'e' * 40}"
    table = "[tool.lynx_pipeline.identity]\n"
    prod.edit(PYPROJECT, table, f'{table}job_workflow = "{called}"\n')
    prod.commit()
    prod.issue_tokens_for_head()
    good = prod.candidate("good")
    with pytest.raises(Refused, match=f"claim 'job_workflow_ref': got '{WORKFLOW_REF}'"):
        prod.promote(good, "v0.1.0")
    prod.issuer.changes["job_workflow_ref"] = called
    entry = prod.promote(good, "v0.1.0")
    assert isinstance(entry.fact.actor, Actor)
    assert entry.fact.actor.job_workflow_ref == called
    found = audit(Registry.open(prod.prod), "v0.1.0")
    assert found.findings == ()
    print_audit(found)
    printed = capsys.readouterr().out
    assert f"{WORKFLOW_REF} at {entry.fact.actor.sha[:12]}, job of {called}, run " in printed


@both_stores
def test_a_repeated_promotion_changes_nothing(prod: Prod) -> None:
    """A retried job returns the same entry, with its old token or a new one."""
    good = prod.candidate("good")
    prod.issuer.token_to_give = prod.issuer.token(**prod.issuer.changes)
    first = prod.promote(good, "v0.1.0")
    before = prod.place.all()
    assert prod.promote(good, "v0.1.0") == first
    prod.issuer.token_to_give = None
    assert prod.promote(good, "v0.1.0") == first
    assert prod.place.all() == before


@both_stores
def test_a_rollback_needs_a_verified_identity(prod: Prod, monkeypatch: pytest.MonkeyPatch) -> None:
    """The entry names the actor, as that of a promotion does."""
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
    assert isinstance(entry.fact.actor, Actor)
    assert entry.fact.actor.jti == "back"
    assert Registry.open(prod.prod).resolve().canonical_sha == one.sha
    before = prod.place.all()
    assert prod.rollback("v0.1.0").fact.canonical_sha == one.sha
    assert prod.place.all() == before


def test_a_shallow_checkout_is_enough(prod: Prod) -> None:
    """A runner has one commit and no branch, and the remote may have newer commits."""
    prod.colleague.write("README.md", "one\n")
    prod.colleague.commit()
    root = prod.folder / "runner"
    git(root.parent, "clone", "--quiet", "--depth=1", "--branch=main", prod.remote, root.name)
    git(root, "checkout", "--quiet", "--detach")
    runner = prod.at(root)
    runner.issue_tokens_for_head()
    prod.colleague.write("README.md", "two\n")
    prod.colleague.commit()
    assert runner.promote(runner.candidate("good"), "v0.1.0").seq == 1


# ----- a token is for one change --------------------------------------------------------------


@both_stores
def test_a_token_changes_prod_once(prod: Prod) -> None:
    """A used token allows neither another promotion nor a rollback."""
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


@both_stores
def test_a_token_used_during_judging_is_refused(
    prod: Prod, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The token is unused when it is verified, but used before the entry is written."""
    one, two = prod.candidate("one"), prod.candidate("two")
    prod.issuer.token_to_give = prod.issuer.token(**prod.issuer.changes)
    after_judging(monkeypatch, partial(prod.promote, one, "v0.1.0"))
    with pytest.raises(Refused, match=r"claim 'jti'.*entry 1 already used"):
        prod.promote(two, "v0.2.0")
    (entry,) = Registry.open(prod.prod).history()
    assert entry.fact.semver == "v0.1.0"


@pytest.mark.slow
@both_stores
def test_only_one_of_two_promoters_with_the_same_token_wins(prod: Prod) -> None:
    """Both processes have judged before either of them writes."""
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
            [sys.executable, "-m", judging.__name__, it.sha, semver, it.evidence, start],
            cwd=prod.root,
            env=environ,
            stdout=subprocess.PIPE,
            text=True,
        )
        for semver, it in made.items()
    ]
    outputs = [racer.communicate(timeout=120)[0] for racer in racers]
    assert sorted(text.partition(":")[0] for text in outputs) == ["Refused", "promoted"], outputs
    (refused,) = (text for text in outputs if text.startswith("Refused"))
    assert "claim 'jti'" in refused or "is not greater than v0.2.0" in refused
    (entry,) = Registry.open(prod.prod).history()
    assert f"promoted: {entry.fact.semver}\n" in outputs


# ----- everybody else is refused --------------------------------------------------------------


def test_a_spoofed_runner_is_refused(prod: Prod, monkeypatch: pytest.MonkeyPatch) -> None:
    """Environment variables prove nothing, and a token needs the issuer's signature."""
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
def test_a_token_with_different_claims_is_refused(prod: Prod, changes: dict[str, str]) -> None:
    """Promotions and rollbacks are refused before anything is written."""
    good = prod.candidate("good")
    prod.issuer.changes |= changes
    (name,) = changes
    for write in (partial(prod.promote, good, "v0.1.0"), partial(prod.rollback, "v0.1.0")):
        with pytest.raises(Refused, match=f"claim '{name}': got '{changes[name]}', expected"):
            write()
    assert prod.place.all() == {}


def test_an_issuer_failure_is_a_system_failure(prod: Prod) -> None:
    """Nothing is promoted, and the promotion can be retried."""
    good = prod.candidate("good")
    prod.issuer.keys = [jwk(), jwk()]
    with pytest.raises(SystemFailed):
        prod.promote(good, "v0.1.0")
    assert prod.place.all() == {}
    prod.issuer.keys = [jwk()]
    prod.promote(good, "v0.1.0")


# ----- a valid identity is not enough ---------------------------------------------------------


def test_the_gate_applies_to_the_workflow_too(prod: Prod) -> None:
    """A regressed candidate is refused."""
    bad = prod.candidate("bad", wrong=1)
    with pytest.raises(GateRefused, match=r"half\.a"):
        prod.promote(bad, "v0.1.0")
    assert prod.place.all() == {}


@pytest.mark.parametrize("isolation", ["none", "", "Bubblewrap", "bubblewrap2"])
def test_a_candidate_that_could_read_the_answers_is_refused(prod: Prod, isolation: str) -> None:
    """Prod requires exactly bubblewrap as the isolation level."""
    made = replace(prod, isolation=isolation).candidate("bare")
    with pytest.raises(LynxError, match="isolation"):
        prod.promote(made, "v0.1.0")
    assert prod.place.all() == {}


def test_prod_refuses_changes_by_hand(prod: Prod) -> None:
    """Registrations and promotions without evidence are refused before a token is requested."""
    good = prod.candidate("good")
    with pytest.raises(Refused, match=IDENTITY):
        Registry.open(prod.prod).register_pending(good.run_id)
    with pytest.raises(Refused, match=IDENTITY):
        Registry.open(prod.prod).promote(good.sha, "v0.1.0")
    assert (prod.place.all(), prod.issuer.requested_paths) == ({}, [])


@pytest.mark.parametrize("semver", ["v0.1.0-dev", "v0.1.0-rc.1", "0.1.0", "latest"])
def test_prod_accepts_only_release_versions(prod: Prod, semver: str) -> None:
    """The workflow's identity makes no difference."""
    good = prod.candidate("good")
    with pytest.raises(BadInput, match="can't name a promotion in prod"):
        prod.promote(good, semver)
    assert prod.place.all() == {}


def test_without_an_identity_policy_prod_cannot_change(prod: Prod) -> None:
    """A missing table trusts nobody."""
    good = prod.candidate("good")
    text = (prod.root / PYPROJECT).read_text()
    prod.write(PYPROJECT, text.partition("[tool.lynx_pipeline.identity]")[0])
    prod.commit()
    prod.issue_tokens_for_head()
    for write in (partial(prod.promote, good, "v0.1.0"), partial(prod.rollback, "v0.1.0")):
        with pytest.raises(Refused, match=r"fill \[tool\.lynx_pipeline\.identity\]"):
            write()
    assert (prod.place.all(), prod.issuer.requested_paths) == ({}, [])
