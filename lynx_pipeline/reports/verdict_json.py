"""A verdict as JSON, for ``--json``."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from lynx_pipeline.domain.gate.rule import BucketVerdict, Verdict

if TYPE_CHECKING:
    from lynx_pipeline.domain.corpus import CorpusFindings


def verdict_json(verdict: Verdict) -> dict[str, Any]:
    """The verdict with every bucket. Shares are rounded, for display only: the gate compares exact
    fractions."""
    return {
        "passed": verdict.passed,
        "tolerance": float(verdict.tolerance),
        "worst_bucket": verdict.worst.name,
        "failed": [bucket.name for bucket in verdict.failed],
        "ungated": list(verdict.ungated),
        "buckets": {bucket.name: _bucket(bucket) for bucket in verdict.buckets},
    }


def corpus_json(findings: "CorpusFindings") -> dict[str, Any]:
    """An eval set compared with a corpus."""
    overlap = asdict(findings.overlap)
    overlap["examples"] = [{"id": it, "prompt": prompt} for it, prompt in findings.overlap.examples]
    return {
        "not_in_corpus": findings.separate,
        "represents_corpus": findings.represents,
        "items": findings.items,
        "lines": findings.lines,
        "overlap": overlap,
        "shifts": [{**asdict(shift), "result": shift.result} for shift in findings.shifts],
    }


def _bucket(bucket: BucketVerdict) -> dict[str, Any]:
    candidate, margin = bucket.candidate, bucket.margin
    return {
        "passed": bucket.passed,
        "n": bucket.baseline.n,
        "baseline": float(bucket.baseline.accuracy),
        "floor": float(bucket.floor),
        "candidate": None if candidate is None else float(candidate.accuracy),
        "margin": None if margin is None else float(margin),
    }
