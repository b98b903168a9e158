"""Reading evidence, which is validated and never trusted."""

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lynx_pipeline.domain.candidate_eval import LOCAL
from lynx_pipeline.errors import BadInput
from lynx_pipeline.evaluation.evidence import EVAL, PREDICTIONS, read_evidence
from lynx_pipeline.evaluation.storage.parquet import predictions_bytes, read_predictions
from lynx_pipeline_tests.support.builders import candidate_eval, eval_items, eval_set, sha256

ITEMS = eval_set()
ANSWERS: dict[str, str | None] = {
    item.id: None if k == 3 else f"word{k % 9}" for k, item in enumerate(ITEMS.items)
}
IDS = [item.id for item in ITEMS.items]


def encoded(answers: dict[str, str | None]) -> bytes:
    """The predictions file of these answers."""
    return predictions_bytes(list(answers), list(answers.values()))


@pytest.fixture
def evidence(tmp_path: Path) -> Path:
    """Valid evidence of a model that answers most questions right."""
    folder = tmp_path / "evidence"
    folder.mkdir()
    raw = encoded(ANSWERS)
    (folder / PREDICTIONS).write_bytes(raw)
    values = candidate_eval(ITEMS, raw, ANSWERS).to_json()
    (folder / EVAL).write_text(json.dumps(values))
    return folder


def edit(folder: Path, change: Callable[[Any], object]) -> None:
    """Change the evaluation's JSON."""
    values = json.loads((folder / EVAL).read_bytes())
    change(values)
    (folder / EVAL).write_text(json.dumps(values))


def replace_answers(folder: Path, answers: dict[str, str | None]) -> None:
    """Replace the predictions, and their digest in the evaluation."""
    raw = encoded(answers)
    (folder / PREDICTIONS).write_bytes(raw)
    edit(folder, lambda v: v.update(predictions_sha256=sha256(raw)))


def test_valid_evidence_is_read(evidence: Path) -> None:
    """The result has the bytes of both files, and the digest of the evaluation."""
    read = read_evidence(evidence, ITEMS)
    assert read.candidate_eval == (evidence / EVAL).read_bytes()
    assert read.predictions == encoded(ANSWERS)
    assert read.sha256 == sha256((evidence / EVAL).read_bytes())
    assert (read.evaluation.counts.correct, read.evaluation.counts.nulls) == (8, 1)


ALL_RIGHT: dict[str, str | None] = {item.id: item.answers[0] for item in ITEMS.items}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(
            lambda f: (f / PREDICTIONS).write_bytes(
                predictions_bytes(IDS, list(ALL_RIGHT.values()))
            ),
            "SHA-256 differs",
            id="better predictions",
        ),
        pytest.param(
            lambda f: replace_answers(f, ALL_RIGHT),
            "counts are not",
            id="better predictions and their digest",
        ),
        pytest.param(
            lambda f: replace_answers(f, dict(list(ANSWERS.items())[:-1])),
            "no answer to item",
            id="n-1",
        ),
        pytest.param(
            lambda f: replace_answers(f, {**ANSWERS, "i99": "x"}), "at most 12 rows", id="n+1"
        ),
        pytest.param(
            lambda f: replace_answers(f, {**dict(list(ANSWERS.items())[1:]), "i99": "x"}),
            "no answer to item 'i0'",
            id="different item",
        ),
        pytest.param(lambda f: edit(f, lambda v: v.update(correct=12)), "counts are", id="correct"),
        pytest.param(lambda f: edit(f, lambda v: v.update(n=8)), "counts are", id="n"),
        pytest.param(
            lambda f: edit(f, lambda v: v.update(null_answers=0)), "counts are", id="nulls"
        ),
        pytest.param(
            lambda f: edit(f, lambda v: v["buckets"].update({"half.a": _all(6)})),
            "counts are",
            id="a bucket's counts",
        ),
        pytest.param(
            lambda f: edit(f, lambda v: v["buckets"].pop("half.a")),
            "counts are",
            id="bucket removed",
        ),
        pytest.param(
            lambda f: edit(f, lambda v: v["buckets"].update({"new.x": _all(1)})),
            "counts are",
            id="bucket added",
        ),
        pytest.param(
            lambda f: edit(f, lambda v: v["buckets"]["half.a"].pop("correct")),
            "counts are",
            id="only accuracy",
        ),
        pytest.param(
            lambda f: edit(f, lambda v: v.update(eval_set_dvc_hash="0" * 32)),
            "out of date",
            id="different eval set",
        ),
        pytest.param(
            lambda f: edit(f, lambda v: v.update(eval_set_sha256="0" * 64)),
            "out of date",
            id="different bytes",
        ),
        pytest.param(
            lambda f: edit(f, lambda v: v.update(scorer="always-right/1")), "scorer", id="scorer"
        ),
        pytest.param(lambda f: edit(f, lambda v: v.pop("scorer")), "scorer", id="no scorer"),
        pytest.param(lambda f: (f / PREDICTIONS).unlink(), "no predictions", id="no predictions"),
        pytest.param(lambda f: (f / EVAL).unlink(), "not evaluated", id="no evaluation"),
        pytest.param(lambda f: shutil.rmtree(f), "not evaluated", id="no folder"),
    ],
)
def test_edited_evidence_is_refused(
    evidence: Path, change: Callable[[Path], object], message: str
) -> None:
    """The stored predictions are counted again; no number in the file is trusted."""
    change(evidence)
    with pytest.raises(BadInput, match=message):
        read_evidence(evidence, ITEMS)


def test_evidence_without_an_environment_counts_as_local(evidence: Path) -> None:
    """Older evidence has no such key, and candidates ran only locally then."""
    edit(evidence, lambda v: v.pop("environment"))
    assert read_evidence(evidence, ITEMS).evaluation.environment == LOCAL


def test_evidence_says_which_column_the_answers_are_from(evidence: Path) -> None:
    """Answers from another one than the settings name are out of date, also in older evidence,
    which doesn't say."""
    edit(evidence, lambda v: v.update(answer_column="label"))
    assert read_evidence(evidence, ITEMS, "label").evaluation.answer_column == "label"
    for column in (None, "score"):
        with pytest.raises(BadInput, match=f"'answer_column' is label, expected {column}: .* out"):
            read_evidence(evidence, ITEMS, column)
    edit(evidence, lambda v: v.pop("answer_column"))
    assert read_evidence(evidence, ITEMS).evaluation.answer_column is None
    with pytest.raises(BadInput, match="'answer_column' is None, expected label"):
        read_evidence(evidence, ITEMS, "label")


def _all(n: int) -> dict[str, object]:
    return {"accuracy": 1.0, "n": n, "correct": n}


def test_evidence_of_a_different_eval_set_is_refused(evidence: Path) -> None:
    """One corrected answer is enough of a difference."""
    changed = eval_items()
    changed[0]["expected"] = "another"
    with pytest.raises(BadInput, match="out of date"):
        read_evidence(evidence, eval_set(changed))


def _parquet(**columns: Any) -> bytes:
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def _invalid_text() -> Any:
    import pyarrow as pa

    return pa.array([b"\xff\xfe"], pa.binary()).view(pa.string())


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(lambda: b"", id="empty"),
        pytest.param(lambda: b"PAR1" * 9, id="magic only"),
        pytest.param(lambda: encoded(ANSWERS)[:-9], id="cut"),
        pytest.param(lambda: _parquet(id=["a"]), id="no predictions"),
        pytest.param(lambda: _parquet(prediction=["a"]), id="no ids"),
        pytest.param(lambda: _parquet(id=[None], prediction=["a"]), id="null id"),
        pytest.param(lambda: _parquet(id=["a"], prediction=[["a"]]), id="lists"),
        pytest.param(lambda: _parquet(id=["a"], prediction=[{"a": "b"}]), id="structs"),
        pytest.param(lambda: _parquet(id=["a"], prediction=[b"\xff"]), id="bytes"),
        pytest.param(lambda: _parquet(id=["a"], prediction=_invalid_text()), id="invalid UTF-8"),
    ],
)
def test_an_invalid_predictions_file_is_refused(raw: Callable[[], bytes]) -> None:
    """The error is BadInput, whichever way pyarrow fails."""
    with pytest.raises(BadInput, match="not a predictions file"):
        read_predictions(raw(), "predictions.parquet", 99)


def test_a_flipped_byte_gives_rows_or_bad_input() -> None:
    """Wrong rows don't matter here, because the digest is compared first."""
    good = encoded(ANSWERS)
    assert read_predictions(good, "p", 99) == list(ANSWERS.items())
    for position in range(len(good)):
        damaged = bytearray(good)
        damaged[position] ^= 0xFF
        with contextlib.suppress(BadInput):
            read_predictions(bytes(damaged), "p", 99)
