"""The gate's operating characteristic, against simulated candidates."""

from fractions import Fraction
from math import comb, sqrt

import numpy as np
import pytest

from lynx_pipeline.config import load_settings
from lynx_pipeline.domain.eval_set import EvalSet, Item
from lynx_pipeline.domain.gate.baseline import Baseline
from lynx_pipeline.domain.gate.power import (
    Cells,
    cells_of,
    equally_good,
    gate_power,
    least_right,
    needed_n,
)
from lynx_pipeline.domain.scores import Score
from lynx_pipeline.errors import BadInput
from lynx_pipeline.evaluation.inputs import matched_inputs
from lynx_pipeline_tests.support import REPO

Z99 = 2.5758


@pytest.fixture(scope="module")
def shipped() -> tuple[Cells, Baseline]:
    """The shipped eval set as cells, and the shipped baseline."""
    eval_set, baseline = matched_inputs(load_settings(REPO, {}))
    return cells_of(eval_set, list(baseline.buckets)), baseline


def simulated_refusal(
    cells: Cells, scores: dict[str, Score], tolerance: Fraction, candidates: int
) -> float:
    """The fraction of simulated equally good candidates that the rule refuses."""
    rng = np.random.default_rng(7)
    chance = equally_good(cells, scores)
    needed = np.array([least_right(scores[name], tolerance) for name in cells.names])
    refused = 0
    for _ in range(candidates // 5_000):
        right = rng.binomial(cells.sizes.astype(int), chance, size=(5_000, len(chance)))
        refused += int(((right @ cells.member.T) < needed).any(axis=1).sum())
    return refused / candidates


@pytest.mark.parametrize("points", [2, 4, 6])
def test_the_shipped_gate_agrees_with_simulated_candidates(
    shipped: tuple[Cells, Baseline], points: int
) -> None:
    """The refusal chance is within the 99 % interval of 20,000 simulated candidates, at the shipped
    tolerance of two points and at larger ones, where refusals are rarer."""
    cells, baseline = shipped
    scores, tolerance = dict(baseline.buckets), Fraction(points, 100)
    share = simulated_refusal(cells, scores, tolerance, 20_000)
    half = Z99 * sqrt(share * (1 - share) / 20_000)
    assert abs(gate_power(cells, scores, tolerance).refusal - share) <= half


def test_an_equally_good_candidate_has_the_reference_accuracy_in_every_bucket(
    shipped: tuple[Cells, Baseline],
) -> None:
    """The fitted chances reproduce each bucket's accuracy."""
    cells, baseline = shipped
    expected = cells.member @ (cells.sizes * equally_good(cells, baseline.buckets))
    for name, right in zip(cells.names, expected, strict=True):
        assert right == pytest.approx(baseline.buckets[name].correct, abs=1e-5)


def eval_set_of(*buckets: tuple[str, ...]) -> EvalSet:
    """One item for each tuple of bucket names."""
    items = tuple(Item(str(i), "p", ("a",), names) for i, names in enumerate(buckets))
    return EvalSet(items, "md5", "sha")


def test_one_bucket_gives_a_binomial_sum() -> None:
    """With a single bucket the refusal chance is a sum of binomial terms."""
    cells = cells_of(eval_set_of(*[("d.a",)] * 20), ["d.a"])
    power = gate_power(cells, {"d.a": Score.counted(16, 20)}, Fraction(1, 10))
    below = sum(comb(20, k) * 0.8**k * 0.2 ** (20 - k) for k in range(14))
    assert power.refusal == pytest.approx(below, rel=1e-9)
    assert power.buckets[0].allowed == 2


def test_two_copies_of_a_bucket_count_as_one() -> None:
    """Buckets with the same questions fail together; treated as independent, refusals would
    double."""
    cells = cells_of(eval_set_of(*[("d.a", "e.a")] * 50), ["d.a", "e.a"])
    scores = {"d.a": Score.counted(40, 50), "e.a": Score.counted(40, 50)}
    power = gate_power(cells, scores, Fraction(1, 20))
    assert power.refusal == pytest.approx(power.buckets[0].refusal, abs=1e-3)


def test_a_model_as_good_as_a_perfect_reference_is_never_refused() -> None:
    """If every answer is right, chance plays no role."""
    cells = cells_of(eval_set_of(*[("d.a",)] * 5), ["d.a"])
    assert gate_power(cells, {"d.a": Score.counted(5, 5)}, Fraction(0)).refusal == 0


def test_the_detectable_drop_is_detected_and_a_smaller_one_is_not(
    shipped: tuple[Cells, Baseline],
) -> None:
    """Each bucket's curve crosses 80 % at its detectable drop."""
    cells, baseline = shipped
    scores = dict(baseline.buckets)
    first = gate_power(cells, scores, baseline.tolerance, drops=(0.0,)).buckets[8]
    assert first.caught_drop is not None
    near = (first.caught_drop - 0.002, first.caught_drop + 0.002)
    curve = gate_power(cells, scores, baseline.tolerance, drops=near).buckets[8].curve
    assert curve[0] < 0.8 < curve[1]


@pytest.mark.parametrize("accuracy", [0.6, 0.8, 0.9])
def test_the_needed_n_brings_chance_refusals_to_a_twentieth(accuracy: float) -> None:
    """At that size an equally good model is refused about 5 % of the time."""
    n = round(needed_n(accuracy, 0.02), -2)
    cells = cells_of(eval_set_of(*[("d.a",)] * n), ["d.a"])
    score = Score.counted(round(accuracy * n), n)
    power = gate_power(cells, {"d.a": score}, Fraction(2, 100))
    assert power.refusal == pytest.approx(0.05, abs=0.012)


def test_scores_that_no_model_could_have_are_refused() -> None:
    """Two dimensions over the same questions can't disagree about how many were right."""
    cells = cells_of(eval_set_of(*[("d.a", "e.a")] * 10), ["d.a", "e.a"])
    with pytest.raises(BadInput, match="no model could have"):
        equally_good(cells, {"d.a": Score.counted(9, 10), "e.a": Score.counted(2, 10)})
