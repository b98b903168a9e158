"""Bucket scores of a baseline or a candidate, as exact numbers.

A score is a rational. Where the file gives ``correct``, the score is ``correct / n`` and
``accuracy`` must agree with it at the accuracy's own precision. Otherwise ``accuracy`` is used
digit for digit as the file has it. Leaves the comparison of scores to ``gate``.
"""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Any

from lynx_pipeline.domain.strict_json import Fields
from lynx_pipeline.errors import BadInput

NAME_RULE = (
    "Names of buckets are <dimension>.<value>, split at the first dot: two printable texts in "
    "Unicode NFC, in any alphabet, with ordinary spaces only inside"
)
# The rule that baselines and evaluations followed before, so that they can still be read.
_OLD_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*\.[^\s\x00-\x1f\x7f](?:[^\x00-\x1f\x7f]*\S)?")
# What Unicode calls ignorable by default and Python calls printable, and the blank Braille cell.
# DerivedCoreProperties.txt, Default_Ignorable_Code_Point.
_INVISIBLE = frozenset(
    map(
        chr,
        (
            *(0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0),
            *range(0x180B, 0x1810),
            *range(0xFE00, 0xFE10),
            *range(0xE0100, 0xE01F0),
        ),
    )
)


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
    """A candidate's scores by bucket name on one eval set; ``scorer`` is None where unknown."""

    eval_set_dvc_hash: str
    eval_set_sha256: str | None
    scorer: str | None
    buckets: Mapping[str, Score]


def read_scores(values: Mapping[str, Any], where: str) -> Scores:
    """The scores in a parsed ``candidate_eval.json``. Its other keys are not read here.

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


@lru_cache(maxsize=1 << 14)
def name_problem(name: str) -> str | None:
    """What is wrong with a bucket's name; None if it follows :data:`NAME_RULE`."""
    dimension, dot, value = name.partition(".")
    if not dot:
        return "it has no dot"
    for part, text in (("dimension", dimension), ("value", value)):
        if not text:
            return f"its {part} is empty"
        if text != text.strip():
            return f"its {part} starts or ends with whitespace"
    for character in name:
        if not character.isprintable() or character in _INVISIBLE:
            described = unicodedata.name(character, "a control character")
            return f"it contains U+{ord(character):04X} ({described})"
    if not unicodedata.is_normalized("NFC", name):
        return "it is not in Unicode NFC, so it can look like another name without being equal"
    return None


def buckets_to_json(buckets: Mapping[str, Score]) -> dict[str, dict[str, Any]]:
    """The buckets as JSON values. :func:`read_buckets` reads them back as the same scores.

    Raises:
        ValueError: a score has no ``correct``. An accuracy alone would be rounded.
    """
    result: dict[str, dict[str, Any]] = {}
    for name, score in sorted(buckets.items()):
        if score.correct is None:
            raise ValueError(f"{name} has no count of correct answers")
        result[name] = {
            "accuracy": score.correct / score.n,
            "n": score.n,
            "correct": score.correct,
        }
    return result


def _read_score(name: str, value: Any, where: str) -> Score:
    place = f"{where}: bucket {name!r:.80}"
    if (problem := name_problem(name)) and not _OLD_NAME.fullmatch(name):
        raise BadInput(f"{place}: {problem}. {NAME_RULE}.")
    if not isinstance(value, dict):
        raise BadInput(f'{place}: expected an object {{"accuracy", "n", "correct"}}.')
    fields = Fields(value, place)
    fields.refuse_unknown(("accuracy", "n", "correct"))
    n = fields.count("n", least=1)
    accuracy = fields.fraction("accuracy")
    correct = fields.optional_count("correct")
    if correct is None:
        return Score(Fraction(accuracy), n)
    if correct > n:
        raise BadInput(f"{place}: {correct} correct out of {n} is impossible.")
    if not _agrees(accuracy, correct, n):
        raise BadInput(
            f"{place}: accuracy {accuracy} and correct/n = {correct}/{n} disagree. "
            "Generate the file again from the counts."
        )
    return Score(Fraction(correct, n), n, correct)


def _agrees(accuracy: Decimal | int, correct: int, n: int) -> bool:
    """Whether ``accuracy`` is ``correct / n`` rounded to the digits it has, or the shortest text of
    that double, whose last digit may be off by more. Without decimals it must be exact."""
    off = abs(Fraction(correct, n) - Fraction(accuracy))
    exponent = accuracy.as_tuple().exponent if isinstance(accuracy, Decimal) else 0
    assert isinstance(exponent, int)  # NaN and Infinity never get past the JSON reader
    if exponent >= 0:
        return off == 0
    return off <= Fraction(10) ** exponent / 2 or float(accuracy) == correct / n
