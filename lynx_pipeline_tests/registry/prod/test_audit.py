"""Audits in prod: genuine promotions pass, and forged entries are reported."""

import json
from dataclasses import replace

import pytest

from lynx_pipeline.config import Settings, load_settings
from lynx_pipeline.domain.ledger.chain import Entry
from lynx_pipeline.domain.ledger.facts import Actor, Promoted
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.evaluation.evidence import EVAL
from lynx_pipeline.registry import Registry, promotion
from lynx_pipeline.registry.audit import audit
from lynx_pipeline_tests.registry.prod.conftest import (
    BASELINE,
    LAX,
    PYPROJECT,
    Prod,
    both_stores,
    raise_floors,
)
from lynx_pipeline_tests.support.signing import sign
from lynx_pipeline_tests.support.world import Made


@both_stores
def test_a_promotion_in_prod_passes_the_audit(prod: Prod) -> None:
    """Later changes to the policy and the floors do not matter."""
    good = prod.candidate("good")
    prod.promote(good, "v0.1.0")
    raise_floors(prod)
    prod.edit(PYPROJECT, '"production"', '"stricter"')
    prod.commit()
    found = audit(Registry.open(prod.prod), "v0.1.0")
    assert found.findings == ()
    assert found.verdict is not None
    assert found.verdict.passed


@pytest.mark.parametrize(
    ("actor", "message"),
    [
        ({"environment": "mine"}, "claim 'environment'"),
        ({"workflow_ref": "o/r/.github/workflows/x.yml@refs/heads/main"}, "claim 'workflow_ref'"),
        ({"sha": "0" * 40}, "git has no commit"),
    ],
)
def test_an_entry_with_a_forged_identity_is_reported(
    prod: Prod, actor: dict[str, str], message: str
) -> None:
    """The claims are compared with the policy in the commit that they name."""
    entry = prod.promote(prod.candidate("good"), "v0.1.0")
    assert isinstance(entry.fact.actor, Actor)
    other = replace(entry.fact.actor, **{"jti": "another", **actor})
    prod.store.append(lambda _: replace(entry.fact, semver="v0.2.0", actor=other), sign=sign)
    finding, statement = audit(Registry.open(prod.prod), "v0.2.0").findings
    assert "the entry's signed statement" in statement
    assert "does not support it" in finding
    assert message in finding


def forge(prod: Prod, made: Made, genuine: Entry[Promoted], settings: Settings) -> str:
    """Append ``v0.2.0`` to prod's registry with the genuine entry's claims, judged with other
    ``settings``. Returns what the audit finds."""
    request = promotion.PromotionRequest(
        canonical_sha=made.sha,
        semver="v0.2.0",
        candidate=made.run_id,
        bundle_digest=None,
        evidence=made.evidence,
    )
    assert isinstance(genuine.fact.actor, Actor)
    actor = replace(genuine.fact.actor, jti="another")
    forged = promotion.build_promotion(settings, request, genuine.fact.time, actor)
    prod.store.append(lambda _: replace(forged.fact, env=Env.PROD), forged.files, sign)
    finding, statement = audit(Registry.open(prod.prod), "v0.2.0").findings
    assert "the entry's signed statement" in statement
    return finding


def test_an_entry_judged_by_uncommitted_floors_is_reported(prod: Prod) -> None:
    """The floors are stored as evidence and the candidate meets them, but they were never
    committed."""
    bad = prod.candidate("bad", wrong=5)
    entry = prod.promote(prod.candidate("good"), "v0.1.0")
    settings = load_settings(prod.root, {"MLFLOW_TRACKING_URI": prod.tracking.uri})
    prod.write(BASELINE, LAX)
    finding = forge(prod, bad, entry, settings)
    assert "baseline_sha256 differs from the commit" in finding


def test_an_entry_with_an_uncommitted_answer_column_is_reported(prod: Prod) -> None:
    """The setting decides which of a model's outputs were scored."""
    made = prod.candidate("good")
    entry = prod.promote(made, "v0.1.0")
    file = made.evidence / EVAL
    file.write_text(json.dumps({**json.loads(file.read_bytes()), "answer_column": "label"}))
    settings = load_settings(prod.root, {"MLFLOW_TRACKING_URI": prod.tracking.uri})
    other_column = replace(settings.evaluation, answer_column="label")
    finding = forge(prod, made, entry, replace(settings, evaluation=other_column))
    assert "answer_column is None there, and the evaluation used 'label'" in finding
