"""Bucket scores: what a baseline promises and a candidate reached, as exact numbers.

A score is a rational. Where ``correct`` is given it is ``correct / n``, and the written
``accuracy`` only has to agree with it at the accuracy's own precision; otherwise the
accuracy is taken as written, digit for digit.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

from lynx_pipeline.domain.strict_json import Fields
from lynx_pipeline.errors import BadInput

# <dimension>.<value>; the dimension has no dot, so the first dot splits the name.
BUCKET_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*\.[^\s\x00-\x1f\x7f](?:[^\x00-\x1f\x7f]*\S)?")


@dataclass(frozen=True, slots=True)
class Score:
    """``accuracy`` (0 to 1, exact) over ``n`` items; ``correct`` where it is known."""

    accuracy: Fraction
    n: int
    correct: int | None = None

    @classmethod
    def counted(cls, correct: int, n: int) -> "Score":
        """The score of ``correct`` right answers out of ``n``."""
        return cls(Fraction(correct, n), n, correct)


@dataclass(frozen=True, slots=True)
class Scores:
    """A candidate's scores, by bucket name, on one eval set, by the ``scorer`` if it is known."""

    eval_set_dvc_hash: str
    eval_set_sha256: str | None
    scorer: str | None
    buckets: Mapping[str, Score]


def read_scores(values: Mapping[str, Any], where: str) -> Scores:
    """The scores in a parsed ``candidate_eval.json``; other keys are left to their readers.

    Raises:
        BadInput: a key is missing or not what the format says.
    """
    fields = Fields(dict(values), where)
    return Scores(
        eval_set_dvc_hash=fields.text("eval_set_dvc_hash"),
        eval_set_sha256=fields.optional_text("eval_set_sha256"),
        scorer=fields.optional_text("scorer"),
        buckets=read_buckets(fields.object("buckets"), where),
    )


def read_buckets(values: Mapping[str, Any], where: str) -> dict[str, Score]:
    """``{NAME: {"accuracy", "n", "correct"?}}`` as scores, in the file's order.

    Raises:
        BadInput: a name or a score is not what the format says.
    """
    return {name: _read_score(name, value, where) for name, value in values.items()}


def written(buckets: Mapping[str, Score]) -> dict[str, dict[str, Any]]:
    """The buckets as JSON values; reading them back gives the same scores.

    Raises:
        ValueError: a score has no ``correct``; only counted scores are written.
    """
    result: dict[str, dict[str, Any]] = {}
    for name, score in sorted(buckets.items()):
        if score.correct is None:
            raise ValueError(f"{name} was never counted")
        result[name] = {
            "accuracy": score.correct / score.n,
            "n": score.n,
            "correct": score.correct,
        }
    return result


def _read_score(name: str, value: Any, where: str) -> Score:
    here = f"{where}: bucket {name!r}"
    if not BUCKET_NAME.fullmatch(name):
        raise BadInput(f"{here}: expected a name of the form <dimension>.<value>.")
    if not isinstance(value, dict):
        raise BadInput(f'{here}: expected an object {{"accuracy", "n", "correct"}}.')
    fields = Fields(value, here)
    fields.only(("accuracy", "n", "correct"))
    n = fields.count("n", least=1)
    accuracy = fields.share("accuracy")
    correct = fields.optional_count("correct")
    if correct is None:
        return Score(Fraction(accuracy), n)
    if correct > n:
        raise BadInput(f"{here}: {correct} correct out of {n} can't be.")
    if not _agrees(accuracy, correct, n):
        raise BadInput(
            f"{here}: accuracy {accuracy} and correct/n = {correct}/{n} disagree; "
            "write the file again from the counts."
        )
    return Score(Fraction(correct, n), n, correct)


def _agrees(accuracy: Decimal | int, correct: int, n: int) -> bool:
    """Whether ``accuracy`` is ``correct / n`` rounded to its own digits, or the shortest text
    of that double, which may be off by more in its last digit. Without decimals it is exact."""
    off = abs(Fraction(correct, n) - Fraction(accuracy))
    exponent = accuracy.as_tuple().exponent if isinstance(accuracy, Decimal) else 0
    assert isinstance(exponent, int)  # NaN and Infinity never get past the JSON reader
    if exponent >= 0:
        return off == 0
    return off <= Fraction(10) ** exponent / 2 or float(accuracy) == correct / n
