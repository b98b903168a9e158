"""New baselines: proposed from an evaluation, and checked against the baseline before.

The predictions that a baseline was counted from are stored under DVC: see :func:`reference_file`.
They support its numbers, and candidates are compared with them
answer by answer. Committing a baseline, and who may do so, is left to git.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from lynx_pipeline.adapters import dvc_data, git_files
from lynx_pipeline.adapters.dvc_files import OnDisk, find, find_if_tracked, own_record
from lynx_pipeline.adapters.files import restored_on_failure, write_atomic
from lynx_pipeline.config import Settings, load_each_committed
from lynx_pipeline.domain.candidate_eval import Counts
from lynx_pipeline.domain.gate.baseline import LATENCY, Baseline, parse_baseline
from lynx_pipeline.domain.gate.baseline_change import (
    BucketChange,
    bucket_changes,
    drift,
    objections,
)
from lynx_pipeline.domain.scorers import EXACT
from lynx_pipeline.domain.scores import Score, buckets_to_json
from lynx_pipeline.errors import BadInput
from lynx_pipeline.evaluation.evidence import EVAL, read_evidence
from lynx_pipeline.evaluation.inputs import read_baseline, read_eval_set
from lynx_pipeline.evaluation.storage import StoredEvalSet
from lynx_pipeline.evaluation.storage.pages import most_bytes

FIRST_TOLERANCE = 0.02


@dataclass(frozen=True, slots=True)
class Change:
    """A baseline change under review. It may be merged if ``objections`` is empty. ``drift`` is the
    sum of accepted drops per bucket, as fractions, 0 or negative."""

    changed: bool
    buckets: tuple[BucketChange, ...]
    objections: tuple[str, ...]
    drift: Mapping[str, Fraction]
    tolerance: Fraction


def reference_file(settings: Settings) -> Path:
    """Where the reference predictions are stored: beside the eval set, or beside the baseline if
    the eval set is in a folder that DVC tracks as a whole, where DVC tracks no further file."""
    tracked = find_if_tracked(settings.eval_set, OnDisk())
    in_folder = tracked is not None and tracked.member is not None
    beside = settings.baseline if in_folder else settings.eval_set
    return beside.with_suffix(".reference.parquet")


def propose(settings: Settings, evaluation: Path, justification: str) -> tuple[BucketChange, ...]:
    """Write the baseline and the reference predictions from ``evaluation``, a
    ``candidate_eval.json`` with its predictions beside it, which are scored again. Tolerance and
    lineage carry over from the current baseline. Returns the buckets that change.

    Raises:
        BadInput: the evaluation does not verify, or there is no justification.
        SystemFailed: DVC could not track the predictions.
    """
    if not justification.strip():
        raise BadInput("a new baseline needs a justification: say why it may change.")
    if evaluation.name != EVAL:
        raise BadInput(f"{evaluation}: expected a file named {EVAL} with its evidence beside it.")
    eval_set = read_eval_set(settings)
    evidence = read_evidence(evaluation.parent, eval_set, settings.evaluation.answer_column)
    proposed = evidence.evaluation
    before = read_baseline(settings.baseline) if settings.baseline.exists() else None
    values = {
        "eval_set_dvc_hash": proposed.eval_set_dvc_hash,
        "eval_set_sha256": proposed.eval_set_sha256,
        "baseline_sha": proposed.canonical_sha,
        "previous_baseline_sha": before.baseline_sha if before else None,
        "tolerance_pp": float(before.tolerance) if before else FIRST_TOLERANCE,
        **{k: v for k, v in proposed.metrics.items() if k == LATENCY and v},
        "justification": justification.strip(),
        "buckets": buckets_to_json(proposed.counts.buckets),
    }
    if eval_set.scorer is not EXACT:
        values["scorer"] = eval_set.scorer.name
    raw = json.dumps(values, indent=2, ensure_ascii=False).encode() + b"\n"
    after = parse_baseline(raw, str(settings.baseline))
    reference = reference_file(settings)
    ignored = reference.with_name(".gitignore")
    with restored_on_failure(reference, own_record(reference), ignored, settings.baseline):
        write_atomic(reference, evidence.predictions)
        dvc_data.track(reference, find(settings.eval_set, OnDisk()).remote)
        write_atomic(settings.baseline, raw)
    return bucket_changes(before, after)


def read_reference(settings: Settings, eval_set: StoredEvalSet) -> tuple[bytes, Counts] | None:
    """The reference predictions, pulled if necessary, and their counts; None if the project has
    none.

    Raises:
        BadInput: the file is not the versioned one, or not a predictions file.
        SystemFailed: DVC could not deliver it.
    """
    path = reference_file(settings)
    if not own_record(path).exists():
        return None
    raw = dvc_data.read_versioned(path, most_bytes(len(eval_set))).raw
    return raw, eval_set.count(raw, str(path))


def check(settings: Settings, base: str) -> Change:
    """Compare the committed baseline in the checkout with the one at ``base``. That of a model
    which the project does not have there is a first baseline.

    Raises:
        BadInput: ``base`` is not a commit, or a baseline or the predictions can't be read.
    """
    is_new = _is_new(settings, base)
    before_raw = None if is_new else git_files.file_at(settings.root, base, settings.baseline)
    before = parse_baseline(before_raw, f"{base}:{settings.baseline.name}") if before_raw else None
    after = read_baseline(settings.baseline)
    same = git_files.checked_out(before_raw) if before_raw else ()
    changed = after.sha256 not in [hashlib.sha256(raw).hexdigest() for raw in same]
    reasons = objections(before, after, _reference_buckets(settings)) if changed else []
    return Change(
        changed=changed,
        buckets=bucket_changes(before, after),
        objections=tuple(reasons),
        drift={n: d for n, d in drift(_history(settings, after)).items() if d},
        tolerance=after.tolerance,
    )


def _is_new(settings: Settings, base: str) -> bool:
    """Whether the project has no such model at ``base``. Then a file that is there already is not
    the baseline before: it may have been changed while nothing checked it."""
    raw = git_files.file_at(settings.root, base, settings.root / "pyproject.toml")
    try:
        models = load_each_committed(settings, raw or b"")
    except BadInput:  # no settings, or not today's form
        return False
    renamed = not settings.gate and not models[0].gate  # a project's only model
    return not renamed and settings.model not in {it.model for it in models}


def _reference_buckets(settings: Settings) -> Mapping[str, Score] | None:
    reference = read_reference(settings, read_eval_set(settings))
    return None if reference is None else reference[1].buckets


def _history(settings: Settings, newest: Baseline) -> list[Baseline]:
    """Every committed baseline, oldest first, and the one in the checkout."""
    history = []
    for commit in git_files.commits_of(settings.root, settings.baseline):
        raw = git_files.file_at(settings.root, commit, settings.baseline)
        if raw is not None:
            history.append(parse_baseline(raw, f"{commit[:12]}:{settings.baseline.name}"))
    if not history or history[-1].sha256 != newest.sha256:
        history.append(newest)
    return history
