"""Scorers: when an answer is right.

Scorers are named and versioned, because scores under different rules can't be compared. A scorer
never changes; a better rule gets a new name. Every scorer accepts text equal to the expected
answer, as long as that answer can be matched at all. Leaves counting to ``candidate_eval``.
"""

import re
import unicodedata
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from decimal import Decimal

from lynx_pipeline.errors import BadInput


@dataclass(frozen=True, slots=True)
class Scorer:
    """An answer is right if its ``form`` equals that of a right answer. An answer whose form is
    None is never right. ``expects`` describes what an eval set's right answers must be."""

    name: str
    form: Callable[[str], Hashable | None]
    expects: str

    def is_right(self, answer: str, answers: Iterable[str]) -> bool:
        """Whether ``answer`` is one of the right answers."""
        given = self.form(answer)
        return given is not None and any(given == self.form(right) for right in answers)


_APOSTROPHES = str.maketrans(dict.fromkeys("\u2019\u2018\u02bc\uff07", "'"))


def normalise(answer: str) -> str:
    """An answer as it is compared: in NFC, case folded, with straight apostrophes, spaces collapsed
    and trimmed, and one final full stop dropped."""
    folded = unicodedata.normalize("NFC", answer).casefold()
    text = unicodedata.normalize("NFC", folded)
    if not text.isascii():  # translating takes longer than all the rest
        text = text.translate(_APOSTROPHES)
    text = " ".join(text.split())
    return text[:-1].rstrip() if text.endswith(".") else text


_NUMBER = re.compile(
    r"[+-]?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?(?:e[+-]?[0-9]{1,3})?|[+-]?\.[0-9]+"
)
_LONGEST = 400  # characters; longer text is not read as a number


def number(answer: str) -> Decimal | None:
    """The value of an answer that is a single decimal number. It may have a sign, commas between
    thousands, a fraction and an exponent: ``1,000``, ``1000.0`` and ``1e3`` are equal. None for
    anything else, including numbers with units or words."""
    text = normalise(answer).replace("\u2212", "-")
    if len(text) > _LONGEST or not _NUMBER.fullmatch(text):
        return None
    return Decimal(text.replace(",", ""))


EXACT = Scorer(
    "normalised-exact-match/1",
    lambda answer: normalise(answer) or None,
    "text other than spaces and one full stop",
)
NUMERIC = Scorer("numeric/1", number, "a decimal number")
SCORERS = {scorer.name: scorer for scorer in (EXACT, NUMERIC)}


def scorer_named(name: str, where: str) -> Scorer:
    """The scorer called ``name``. ``where`` says where the name comes from, for the error message.

    Raises:
        BadInput: no scorer has this name.
    """
    scorer = SCORERS.get(name)
    if scorer is None:
        raise BadInput(
            f"{where}: the scorer {name!r:.80} is unknown. Known scorers: {', '.join(SCORERS)}."
        )
    return scorer
