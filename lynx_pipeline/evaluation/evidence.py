"""Evidence: the files of an evaluation, read back without trusting what they claim.

It is a folder: ``candidate_eval.json`` (the counts), ``predictions.parquet`` (id, prediction; the
same answers always give the same bytes), ``timings.parquet`` (id, seconds), and
``bundle_manifest.json``, by which a message can name what has changed in the bundle since.
:func:`read_evidence` counts the stored predictions again.
"""

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lynx_pipeline.adapters.files import read_bytes
from lynx_pipeline.domain.bundle import Bundle, differences
from lynx_pipeline.domain.candidate_eval import CandidateEval, parse_candidate_eval
from lynx_pipeline.domain.manifest import LONGEST_MANIFEST
from lynx_pipeline.domain.strict_json import LONGEST
from lynx_pipeline.errors import BadInput, some_of
from lynx_pipeline.evaluation.storage import StoredEvalSet
from lynx_pipeline.evaluation.storage.pages import most_bytes

EVAL = "candidate_eval.json"
PREDICTIONS = "predictions.parquet"
TIMINGS = "timings.parquet"
# What a candidate that failed had printed, where its evidence would be.
PRINTED = "candidate_output.txt"
BUNDLE_MANIFEST = "bundle_manifest.json"


@dataclass(frozen=True, slots=True)
class Evidence:
    """An evaluation whose counts were verified, and the bytes of its two files:
    ``candidate_eval.json`` and the predictions."""

    evaluation: CandidateEval
    candidate_eval: bytes
    predictions: bytes

    @property
    def sha256(self) -> str:
        """The SHA-256 of ``candidate_eval.json``."""
        return hashlib.sha256(self.candidate_eval).hexdigest()


def read_evidence(
    folder: Path, eval_set: StoredEvalSet, answer_column: str | None = None
) -> Evidence:
    """The evaluation in ``folder``, its predictions scored again on ``eval_set``. They must be
    those that the setting ``answer_column`` chose.

    Raises:
        BadInput: a file is missing, the answers are of another column, or see
            :func:`check_evidence`.
    """
    candidate_eval = read_bytes(folder / EVAL, "the candidate was not evaluated", LONGEST)
    limit = most_bytes(len(eval_set))
    predictions = read_bytes(folder / PREDICTIONS, "the evaluation has no predictions", limit)
    evidence = check_evidence(candidate_eval, predictions, eval_set, str(folder))
    found = evidence.evaluation.answer_column
    if found != answer_column:
        raise _outdated(folder / EVAL, "answer_column", found, answer_column)
    return evidence


def check_evidence(
    candidate_eval: bytes, predictions: bytes, eval_set: StoredEvalSet, where: str
) -> Evidence:
    """The evaluation in ``candidate_eval``, the bytes of that file, if scoring ``predictions``
    again on ``eval_set`` confirms it. ``where`` is for error messages.

    Raises:
        BadInput: a file is damaged, the evaluation used another eval set or scorer, or its
            counts are not those of the predictions.
    """
    file, predictions_file = f"{where}/{EVAL}", f"{where}/{PREDICTIONS}"
    evaluation = parse_candidate_eval(candidate_eval, file)
    expected = {
        "eval_set_dvc_hash": eval_set.dvc_hash,
        "eval_set_sha256": eval_set.sha256,
        "scorer": eval_set.scorer.name,
    }
    for key, value in expected.items():
        if getattr(evaluation, key) != value:
            raise _outdated(file, key, getattr(evaluation, key), value)
    if hashlib.sha256(predictions).hexdigest() != evaluation.predictions_sha256:
        raise BadInput(
            f"{predictions_file}: its SHA-256 differs from the one in {EVAL}: the predictions "
            "were changed. Evaluate the candidate again."
        )
    if eval_set.count(predictions, predictions_file) != evaluation.counts:
        raise BadInput(
            f"{file}: its counts are not those of the stored predictions: the file was changed. "
            "Evaluate the candidate again."
        )
    return Evidence(evaluation, candidate_eval, predictions)


def changes_since(folder: Path, digest: str, found: Bundle) -> str:
    """What differs between the bundle with this digest and ``found``, for a message. ``folder`` is
    the evidence, or the candidate's folder, where a request leaves the manifest. Only the digest
    proves anything; the manifest explains it."""
    with suppress(BadInput):
        manifest = read_bytes(folder / BUNDLE_MANIFEST, "no manifest", LONGEST_MANIFEST)
        if hashlib.sha256(manifest).hexdigest() == digest:
            return some_of(differences(manifest, found.manifest))
    return "its manifest is missing, so the differences are unknown"


def _outdated(file: Path | str, key: str, found: str | None, expected: str | None) -> BadInput:
    return BadInput(
        f"{file}: {key!r} is {found}, expected {expected}: the evaluation is out of date. Evaluate "
        "the candidate again."
    )


def check_handed_over(folder: Path, sha256: str | None, candidate: str) -> None:
    """Check that the evidence in ``folder`` arrived unchanged from the evaluate job, and is of the
    candidate that it was to evaluate. ``sha256`` is None if that job did not report a digest.

    Raises:
        BadInput: it is not.
    """
    file = folder / EVAL
    raw = read_bytes(file, "the candidate was not evaluated", LONGEST)
    actual = hashlib.sha256(raw).hexdigest()
    if sha256 is not None and actual != sha256:
        raise BadInput(
            f"{file}: it changed in transit: its SHA-256 is {actual}, expected {sha256!r}, as "
            "reported by the evaluate job. Start a new workflow run."
        )
    evaluated = parse_candidate_eval(raw, str(file)).candidate
    if evaluated != candidate:
        raise BadInput(
            f"{file}: it is the evaluation of candidate {evaluated}, expected "
            f"{candidate or 'none'}. Start a new workflow run."
        )
