"""The statistics next to a verdict, against independent formulas."""

from fractions import Fraction
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lynx_pipeline.domain.gate.statistics import mcnemar, wilson


@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_a_wilson_bound_is_where_the_score_test_just_rejects(pair: tuple[int, int]) -> None:
    """Each bound p solves |share - p| = z * sqrt(p (1 - p) / n), which defines the interval."""
    correct, n = pair
    low, high = wilson(correct, n)
    share = correct / n
    assert 0 <= low <= share <= high <= 1
    for bound in (low, high):
        if 0 < bound < 1:
            z = abs(share - bound) / (bound * (1 - bound) / n) ** 0.5
            assert z == pytest.approx(1.959963984540054, rel=1e-6)


def test_wilson_at_a_published_value() -> None:
    """10 of 20 gives 29.9 % to 70.1 %."""
    assert wilson(10, 20) == pytest.approx((0.2993, 0.7007), abs=5e-5)


@pytest.mark.parametrize(("correct", "n"), [(0, 0), (-1, 5), (6, 5)])
def test_wilson_refuses_impossible_counts(correct: int, n: int) -> None:
    """Impossible counts are a programming error, not an accuracy of 0."""
    with pytest.raises(ValueError, match="not a fraction from 0 to 1"):
        wilson(correct, n)


@given(st.integers(0, 80), st.integers(0, 80))
def test_mcnemar_is_the_exact_two_sided_binomial(lost: int, gained: int) -> None:
    """The expected value counts outcomes at least as uneven, out of 2 to the power of n."""
    n = lost + gained
    extreme = sum(comb(n, k) for k in range(n + 1) if abs(2 * k - n) >= abs(lost - gained))
    assert mcnemar(lost, gained) == pytest.approx(float(Fraction(extreme, 2**n)), rel=1e-9)


def test_mcnemar_refuses_negative_counts() -> None:
    """Negative counts are a programming error."""
    with pytest.raises(ValueError, match="negative"):
        mcnemar(-1, 3)
