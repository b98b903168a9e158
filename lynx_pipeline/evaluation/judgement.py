"""The judgement: stored evidence scored again and compared with the baseline as it is now.

No verdict is stored or trusted. Whoever needs one computes it here.
"""

from dataclasses import dataclass
from pathlib import Path

from lynx_pipeline.config import Settings
from lynx_pipeline.domain.gate.baseline import Baseline
from lynx_pipeline.domain.gate.rule import Verdict, judge
from lynx_pipeline.errors import Refused
from lynx_pipeline.evaluation.answers import AnyEvalSet
from lynx_pipeline.evaluation.evidence import Evidence, read_evidence
from lynx_pipeline.evaluation.inputs import matched_inputs


class GateRefused(Refused):
    """The gate said no. ``verdict`` says where and by how much."""

    def __init__(self, verdict: Verdict) -> None:
        self.verdict = verdict
        failed = "; ".join(bucket.reason for bucket in verdict.failed)
        super().__init__(
            f"the gate refused: {len(verdict.failed)} of {len(verdict.buckets)} buckets fell "
            f"more than {float(verdict.tolerance * 100):g} points below the baseline: {failed}."
        )


@dataclass(frozen=True, slots=True)
class Judged:
    """Evidence that was read, scored again and compared."""

    eval_set: AnyEvalSet
    evidence: Evidence
    baseline: Baseline
    verdict: Verdict


def judge_evidence(settings: Settings, folder: Path) -> Judged:
    """Apply the gate to stored evidence, with eval set and baseline as they are now.

    Raises:
        BadInput: evidence, eval set or baseline is not what it has to be.
    """
    eval_set, baseline = matched_inputs(settings)
    evidence = read_evidence(folder, eval_set)
    return Judged(eval_set, evidence, baseline, judge(baseline, evidence.evaluation.scores))
