"""What was promoted in prod holds in an audit, and what was not is caught."""

from dataclasses import replace

import pytest

from lynx_pipeline.config import load_settings
from lynx_pipeline.domain.ledger.facts import Actor
from lynx_pipeline.domain.versioning import Env
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


@both_stores
def test_a_promotion_in_prod_holds_in_an_audit(prod: Prod) -> None:
    """Also after the project went on to another policy and other floors."""
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
    ("actor", "says"),
    [
        ({"environment": "mine"}, "claim 'environment'"),
        ({"repository_id": "1"}, "claim 'repository_id'"),
        ({"sha": "0" * 40}, "git has no commit"),
    ],
)
def test_an_entry_under_another_identity_is_caught(
    prod: Prod, actor: dict[str, str], says: str
) -> None:
    """The claims are held against the policy of the commit that they name."""
    entry = prod.promote(prod.candidate("good"), "v0.1.0")
    assert isinstance(entry.fact.actor, Actor)
    other = replace(entry.fact.actor, **{"jti": "another", **actor})
    prod.store.append(lambda _: replace(entry.fact, semver="v0.2.0", actor=other))
    (finding,) = audit(Registry.open(prod.prod), "v0.2.0").findings
    assert "does not support it" in finding
    assert says in finding


def test_an_entry_by_floors_that_nobody_committed_is_caught(prod: Prod) -> None:
    """Although they are kept, and the candidate keeps them."""
    bad = prod.candidate("bad", wrong=5)
    entry = prod.promote(prod.candidate("good"), "v0.1.0")
    settings = load_settings(prod.root, {"MLFLOW_TRACKING_URI": prod.tracking.uri})
    prod.write(BASELINE, LAX)
    assert isinstance(entry.fact.actor, Actor)
    request = promotion.PromotionRequest(
        canonical_sha=bad.sha, semver="v0.2.0", run_id=bad.run_id, evidence=bad.evidence
    )
    other = replace(entry.fact.actor, jti="another")
    forged = promotion.build_promotion(settings, request, entry.fact.time, other)
    fact = replace(forged.fact, env=Env.PROD)
    prod.store.append(lambda _: fact, forged.files)
    (finding,) = audit(Registry.open(prod.prod), "v0.2.0").findings
    assert "baseline_sha256 differs from the commit" in finding
