"""Evidence: what an evaluation leaves, read back without trusting what it claims.

It is a folder: ``candidate_eval.json`` (what was counted), ``predictions.parquet`` (id,
prediction; the same bytes whenever the answers are the same), ``timings.parquet`` (id, seconds).
:func:`read_evidence` counts the stored predictions again.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lynx_pipeline.adapters.files import read_bytes
from lynx_pipeline.domain.candidate_eval import CandidateEval, parse_candidate_eval
from lynx_pipeline.errors import BadInput
from lynx_pipeline.evaluation import answers
from lynx_pipeline.evaluation.answers import AnyEvalSet

EVAL = "candidate_eval.json"
PREDICTIONS = "predictions.parquet"
TIMINGS = "timings.parquet"


@dataclass(frozen=True, slots=True)
class Evidence:
    """An evaluation whose counts were found true. ``files`` are the bytes it was read from:
    ``candidate_eval.json`` and the predictions; ``sha256`` is the first one's."""

    evaluation: CandidateEval
    sha256: str
    files: tuple[bytes, bytes]


def read_evidence(folder: Path, eval_set: AnyEvalSet) -> Evidence:
    """The evaluation in ``folder``, its predictions scored again on ``eval_set``.

    Raises:
        BadInput: a file is missing, or see :func:`check_evidence`.
    """
    written = read_bytes(folder / EVAL, "the candidate was not evaluated")
    raw = read_bytes(folder / PREDICTIONS, "the evaluation has no predictions")
    return check_evidence(written, raw, eval_set, str(folder))


def check_evidence(written: bytes, raw: bytes, eval_set: AnyEvalSet, where: str) -> Evidence:
    """What ``written``, a ``candidate_eval.json``, and ``raw``, its predictions, show when they
    are scored again on ``eval_set``. ``where`` is for the error messages.

    Raises:
        BadInput: one is damaged, the evaluation is of another eval set or scorer, or the
            stored counts are not what the predictions give.
    """
    file, predictions_file = f"{where}/{EVAL}", f"{where}/{PREDICTIONS}"
    stored = parse_candidate_eval(written, file)
    expected = {
        "eval_set_dvc_hash": eval_set.dvc_hash,
        "eval_set_sha256": eval_set.sha256,
        "scorer": eval_set.scorer.name,
    }
    for key, value in expected.items():
        if getattr(stored, key) != value:
            raise BadInput(
                f"{file}: {key!r} is {getattr(stored, key)}, now it is {value}: the evaluation "
                "is out of date. Evaluate the candidate again."
            )
    if hashlib.sha256(raw).hexdigest() != stored.predictions_sha256:
        raise BadInput(
            f"{predictions_file}: is not the file that {EVAL} names: its SHA-256 differs. "
            "The predictions were changed; evaluate the candidate again."
        )
    if answers.count(eval_set, raw, predictions_file) != stored.counts:
        raise BadInput(
            f"{file}: its counts are not what the stored predictions give. The file was "
            "changed; evaluate the candidate again."
        )
    digest = hashlib.sha256(written).hexdigest()
    return Evidence(stored, digest, (written, raw))


def check_handed_over(folder: Path, sha256: str, run_id: str) -> None:
    """That the evidence in ``folder`` is what another job found and of the run it was to evaluate.

    Raises:
        BadInput: it is not.
    """
    file = folder / EVAL
    written = read_bytes(file, "the candidate was not evaluated")
    found = hashlib.sha256(written).hexdigest()
    if found != sha256:
        raise BadInput(
            f"{file}: it was changed on its way: its SHA-256 is {found}, expected {sha256!r}, as "
            "the job that evaluated told. Start the workflow anew."
        )
    of_run = parse_candidate_eval(written, str(file)).mlflow_run_id
    if of_run != run_id:
        raise BadInput(f"{file}: is of run {of_run}, expected {run_id}. Start the workflow anew.")


def metrics(folder: Path) -> Mapping[str, float]:
    """What the evaluation in ``folder`` says it measured; nobody gates on it.

    Raises:
        BadInput: there is none, or it is damaged.
    """
    file = folder / EVAL
    return parse_candidate_eval(
        read_bytes(file, "the candidate was not evaluated"), str(file)
    ).metrics
