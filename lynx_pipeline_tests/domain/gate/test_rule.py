"""The rule on scores read from JSON, against an oracle in whole-number arithmetic.

``test_oracle`` covers every (j, k) pair for several n. These tests cover arbitrary pairs, many
buckets at once, and comparisons that are errors instead of verdicts.
"""

import json
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lynx_pipeline.domain.gate.baseline import Baseline, parse_baseline
from lynx_pipeline.domain.gate.rule import Verdict, judge, points, unresolvable
from lynx_pipeline.domain.scores import Scores, read_scores
from lynx_pipeline.domain.strict_json import parse_object
from lynx_pipeline.errors import BadInput
from lynx_pipeline_tests.support.builders import baseline_json, bucket, candidate_json, md5

# (j, k, n): the baseline's and the candidate's right answers out of n.
counts = st.integers(1, 10**6).flatmap(
    lambda n: st.tuples(st.integers(0, n), st.integers(0, n), st.just(n))
)


def read_baseline(**changes: Any) -> Baseline:
    """A baseline through its file's bytes."""
    return parse_baseline(json.dumps(baseline_json(**changes)).encode(), "baseline")


def read_candidate(**changes: Any) -> Scores:
    """A candidate's scores through their file's bytes."""
    raw = json.dumps(candidate_json(**changes)).encode()
    return read_scores(parse_object(raw, "candidate"), "candidate")


def verdict(before: dict[str, Any], after: dict[str, Any], tolerance: str = "0.02") -> Verdict:
    """The verdict on two sets of buckets; ``tolerance`` is the text in the file."""
    text = json.dumps(baseline_json(before)).replace("0.02", tolerance, 1)
    assert f'"tolerance_pp": {tolerance}' in text
    return judge(parse_baseline(text.encode(), "baseline"), read_candidate(buckets=after))


@given(counts, st.integers(0, 9999))
def test_the_rule_agrees_with_cross_multiplication(pair: tuple[int, int, int], digits: int) -> None:
    """k/n >= j/n - t/u exactly where u(j - k) <= tn, for any counts and tolerance."""
    j, k, n = pair
    text = f"0.{digits:04d}"
    found = verdict({"d.a": bucket(j, n)}, {"d.a": bucket(k, n)}, text)
    assert found.passed == (10_000 * (j - k) <= digits * n)


@given(st.integers(1, 10_000), st.integers(1, 99), st.data())
def test_the_exact_boundary_passes_and_one_item_more_fails(
    hundreds: int, percent: int, data: st.DataObject
) -> None:
    """With n a multiple of 100, a drop of exactly the tolerance exists at any accuracy."""
    n, drop = 100 * hundreds, percent * hundreds
    j = data.draw(st.integers(drop, n))
    tolerance = f"0.{percent:02d}"
    before = {"d.a": bucket(j, n)}
    exact = verdict(before, {"d.a": bucket(j - drop, n)}, tolerance)
    assert exact.passed
    assert exact.worst.margin == 0
    if j > drop:
        below = verdict(before, {"d.a": bucket(j - drop - 1, n)}, tolerance)
        assert not below.passed
        assert below.worst.margin == Fraction(-1, n)


@given(st.lists(counts, min_size=1, max_size=8))
def test_one_bad_bucket_is_enough_and_each_is_named(pairs: list[tuple[int, int, int]]) -> None:
    """The failed buckets are exactly the oracle's, worst first, whatever the others gained."""
    before = {f"d.{i}": bucket(j, n) for i, (j, _, n) in enumerate(pairs)}
    after = {f"d.{i}": bucket(k, n) for i, (_, k, n) in enumerate(pairs)}
    found = verdict(before, after)
    bad = {f"d.{i}" for i, (j, k, n) in enumerate(pairs) if 50 * (j - k) > n}
    assert {b.name for b in found.failed} == bad
    assert found.passed == (not bad)
    margins = [b.margin for b in found.failed if b.margin is not None]
    assert margins == sorted(margins)
    assert all(b.name in b.reason for b in found.failed)


def test_a_missing_bucket_fails_and_is_named_first() -> None:
    """A missing score is worse than any score, and perfect buckets elsewhere do not help."""
    before = {"d.a": bucket(50, 100), "d.gone": bucket(0, 100), "d.low": bucket(100, 100)}
    found = verdict(before, {"d.a": bucket(100, 100), "d.low": bucket(0, 100)})
    assert [b.name for b in found.failed] == ["d.gone", "d.low"]
    assert found.failed[0].reason == "d.gone: the candidate has no such bucket"
    assert found.worst.name == "d.gone"
    assert found.worst.margin is None


def test_a_bucket_without_a_floor_is_reported_and_does_not_affect_the_verdict() -> None:
    """This holds even if all its answers are wrong."""
    found = verdict(
        {"d.a": bucket(9, 10)}, {"d.a": bucket(9, 10), "d.z": bucket(0, 5), "d.n": bucket(1, 1)}
    )
    assert found.passed
    assert found.ungated == ("d.n", "d.z")


def test_a_verdict_without_buckets_is_not_a_pass() -> None:
    """Empty evidence fails, even if a caller bypasses the parser."""
    assert not Verdict((), (), Fraction(0)).passed


@pytest.mark.parametrize(
    ("baseline", "candidate", "says"),
    [
        pytest.param(
            {}, {"buckets": {"half.a": bucket(45, 50)}}, "half.a.*n = 50", id="different n"
        ),
        pytest.param(
            {}, {"eval_set_dvc_hash": md5(b"x")}, "eval_set_dvc_hash", id="different dvc hash"
        ),
        pytest.param({}, {"eval_set_dvc_hash": "D" * 32}, "another eval set", id="different case"),
        pytest.param(
            {"eval_set_sha256": "a" * 64},
            {"eval_set_sha256": "b" * 64},
            "forged",
            id="different sha256",
        ),
        pytest.param(
            {"scorer": "numeric/1"}, {"scorer": "x"}, "by x.*by numeric/1", id="different scorer"
        ),
        pytest.param({}, {"scorer": "numeric/1"}, "by normalised-exact", id="default scorer"),
    ],
)
def test_scores_that_cannot_be_compared_are_an_error(
    baseline: dict[str, Any], candidate: dict[str, Any], says: str
) -> None:
    """A different eval set, scorer or n gives no verdict, neither passed nor failed."""
    with pytest.raises(BadInput, match=says):
        judge(read_baseline(**baseline), read_candidate(**candidate))


@pytest.mark.parametrize("has", ["baseline", "candidate", "neither"])
def test_a_sha256_is_compared_only_where_both_have_it(has: str) -> None:
    """The sha256 is optional in both files."""
    given = {"eval_set_sha256": "a" * 64}
    found = judge(
        read_baseline(**(given if has == "baseline" else {})),
        read_candidate(**(given if has == "candidate" else {})),
    )
    assert found.passed


@pytest.mark.parametrize(
    ("share", "text"),
    [
        pytest.param(Fraction(0), "0.00", id="zero"),
        pytest.param(Fraction(-1, 60), "-1.67", id="a loss"),
        pytest.param(Fraction(1, 50), "+2.00", id="a gain"),
        pytest.param(Fraction(-1, 10**6), "-0.00...", id="too small to show"),
        pytest.param(Fraction(1, 10**6), "0.00...", id="too small to show, gained"),
    ],
)
def test_points_never_show_a_change_as_zero(share: Fraction, text: str) -> None:
    """A drop that rounds to zero is marked as a drop."""
    assert points(share) == text


def test_buckets_too_small_for_the_tolerance_are_found() -> None:
    """A bucket is too small if 1/n is above the tolerance; if it is equal, the size suffices."""
    buckets = {"d.a": bucket(1, 49), "d.b": bucket(1, 50), "d.c": bucket(1, 51)}
    assert unresolvable(read_baseline(buckets=buckets)) == ("d.a",)
