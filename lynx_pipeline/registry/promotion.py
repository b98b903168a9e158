"""From evidence to the fact that may enter the ledger. Nothing here trusts a verdict."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from lynx_pipeline.adapters.files import read_bytes
from lynx_pipeline.config import Settings
from lynx_pipeline.domain.candidate_eval import BUBBLEWRAP
from lynx_pipeline.domain.cost import cpqu
from lynx_pipeline.domain.ledger.chain import PROMOTED, Fact
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.errors import BadInput, Refused
from lynx_pipeline.evaluation.candidate import fresh_bundle
from lynx_pipeline.evaluation.judgement import GateRefused, Judged, judge_evidence


@dataclass(frozen=True, slots=True)
class Supported:
    """A promotion, and the bytes of the evidence that supports it: ``candidate_eval.json``, the
    predictions, and the baseline, whose digests the fact names."""

    fact: Fact
    evidence: tuple[bytes, ...]


def judged_fact(
    settings: Settings,
    folder: Path,
    canonical_sha: str,
    semver: str,
    time: str,
    actor: Mapping[str, str] | None,
) -> Supported:
    """The promotion that the evidence in ``folder`` supports.

    Raises:
        GateRefused: a bucket fell too far.
        Refused: this is ``prod`` and the candidate was not isolated.
        BadInput: the evidence is of another bundle, or the run's bundle is no longer it.
    """
    judged = judge_evidence(settings, folder)
    evaluation = judged.evidence.evaluation
    if settings.env is Env.PROD and not evaluation.isolated:
        raise Refused(
            f"the candidate was evaluated with isolation {evaluation.isolation!r}, and could "
            f"have read the answers; prod expects {BUBBLEWRAP!r}. Evaluate it again."
        )
    if evaluation.canonical_sha != canonical_sha:
        raise BadInput(
            f"the evidence is of the bundle {evaluation.canonical_sha[:12]}, not of "
            f"{canonical_sha[:12]}. Evaluate the candidate again."
        )
    if evaluation.mlflow_run_id is None:
        raise BadInput("the evidence names no MLflow run, so its bundle can't be fetched.")
    if not judged.verdict.passed:
        raise GateRefused(judged.verdict)
    with fresh_bundle(settings, evaluation.mlflow_run_id) as (_, bundle, uri):
        if bundle.canonical_sha != canonical_sha:
            raise BadInput(
                f"the bundle of run {evaluation.mlflow_run_id} is now "
                f"{bundle.canonical_sha[:12]}, but {canonical_sha[:12]} was evaluated: it was "
                "changed in between. Evaluate the candidate again."
            )
    counts = evaluation.counts
    fact = Fact(
        time=time,
        env=settings.env,
        event=PROMOTED,
        model=settings.model,
        mlflow_run_id=evaluation.mlflow_run_id,
        artifact_uri=uri,
        canonical_sha=canonical_sha,
        parent_sha=bundle.parent_sha,
        semver=semver,
        evidence=digests(judged),
        actor=actor,
        cpqu=cpqu(
            price_per_hour=settings.price_per_hour,
            tokens_per_second=evaluation.metrics.get("tokens_per_second", 0.0),
            accuracy=counts.correct / counts.n,
        ),
    )
    return Supported(fact, (*judged.evidence.files, unmoved_baseline(settings, fact)))


def unmoved_baseline(settings: Settings, fact: Fact) -> bytes:
    """The baseline's bytes, if they still are those that ``fact`` was judged by.

    Raises:
        Refused: they are others.
    """
    raw = read_bytes(settings.baseline, "no baseline, so nothing can be promoted")
    judged_by = (fact.evidence or {})["baseline_sha256"]
    if hashlib.sha256(raw).hexdigest() != judged_by:
        raise Refused(
            f"{settings.baseline.name} was changed while the candidate was judged by it. Nothing "
            "was changed; promote again."
        )
    return raw


def digests(judged: Judged) -> dict[str, Any]:
    """What an entry says about the evidence. The numbers are for reading: the files that the
    digests name give them again."""
    worst = judged.verdict.worst
    evaluation = judged.evidence.evaluation
    return {
        "eval_set_dvc_hash": evaluation.eval_set_dvc_hash,
        "eval_set_sha256": evaluation.eval_set_sha256,
        "baseline_sha256": judged.baseline.sha256,
        "candidate_eval_sha256": judged.evidence.sha256,
        "predictions_sha256": evaluation.predictions_sha256,
        "scorer": evaluation.scorer,
        "isolation": evaluation.isolation,
        "tolerance": float(judged.verdict.tolerance),
        "worst_bucket": worst.name,
        "worst_margin": round(float(worst.margin or Fraction(0)), 6),
    }
