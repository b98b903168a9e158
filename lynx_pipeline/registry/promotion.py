"""Building a promotion: from evidence to the fact that may enter the ledger.

No stored verdict is trusted. The evidence is judged again, the corpus is checked again if the
project lets it block, and the candidate's bundle is downloaded and hashed again. If the project has
a bundle store, the bundle is kept there before the ledger can name it.
"""

import hashlib
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from lynx_pipeline.adapters.files import read_bytes
from lynx_pipeline.config import Settings
from lynx_pipeline.domain.candidate_eval import BUBBLEWRAP, corpus_to_json
from lynx_pipeline.domain.corpus import CorpusDigests
from lynx_pipeline.domain.cost import cpqu
from lynx_pipeline.domain.gate.rule import Verdict
from lynx_pipeline.domain.ledger.facts import Actor, Evidence, Promoted
from lynx_pipeline.domain.text import Say, silent
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.errors import BadInput, Refused
from lynx_pipeline.evaluation.candidate import fresh_bundle
from lynx_pipeline.evaluation.corpus import check_corpus
from lynx_pipeline.evaluation.evidence import changes_since
from lynx_pipeline.evaluation.judgement import GateRefused, Judged, judge_evidence
from lynx_pipeline.registry import bundles


class EvidenceFiles(NamedTuple):
    """The bytes that the registry keeps of a promotion's evidence."""

    baseline: bytes
    candidate_eval: bytes
    predictions: bytes
    manifest: bytes


@dataclass(frozen=True, slots=True)
class SupportedPromotion:
    """A promotion that passed the gate, and the evidence files whose digests it names."""

    fact: Promoted
    evidence: Evidence
    verdict: Verdict
    files: EvidenceFiles


@dataclass(frozen=True, slots=True, kw_only=True)
class PromotionRequest:
    """What to promote. ``candidate`` is the requested candidate's key; None means the evidence's.
    ``bundle_digest`` is that of the requested bundle; None means the evidence's."""

    canonical_sha: str
    semver: str
    candidate: str | None
    bundle_digest: str | None
    evidence: Path


def build_promotion(
    settings: Settings,
    request: PromotionRequest,
    time: str,
    actor: Actor | None,
    say: Say = silent,
) -> SupportedPromotion:
    """The promotion that the evidence supports. ``say`` reports the download of a large model.

    Raises:
        GateRefused: a bucket fell too far.
        CorpusRefused: the corpus checks block, and fail.
        Refused: this is ``prod`` and the candidate was not isolated.
        BadInput: the evidence belongs to another bundle, candidate or corpus, or the candidate's
            bundle has changed in any byte.
        SystemFailed: MLflow, the bundle store or the disk failed.
    """
    judged = judge_evidence(settings, request.evidence)
    evaluation = judged.evidence.evaluation
    candidate = _check_belongs(judged, request)
    if settings.env is Env.PROD and not evaluation.isolated:
        raise Refused(
            f"the candidate was evaluated with isolation {evaluation.isolation!r} and could have "
            f"read the answers; prod expects {BUBBLEWRAP!r}. Evaluate it again."
        )
    if not judged.verdict.passed:
        raise GateRefused(judged.verdict)
    corpus = check_corpus(settings, judged.eval_set)
    if evaluation.corpus not in (None, corpus):
        raise BadInput(
            "the corpus has changed since the evaluation, so the evidence names another one. "
            "Evaluate the candidate again; its stored answers are reused."
        )
    with fresh_bundle(settings, candidate, say) as (folder, bundle, model):
        if evaluation.bundle_digest is None:
            raise BadInput(
                "the evidence does not say which bytes were evaluated: it has no bundle digest. "
                "Evaluate the candidate again."
            )
        if bundle.digest != evaluation.bundle_digest:
            changes = changes_since(request.evidence, evaluation.bundle_digest, bundle)
            raise BadInput(
                f"the bundle of candidate {candidate} has changed since its evaluation: {changes}. "
                f"Its digest is now {bundle.digest[:12]}, and {evaluation.bundle_digest[:12]} was "
                "evaluated. Evaluate the candidate again."
            )
        if request.bundle_digest not in (None, bundle.digest):
            raise BadInput(
                f"the bundle of candidate {candidate} has changed since its request: its digest is "
                f"now {bundle.digest[:12]}, and {str(request.bundle_digest)[:12]} was requested. "
                "Request it again."
            )
        if bundle.canonical_sha != request.canonical_sha:
            raise BadInput(
                f"the bundle of candidate {candidate} has the canonical sha "
                f"{bundle.canonical_sha[:12]}, expected {request.canonical_sha[:12]}. Evaluate the "
                "candidate again."
            )
        bundles.keep(settings, folder, bundle)
    counts, evidence = evaluation.counts, summarize(judged, corpus)
    fact = Promoted(
        time=time,
        env=settings.env,
        model=settings.model,
        mlflow_run_id=model.run_id,
        artifact_uri=model.uri,
        canonical_sha=request.canonical_sha,
        bundle_digest=bundle.digest,
        parent_sha=bundle.parent_sha,
        semver=request.semver,
        evidence=evidence,
        actor=actor,
        cpqu=cpqu(
            price_per_hour=settings.price_per_hour,
            tokens_per_second=evaluation.metrics.get("tokens_per_second", 0.0),
            accuracy=counts.correct / counts.n,
        ),
    )
    files = EvidenceFiles(
        baseline=unchanged_baseline(settings, evidence),
        candidate_eval=judged.evidence.candidate_eval,
        predictions=judged.evidence.predictions,
        manifest=bundle.manifest,
    )
    return SupportedPromotion(fact, evidence, judged.verdict, files)


def _check_belongs(judged: Judged, request: PromotionRequest) -> str:
    """The evidence's candidate, checked to be the requested one, as the bundle is."""
    evaluation = judged.evidence.evaluation
    if evaluation.canonical_sha != request.canonical_sha:
        raise BadInput(
            f"the evidence is of the bundle {evaluation.canonical_sha[:12]}, expected "
            f"{request.canonical_sha[:12]}. Evaluate the candidate again."
        )
    # A folder's evaluation names a run at most.
    candidate = evaluation.candidate or evaluation.mlflow_run_id
    if candidate is None:
        raise BadInput(
            "the evidence names no candidate, so its bundle can't be downloaded. Evaluate the "
            "candidate again."
        )
    if request.candidate not in (None, candidate):
        raise BadInput(
            f"the evidence belongs to candidate {candidate}, expected {request.candidate}. "
            "Evaluate the candidate again."
        )
    return candidate


def unchanged_baseline(settings: Settings, evidence: Evidence) -> bytes:
    """The baseline's bytes, checked to be those that the candidate was judged by.

    Raises:
        Refused: the file has changed meanwhile.
    """
    raw = read_bytes(settings.baseline, "no baseline, so nothing can be promoted")
    if hashlib.sha256(raw).hexdigest() != evidence.baseline_sha256:
        raise Refused(
            f"{settings.baseline.name} was changed while the candidate was judged by it. Promote "
            "again."
        )
    return raw


def summarize(judged: Judged, corpus: CorpusDigests | None) -> Evidence:
    """What the entry records of the evidence, and of the project's corpus."""
    worst = judged.verdict.worst
    evaluation = judged.evidence.evaluation
    return Evidence(
        eval_set_dvc_hash=evaluation.eval_set_dvc_hash,
        eval_set_sha256=evaluation.eval_set_sha256,
        baseline_sha256=judged.baseline.sha256,
        candidate_eval_sha256=judged.evidence.sha256,
        predictions_sha256=evaluation.predictions_sha256,
        scorer=evaluation.scorer,
        isolation=evaluation.isolation,
        tolerance=float(judged.verdict.tolerance),
        worst_bucket=worst.name,
        worst_margin=round(float(worst.margin or Fraction(0)), 6),
        **corpus_to_json(corpus),
    )
