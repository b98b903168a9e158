"""Candidate and reference on the same questions: which answers changed, and whether that is more
than chance. Shown next to the verdict, never part of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lynx_pipeline.domain.gate.statistics import mcnemar

if TYPE_CHECKING:
    from lynx_pipeline.domain.eval_set import EvalSet, Item

Predictions = Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class Flip:
    """A question that one model answers right and the other wrong, with both answers."""

    item: "Item"
    reference: str | None
    candidate: str | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """``lost`` answers went right to wrong, ``gained`` wrong to right, in the eval set's order."""

    lost: tuple[Flip, ...]
    gained: tuple[Flip, ...]

    def changed(self, bucket: str) -> tuple[int, int]:
        """The numbers of answers that the bucket lost and gained."""
        return _within(self.lost, bucket), _within(self.gained, bucket)

    def p_value(self, bucket: str) -> float:
        """Two-sided exact McNemar p-value of the bucket."""
        return mcnemar(*self.changed(bucket))


def compare(eval_set: "EvalSet", reference: Predictions, candidate: Predictions) -> Comparison:
    """Find the changed answers. Both models must have answered every question, which scoring
    checks."""
    lost, gained = [], []
    for item in eval_set.items:
        old, new = reference[item.id], candidate[item.id]
        was, now = (a is not None and eval_set.scorer.is_right(a, item.answers) for a in (old, new))
        if was and not now:
            lost.append(Flip(item, old, new))
        elif now and not was:
            gained.append(Flip(item, old, new))
    return Comparison(tuple(lost), tuple(gained))


def _within(flips: tuple[Flip, ...], bucket: str) -> int:
    return sum(bucket in flip.item.buckets for flip in flips)
