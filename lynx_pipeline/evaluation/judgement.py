"""The judgement: stored evidence scored again and compared with the current baseline.

No verdict is stored or trusted. Code that needs one computes it here.
"""

from dataclasses import dataclass
from pathlib import Path

from lynx_pipeline.config import Settings
from lynx_pipeline.domain.gate.baseline import Baseline
from lynx_pipeline.domain.gate.rule import Verdict, judge
from lynx_pipeline.errors import Refused
from lynx_pipeline.evaluation.evidence import Evidence, read_evidence
from lynx_pipeline.evaluation.inputs import matched_inputs
from lynx_pipeline.evaluation.storage import StoredEvalSet


class GateRefused(Refused):
    """The gate refused. ``verdict`` says which buckets failed, and by how much."""

    def __init__(self, verdict: Verdict) -> None:
        self.verdict = verdict
        failed = "; ".join(bucket.reason for bucket in verdict.failed)
        super().__init__(
            f"the gate refused: {len(verdict.failed)} of {len(verdict.buckets)} buckets fell "
            f"more than {float(verdict.tolerance * 100):g} points below the baseline: {failed}."
        )


@dataclass(frozen=True, slots=True)
class Judged:
    """Verified evidence, its verdict, and what it was judged with."""

    eval_set: StoredEvalSet
    evidence: Evidence
    baseline: Baseline
    verdict: Verdict


def judge_evidence(settings: Settings, folder: Path) -> Judged:
    """Apply the gate to stored evidence, with the current eval set and baseline.

    Raises:
        BadInput: evidence, eval set or baseline is invalid.
    """
    eval_set, baseline = matched_inputs(settings)
    evidence = read_evidence(folder, eval_set, settings.evaluation.answer_column)
    return apply_gate(eval_set, evidence, baseline)


def apply_gate(eval_set: StoredEvalSet, evidence: Evidence, baseline: Baseline) -> Judged:
    """Compare verified evidence with a baseline of the same eval set."""
    return Judged(eval_set, evidence, baseline, judge(baseline, evidence.evaluation.scores))
