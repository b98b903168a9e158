"""Statistics shown next to a verdict. For information only; nothing here decides anything.

Intervals are Wilson score intervals (E. B. Wilson, "Probable inference, the law of succession, and
statistical inference", JASA 22, 1927). Two models on the same questions are compared by
McNemar's test in its exact form (Q. McNemar, Psychometrika 12, 1947): given that an answer
changed, each direction is equally likely if the models are equally good.
"""

from math import sqrt

# Two-sided 95 %: the normal distribution's 97.5 % point.
_Z = 1.959963984540054


def wilson(correct: int, n: int) -> tuple[float, float]:
    """The 95 % Wilson score interval for ``correct`` of ``n``: its bounds, as fractions.

    Raises:
        ValueError: ``n`` is not positive, or ``correct`` is not between 0 and ``n``.
    """
    if n <= 0 or not 0 <= correct <= n:
        raise ValueError(f"{correct} of {n} is not a fraction from 0 to 1")
    share, z2 = correct / n, _Z * _Z
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z / (1 + z2 / n) * sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    low = 0.0 if correct == 0 else max(0.0, middle - half)
    high = 1.0 if correct == n else min(1.0, middle + half)
    return low, high


def mcnemar(lost: int, gained: int) -> float:
    """Two-sided p-value of the exact McNemar test: ``lost`` answers went right to wrong,
    ``gained`` wrong to right. 1.0 if nothing changed.

    Raises:
        ValueError: a count is negative.
    """
    if lost < 0 or gained < 0:
        raise ValueError("a number of changed answers can't be negative")
    if lost == gained:
        return 1.0
    from scipy.special import bdtr

    return min(1.0, 2 * float(bdtr(min(lost, gained), lost + gained, 0.5)))
