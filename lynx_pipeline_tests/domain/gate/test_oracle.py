"""The gate against an oracle in whole-number arithmetic, over every pair of counts."""

import json
from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal

import pytest

from lynx_pipeline.domain.gate.baseline import Baseline, parse_baseline
from lynx_pipeline.domain.gate.rule import judge
from lynx_pipeline.domain.scores import Scores, read_scores
from lynx_pipeline.domain.strict_json import parse_object

# Each as the text in the file, and as a fraction of whole numbers.
TOLERANCES = {
    "0": (0, 1),
    "0.005": (1, 200),
    "0.01": (1, 100),
    "0.02": (1, 50),
    "0.05": (1, 20),
    "0.1": (1, 10),
}


def passes(k: int, j: int, n: int, tolerance: tuple[int, int]) -> bool:
    """k/n >= j/n - t/u, by cross-multiplication."""
    t, u = tolerance
    return u * (j - k) <= t * n


def candidate_of(n: int) -> Scores:
    """A candidate with k of ``n`` right in bucket ``d.<k>``, for every k, read from its file."""
    scores = {f"d.{k}": {"accuracy": k / n, "n": n, "correct": k} for k in range(n + 1)}
    raw = json.dumps({"eval_set_dvc_hash": "h", "buckets": scores}).encode()
    return read_scores(parse_object(raw, "c"), "c")


def baseline_of(n: int, j: int, tolerance: str, names: Iterable[str]) -> Baseline:
    """A baseline, read from its file, with ``j`` of ``n`` right in each of the buckets."""
    raw = (
        f'{{"eval_set_dvc_hash": "h", "baseline_sha": "s", "tolerance_pp": {tolerance}, '
        f'"buckets": {{"d.a": {{"accuracy": {j / n!r}, "n": {n}, "correct": {j}}}}}}}'
    )
    read = parse_baseline(raw.encode(), "b")
    return replace(read, buckets=dict.fromkeys(names, read.buckets["d.a"]))


def disagreements(n: int, tolerance: str) -> list[tuple[int, int]]:
    """The pairs (j, k) on which gate and oracle differ."""
    candidate = candidate_of(n)
    return [
        (j, int(bucket.name[2:]))
        for j in range(n + 1)
        for bucket in judge(baseline_of(n, j, tolerance, candidate.buckets), candidate).buckets
        if bucket.passed != passes(int(bucket.name[2:]), j, n, TOLERANCES[tolerance])
    ]


@pytest.mark.parametrize("tolerance", TOLERANCES)
@pytest.mark.parametrize(
    "n", [1, 7, 60, 100, *(pytest.param(n, marks=pytest.mark.slow) for n in (240, 400))]
)
def test_every_pair_agrees_with_the_oracle(n: int, tolerance: str) -> None:
    """For all j and k the gate and the oracle agree."""
    assert disagreements(n, tolerance) == []


@pytest.mark.slow
@pytest.mark.parametrize("tolerance", ["0", "0.02", "0.1"])
def test_every_pair_of_a_large_prime_agrees_too(tolerance: str) -> None:
    """n = 499, where no positive tolerance is a whole number of questions."""
    assert disagreements(499, tolerance) == []


@pytest.mark.parametrize("n", [1, 7, 60, 100, 240, 400, 997])
def test_decimals_are_used_as_written(n: int) -> None:
    """Without ``correct``, the score is exactly the digits in the file."""
    for j in range(n + 1):
        for k in (max(0, j - n // 50), max(0, j - n // 50 - 1)):
            floor, reached = f"{j / n:.4f}", f"{k / n:.4f}"
            baseline = parse_baseline(
                f'{{"eval_set_dvc_hash": "h", "baseline_sha": "s", "tolerance_pp": 0.02, '
                f'"buckets": {{"d.a": {{"accuracy": {floor}, "n": {n}}}}}}}'.encode(),
                "b",
            )
            raw = (
                '{"eval_set_dvc_hash": "h", "buckets": '
                f'{{"d.a": {{"accuracy": {reached}, "n": {n}}}}}}}'
            )
            (bucket,) = judge(baseline, read_scores(parse_object(raw.encode(), "c"), "c")).buckets
            assert bucket.passed == (Decimal(reached) >= Decimal(floor) - Decimal("0.02"))
