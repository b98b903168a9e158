"""Review of a change to the committed baseline.

A change is refused if

- it has no new justification,
- its ``previous_baseline_sha`` is not the old ``baseline_sha``,
- the stored reference predictions don't reproduce its numbers, or
- it removes a bucket, raises the tolerance or changes the scorer and the justification doesn't
  mention it.

A lower accuracy with a justification is allowed, and shown. Small drops add up, so the drift over
all baselines is computed too. Leaves to others: reading the git history and the predictions
(``evaluation``), and approval (``release``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from lynx_pipeline.domain.gate.baseline import Baseline
from lynx_pipeline.domain.gate.rule import points
from lynx_pipeline.domain.scores import Score

FIRST = "none"


@dataclass(frozen=True, slots=True)
class BucketChange:
    """One bucket before and after; None where the bucket is new or removed."""

    name: str
    before: Score | None
    after: Score | None

    @property
    def change(self) -> Fraction | None:
        """After minus before, as a fraction."""
        if self.before is None or self.after is None:
            return None
        return self.after.accuracy - self.before.accuracy

    @property
    def text(self) -> str:
        """The change in one line."""
        if self.before is None:
            return f"{self.name}: new bucket"
        if self.after is None:
            return f"{self.name}: REMOVED, no longer gated"
        assert self.change is not None
        old, new = float(self.before.accuracy), float(self.after.accuracy)
        if self.change == 0:
            text = f"stays at {new:.2%}"
        else:
            direction = "FALLS" if self.change < 0 else "rises"
            text = f"{direction} {points(self.change)} points, {old:.2%} to {new:.2%}"
        if self.resized:
            text += f", of {self.after.n} items instead of {self.before.n}"
        return f"{self.name}: {text}"

    @property
    def resized(self) -> bool:
        """Whether its number of items changed."""
        return self.before is not None and self.after is not None and self.before.n != self.after.n


def bucket_changes(before: Baseline | None, after: Baseline) -> tuple[BucketChange, ...]:
    """The buckets that were added or removed, or whose accuracy or size changed: removed ones
    first, then the largest drop first, new ones last."""
    old: Mapping[str, Score] = before.buckets if before else {}
    names = [*after.buckets, *(name for name in old if name not in after.buckets)]
    changes = [BucketChange(name, old.get(name), after.buckets.get(name)) for name in names]
    changed = [c for c in changes if c.change is None or c.change != 0 or c.resized]
    return tuple(sorted(changed, key=_worst_first))


def objections(
    before: Baseline | None, after: Baseline, measured: Mapping[str, Score] | None
) -> list[str]:
    """Why the change from ``before`` to ``after`` must not be merged; empty if it may be.

    ``measured`` are the bucket scores of the stored reference predictions; None if there are no
    stored predictions.
    """
    found = []
    justification = (after.justification or "").casefold()
    if not justification.strip():
        found.append("it has no justification.")
    elif before is not None and after.justification == before.justification:
        found.append("its justification is unchanged from the previous baseline.")
    if before is not None and after.previous_baseline_sha != before.baseline_sha:
        found.append(
            f"its previous_baseline_sha is {after.previous_baseline_sha or FIRST}, but the "
            f"previous baseline is {before.baseline_sha}."
        )
    if measured is None:
        found.append("there are no stored reference predictions to support its numbers.")
    elif dict(measured) != dict(after.buckets):
        wrong = sorted(
            name
            for name in {*measured, *after.buckets}
            if measured.get(name) != after.buckets.get(name)
        )
        found.append(
            f"its numbers differ from the stored reference predictions: {', '.join(wrong)}."
        )
    if before is not None:
        found += [
            f"the bucket {name} was removed and the justification does not mention it."
            for name in before.buckets
            if name not in after.buckets and name.casefold() not in justification
        ]
        if after.tolerance > before.tolerance and "tolerance" not in justification:
            found.append(
                f"the tolerance was raised from {float(before.tolerance):g} to "
                f"{float(after.tolerance):g} and the justification does not mention it."
            )
        if after.scorer is not before.scorer and "scorer" not in justification:
            found.append(
                f"the scorer was changed from {before.scorer.name} to {after.scorer.name} and the "
                "justification does not mention it."
            )
    return found


def _comparable(one: Baseline, other: Baseline) -> bool:
    return one.eval_set_dvc_hash == other.eval_set_dvc_hash and one.scorer is other.scorer


def drift(history: Sequence[Baseline]) -> dict[str, Fraction]:
    """The sum of all drops in each bucket of the newest baseline, as a fraction, 0 or negative.
    ``history`` is oldest first. Only the most recent baselines with the newest one's eval set and
    scorer count, because others can't be compared with it.
    """
    if not history:
        return {}
    newest = history[-1]
    start = len(history) - 1
    while start > 0 and _comparable(history[start - 1], newest):
        start -= 1
    total = dict.fromkeys(newest.buckets, Fraction(0))
    steps = history[start:]
    for before, after in pairwise(steps):
        for name in total:
            old, new = before.buckets.get(name), after.buckets.get(name)
            if old and new:
                total[name] += min(Fraction(0), new.accuracy - old.accuracy)
    return total


def _worst_first(change: BucketChange) -> tuple[int, Fraction, str]:
    if change.after is None:
        return (0, Fraction(0), change.name)
    if change.change is None:
        return (2, Fraction(0), change.name)
    return (1, change.change, change.name)
