"""A new baseline out of an evaluation. Committing it, and who may, is git's business."""

import json
from pathlib import Path

from lynx_pipeline.adapters.files import write_whole
from lynx_pipeline.config import Settings
from lynx_pipeline.domain.baseline import Baseline, parse_baseline
from lynx_pipeline.domain.scores import written
from lynx_pipeline.errors import BadInput
from lynx_pipeline.flow.data import read_baseline, read_eval_set
from lynx_pipeline.flow.evaluation import EVAL, read_evidence

FIRST_TOLERANCE = 0.02


def propose(settings: Settings, evaluation: Path, justification: str) -> Baseline:
    """Write the baseline file from ``evaluation``, a ``candidate_eval.json`` whose predictions
    lie beside it and are scored again. Tolerance and lineage carry over from the present one.

    Raises:
        BadInput: the evaluation does not verify, or there is no justification.
    """
    if not justification.strip():
        raise BadInput("a new baseline needs a justification: say why the floors may change.")
    if evaluation.name != EVAL:
        raise BadInput(f"{evaluation}: expected a file named {EVAL} with its evidence beside it.")
    proposed = read_evidence(evaluation.parent, read_eval_set(settings)).evaluation
    before = read_baseline(settings.baseline) if settings.baseline.exists() else None
    values = {
        "eval_set_dvc_hash": proposed.eval_set_dvc_hash,
        "eval_set_sha256": proposed.eval_set_sha256,
        "baseline_sha": proposed.canonical_sha,
        "previous_baseline_sha": before.baseline_sha if before else None,
        "tolerance_pp": float(before.tolerance) if before else FIRST_TOLERANCE,
        "justification": justification.strip(),
        "buckets": written(proposed.counts.buckets),
    }
    raw = json.dumps(values, indent=2, ensure_ascii=False).encode() + b"\n"
    baseline = parse_baseline(raw, str(settings.baseline))
    write_whole(settings.baseline, raw)
    return baseline
