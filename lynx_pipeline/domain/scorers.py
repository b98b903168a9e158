"""Scorers: when an answer is right. Named and versioned, because a changed rule makes figures
that can't be compared: a scorer here never changes its mind; a better one gets a new name.

Every scorer holds equal text to be right, so long as the expected answer can be matched at all.
"""

import re
import unicodedata
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from decimal import Decimal

from lynx_pipeline.errors import BadInput


@dataclass(frozen=True, slots=True)
class Scorer:
    """Answers are right if they have the ``form`` of a right answer; None has no form and is
    never right. ``expects`` says what an eval set's right answers have to be."""

    name: str
    form: Callable[[str], Hashable | None]
    expects: str

    def is_right(self, answer: str, answers: Iterable[str]) -> bool:
        """Whether ``answer`` is one of the right answers."""
        given = self.form(answer)
        return given is not None and any(given == self.form(right) for right in answers)


_APOSTROPHES = str.maketrans(dict.fromkeys("\u2019\u2018\u02bc\uff07", "'"))


def normalise(answer: str) -> str:
    """An answer as it is compared: NFC, case folded, apostrophes straight, spaces collapsed
    and trimmed, one final full stop dropped."""
    folded = unicodedata.normalize("NFC", answer).casefold()
    text = " ".join(unicodedata.normalize("NFC", folded).translate(_APOSTROPHES).split())
    return text[:-1].rstrip() if text.endswith(".") else text


_NUMBER = re.compile(
    r"[+-]?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?(?:e[+-]?[0-9]{1,3})?|[+-]?\.[0-9]+"
)
_LONGEST = 400  # characters; a longer one is no number


def number(answer: str) -> Decimal | None:
    """The value of an answer that is one decimal number and nothing else: a sign, thousands
    grouped by commas, a fraction after a point, an exponent. ``1,000``, ``1000.0`` and ``1e3``
    are one number. None for everything else, units and words too."""
    text = normalise(answer).replace("\u2212", "-")
    if len(text) > _LONGEST or not _NUMBER.fullmatch(text):
        return None
    return Decimal(text.replace(",", ""))


EXACT = Scorer(
    "normalised-exact-match/1",
    lambda answer: normalise(answer) or None,
    "an answer that is not just punctuation",
)
NUMERIC = Scorer("numeric/1", number, "a decimal number")
SCORERS = {scorer.name: scorer for scorer in (EXACT, NUMERIC)}


def scorer_named(name: str, where: str) -> Scorer:
    """The scorer called ``name``; ``where`` it was named, for the error message.

    Raises:
        BadInput: there is none.
    """
    scorer = SCORERS.get(name)
    if scorer is None:
        raise BadInput(
            f"{where}: the scorer {name!r:.80} is unknown; there are {', '.join(SCORERS)}."
        )
    return scorer
