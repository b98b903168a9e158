"""The statistical power of a gate: how often it refuses a model as good as the reference, and how
large a true drop must be before it is detected.

The model. Each question is answered right with its own probability, independently. An
*equally good* candidate has, in every bucket, the reference's accuracy as its expectation.
Of all probabilities with that property we use those without further structure: a logistic
model with one effect per bucket, found by iterative proportional fitting (W. E. Deming and F. F.
Stephan, Annals of Mathematical Statistics 11, 1940) over the cells. A cell is the group of
questions that share all their buckets.

One bucket. Its number of right answers is a sum of independent binomials. Its distribution is
computed exactly, by convolution.

The whole gate. Buckets overlap: each question counts in one bucket per dimension. So the counts are
correlated, and multiplying their probabilities would be wrong. Their joint distribution is modelled
as a Gaussian copula with the exact distribution of each count and the exact correlation between
counts (R. B. Nelsen, An Introduction to Copulas, 2006). Its orthant probability is integrated
numerically (A. Genz, Journal of Computational and Graphical Statistics 1, 1992). The tests check
the result against simulated candidates.

A reference without a mistake. 92 right answers of 92 don't mean a true accuracy of 100 %, with
which no equally good model would ever be refused. Its true accuracy is at least
``0.05 ** (1 / 92)``, or 96.8 %, with 95 % confidence (the one-sided limit of C. J. Clopper and
E. S. Pearson, Biometrika 26, 1934; about ``1 - 3 / n``, the rule of three of J. A. Hanley and
A. Lippman-Hand, JAMA 249, 1983).
Such a bucket's false-refusal rate is that of a model with this accuracy: the most it can be. The
whole gate has two rates: with the measured accuracies, and as a limit, for which all questions of
such buckets have the lowest accuracy that their answers together show.

For information only: the verdict does not use it.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import TYPE_CHECKING, Any

from lynx_pipeline.domain.eval_set import Questions
from lynx_pipeline.domain.scores import Score
from lynx_pipeline.errors import BadInput, some_of

if TYPE_CHECKING:
    from numpy import ndarray

    Array = ndarray[Any, Any]

DROPS = tuple(k / 200 for k in range(31))  # 0 to 15 points, in steps of half a point
TARGET_POWER = 0.8
TARGET_REFUSAL = 0.05
_Z_REFUSAL = 1.6448536269514722  # the normal distribution's 95 % quantile
_ERROR = 0.05  # of the limit for a reference without a mistake
_FIT_ROUNDS = 10_000
_FIT_EXACT = 1e-9


@dataclass(frozen=True, slots=True)
class Cells:
    """The eval set as cells. ``sizes[c]`` is the number of questions in cell ``c``;
    ``member[b, c]`` is 1 where that cell is in bucket ``names[b]``. Shapes: (cells,) and
    (buckets, cells)."""

    names: tuple[str, ...]
    sizes: "Array"
    member: "Array"


@dataclass(frozen=True, slots=True)
class BucketPower:
    """One bucket's operating characteristic. All values are fractions, not points.

    - ``smallest_drop``: the drop caused by one question.
    - ``allowed``: how many questions the tolerance allows to be lost.
    - ``refusal``: the chance that this bucket refuses a candidate that is just as good; the most
      that it can be where the reference made no mistake.
    - ``lowest_accuracy``: where the reference made no mistake, the 95 % lower limit of its true
      accuracy; otherwise None.
    - ``caught_drop``: the smallest true drop of this bucket that is refused with probability
      :data:`TARGET_POWER`; None if even a drop to zero is not.
    - ``needed_n``: about how many questions the bucket would need for its false-refusal rate to be
      at most :data:`TARGET_REFUSAL`.
    """

    name: str
    n: int
    accuracy: float
    smallest_drop: float
    allowed: int
    refusal: float
    caught_drop: float | None
    needed_n: int
    curve: tuple[float, ...] = ()
    lowest_accuracy: float | None = None


@dataclass(frozen=True, slots=True)
class GatePower:
    """The gate as a whole. ``refusal`` is the chance that at least one bucket rejects an equally
    good candidate. Each bucket's ``curve`` is its chance of refusing a candidate that is worse by
    each of ``drops``. ``refusal_limit`` is ``refusal`` if, where the reference made no mistake, its
    true accuracy is as low as it can be; None if it made mistakes in all buckets."""

    tolerance: float
    buckets: tuple[BucketPower, ...]
    refusal: float
    drops: tuple[float, ...] = ()
    refusal_limit: float | None = None

    @property
    def perfect(self) -> tuple[BucketPower, ...]:
        """The buckets in which the reference made no mistake."""
        return tuple(bucket for bucket in self.buckets if bucket.lowest_accuracy is not None)


def cells_of(eval_set: Questions, names: Sequence[str]) -> Cells:
    """Group the questions by the gated buckets (``names``) they share. Questions outside all gated
    buckets are left out."""
    import numpy as np

    index = {name: i for i, name in enumerate(names)}
    counts: dict[tuple[int, ...], int] = {}
    for buckets, count in eval_set.cells().items():
        key = tuple(index[bucket] for bucket in buckets if bucket in index)
        if key:
            counts[key] = counts.get(key, 0) + count
    member = np.zeros((len(names), len(counts)))
    for column, key in enumerate(counts):
        member[list(key), column] = 1.0
    return Cells(tuple(names), np.array(list(counts.values()), dtype=float), member)


def equally_good(cells: Cells, scores: Mapping[str, Score], start: float | None = None) -> "Array":
    """Each cell's probability of a right answer, for a candidate exactly as good as ``scores``.
    Cells outside all buckets of ``cells`` keep ``start``, which is the mean by default.

    Raises:
        BadInput: no probabilities reproduce the scores, so they don't come from these questions.
    """
    import numpy as np

    size = cells.member @ cells.sizes
    wanted = np.array([float(scores[name].accuracy) for name in cells.names]) * size
    right = cells.sizes * (wanted.sum() / size.sum() if start is None else start)
    wrong = cells.sizes - right
    for _ in range(_FIT_ROUNDS):
        for bucket, row in enumerate(cells.member):
            inside = row > 0
            for part, target in ((right, wanted[bucket]), (wrong, size[bucket] - wanted[bucket])):
                total = part[inside].sum()
                part[inside] *= target / total if total > 0 else 0.0
            both = right[inside] + wrong[inside]
            scale = np.divide(cells.sizes[inside], both, out=np.ones_like(both), where=both > 0)
            right[inside] *= scale
            wrong[inside] *= scale
        if np.abs(cells.member @ right - wanted).max() < _FIT_EXACT * size.max():
            share: Array = np.clip(right / cells.sizes, 0.0, 1.0)
            return share
    raise BadInput(
        "no model could have these bucket accuracies on this eval set, so they were not measured "
        "on it. Evaluate the reference again and propose a new baseline."
    )


def assumed(cells: Cells, accuracy: Fraction, buckets: Mapping[str, Fraction]) -> dict[str, Score]:
    """The scores of an imagined reference: ``accuracy`` everywhere, except in ``buckets``. Buckets
    that share questions with those get what follows for them.

    Raises:
        BadInput: a name is not a bucket, or no model could have these accuracies.
    """
    import numpy as np

    if unknown := sorted(set(buckets) - set(cells.names)):
        raise BadInput(
            f"the eval set has no bucket {unknown[0]!r}. It has {some_of(cells.names, 20)}."
        )
    sizes = {name: int(n) for name, n in zip(cells.names, cells.member @ cells.sizes, strict=True)}
    chance = np.full(len(cells.sizes), float(accuracy))
    if buckets:
        rows = [cells.names.index(name) for name in buckets]
        named = Cells(tuple(buckets), cells.sizes, cells.member[rows])
        wanted = {name: Score(share, sizes[name]) for name, share in buckets.items()}
        try:
            chance = equally_good(named, wanted, float(accuracy))
        except BadInput:
            raise BadInput(
                "no model could have these accuracies on this eval set: their buckets share "
                "questions. Assume accuracies that are closer, or for fewer buckets."
            ) from None
    right = cells.member @ (cells.sizes * chance)
    # Rounded, because the floor of an assumed 90 % of 60 must not depend on the last bit.
    return {
        name: Score(Fraction(round(float(k) * 10**9), sizes[name] * 10**9), sizes[name])
        for name, k in zip(cells.names, right, strict=True)
    }


def gate_power(
    cells: Cells,
    scores: Mapping[str, Score],
    tolerance: Fraction,
    *,
    drops: Sequence[float] | None = None,
) -> GatePower:
    """The operating characteristic of this gate. ``drops`` are the true drops, as
    fractions, at which to compute each bucket's curve. None skips the curves and ``caught_drop``,
    which take most of the time.

    Raises:
        BadInput: the scores don't come from these questions.
    """
    chance = equally_good(cells, scores)
    needed = [least_right(scores[name], tolerance) for name in cells.names]
    refusals = [
        _below(_distribution(cells, row, chance), need)
        for row, need in zip(cells.member, needed, strict=True)
    ]
    buckets = []
    for row, name, need, refusal in zip(cells.member, cells.names, needed, refusals, strict=True):
        score = scores[name]
        lowest = lowest_accuracy(score.n) if score.accuracy == 1 else None
        buckets.append(
            BucketPower(
                name=name,
                n=score.n,
                accuracy=float(score.accuracy),
                smallest_drop=1 / score.n,
                allowed=ceil(score.accuracy * score.n) - need,
                refusal=refusal if lowest is None else _refused(score.n, need, lowest),
                caught_drop=None if drops is None else _caught_drop(cells, row, chance, need),
                needed_n=needed_n(float(score.accuracy), float(tolerance)),
                lowest_accuracy=lowest,
                curve=tuple(
                    _below(_distribution(cells, row, _worse(cells, row, chance, drop)), need)
                    for drop in drops or ()
                ),
            )
        )
    joint, limit = _joint(cells, chance, refusals), None
    if any(bucket.lowest_accuracy is not None for bucket in buckets):
        chance = at_limit(cells, scores, chance)
        refusals = [
            _below(_distribution(cells, row, chance), need)
            for row, need in zip(cells.member, needed, strict=True)
        ]
        limit = _joint(cells, chance, refusals)
    return GatePower(float(tolerance), tuple(buckets), joint, tuple(drops or ()), limit)


def passes(power: GatePower, bucket: BucketPower, drop: float, tries: int) -> float:
    """The chance that this bucket lets at least one of ``tries`` candidates pass, each of which has
    truly dropped in it by ``drop``, one of ``power.drops``. Their answers are independent."""
    refused: float = bucket.curve[power.drops.index(drop)] ** tries
    return 1.0 - refused


def at_limit(cells: Cells, scores: Mapping[str, Score], chance: "Array") -> "Array":
    """``chance`` with, for all questions of buckets without a mistake, the lower limit of their
    true accuracy together."""
    import numpy as np

    perfect = [scores[name].accuracy == 1 for name in cells.names]
    inside = cells.member[perfect].any(axis=0)
    questions = int(cells.sizes[inside].sum())
    result: Array = np.where(inside, lowest_accuracy(questions), chance) if questions else chance
    return result


def lowest_accuracy(n: int) -> float:
    """The one-sided 95 % lower limit (Clopper and Pearson) of the true accuracy of a model that
    answered all of ``n`` questions right."""
    return float(_ERROR ** (1 / n))


def needed_n(accuracy: float, tolerance: float) -> int:
    """About how many questions a bucket needs so that a model of this accuracy falls below its
    floor by chance at most :data:`TARGET_REFUSAL` of the time. Normal approximation:
    ``n = z**2 * p * (1 - p) / tolerance**2``. For an accuracy of 1: the smallest number with which
    that holds for the lower limit of what so many right answers show. 0 if the tolerance is 0,
    where no number is enough."""
    if tolerance <= 0:
        return 0
    if accuracy < 1:
        return max(1, ceil(_Z_REFUSAL**2 * accuracy * (1 - accuracy) / tolerance**2))
    # As n grows, the number of misses tends to a Poisson distribution with mean -ln(0.05) = 3,
    # which exceeds 6 with a chance below 5 %; so at most 6 misses have to be allowed.
    for misses in itertools.count():
        n = max(1, ceil(misses / Fraction(tolerance).limit_denominator(10**9)))
        if _refused(n, n - misses, lowest_accuracy(n)) <= TARGET_REFUSAL:
            return n
    raise AssertionError("unreachable")


def _refused(n: int, need: int, accuracy: float) -> float:
    """The chance that a model of this accuracy has fewer than ``need`` right answers of ``n``."""
    from scipy.stats import binom

    return float(binom.cdf(need - 1, n, accuracy))


def least_right(score: Score, tolerance: Fraction) -> int:
    """The number of right answers out of ``score.n`` that the floor requires."""
    return max(0, ceil((score.accuracy - tolerance) * score.n))


def _distribution(cells: Cells, row: "Array", chance: "Array") -> "Array":
    """Probabilities of 0, 1, ... right answers in one bucket, exactly."""
    import numpy as np
    from scipy.stats import binom

    result = np.array([1.0])
    inside = row > 0
    for size in np.unique(cells.sizes[inside]):
        shares = chance[inside & (cells.sizes == size)]
        for cell in binom.pmf(np.arange(size + 1), size, shares[:, None]):
            result = np.convolve(result, cell)
    return result


def _below(distribution: "Array", need: int) -> float:
    return float(min(1.0, distribution[:need].sum()))


def _caught_drop(cells: Cells, row: "Array", chance: "Array", need: int) -> float | None:
    """The smallest true drop, by bisection to a hundredth of a point."""
    if need == 0:
        return None
    low, high = 0.0, 1.0
    while high - low > 1e-4:
        middle = (low + high) / 2
        worse = _worse(cells, row, chance, middle)
        caught = _below(_distribution(cells, row, worse), need) >= TARGET_POWER
        low, high = (low, middle) if caught else (middle, high)
    return high


def _worse(cells: Cells, row: "Array", chance: "Array", drop: float) -> "Array":
    """The chances of a model that is worse by ``drop`` in this bucket: each question's chance of a
    right answer shrinks by the same factor."""
    accuracy = float(row @ (cells.sizes * chance)) / float(row @ cells.sizes)
    result: Array = chance * (max(0.0, accuracy - drop) / accuracy if accuracy else 0.0)
    return result


def _joint(cells: Cells, chance: "Array", refusals: Sequence[float]) -> float:
    import numpy as np
    from scipy.stats import multivariate_normal, norm

    refusal = np.array(refusals)
    if (refusal >= 1).any():
        return 1.0
    spread = cells.sizes * chance * (1 - chance)
    covariance = (cells.member * spread) @ cells.member.T
    # Leave out buckets that never refuse, and those without variance: they have no correlation.
    live = (refusal > 0) & (np.diag(covariance) > 0)
    if not live.any():
        return 0.0
    deviation = np.sqrt(np.diag(covariance)[live])
    correlation = covariance[np.ix_(live, live)] / np.outer(deviation, deviation)
    limits = norm.isf(refusal[live])
    if len(limits) == 1:
        return float(refusal[live][0])
    passes = multivariate_normal.cdf(
        limits,
        cov=correlation,
        allow_singular=True,
        maxpts=100_000 * len(limits),
        abseps=1e-4,
        releps=1e-4,
        rng=np.random.default_rng(20),
    )
    return float(min(1.0, max(0.0, 1 - passes)))
