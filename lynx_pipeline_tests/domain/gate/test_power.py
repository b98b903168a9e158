"""The gate's operating characteristic, against simulated candidates."""

from fractions import Fraction
from math import comb, sqrt
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from lynx_pipeline.config import load_settings
from lynx_pipeline.domain.eval_set import EvalSet, Item
from lynx_pipeline.domain.gate.baseline import Baseline
from lynx_pipeline.domain.gate.power import (
    DROPS,
    Cells,
    assumed,
    at_limit,
    cells_of,
    equally_good,
    gate_power,
    least_right,
    lowest_accuracy,
    needed_n,
    passes,
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
    cells: Cells,
    scores: dict[str, Score],
    tolerance: Fraction,
    candidates: int,
    chance: Any = None,
) -> float:
    """The fraction of simulated candidates that the rule refuses. By default they are equally
    good."""
    rng = np.random.default_rng(7)
    chance = equally_good(cells, scores) if chance is None else chance
    needed = np.array([least_right(scores[name], tolerance) for name in cells.names])
    refused = 0
    for _ in range(candidates // 5_000):
        right = rng.binomial(cells.sizes.astype(int), chance, size=(5_000, len(chance)))
        refused += int(((right @ cells.member.T) < needed).any(axis=1).sum())
    return refused / candidates


@pytest.mark.slow
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


@pytest.mark.parametrize("tries", [1, 2, 5, 40])
@pytest.mark.parametrize("drop", [0.0, 0.03, 0.1])
def test_the_best_of_several_candidates_agrees_with_simulated_ones(drop: float, tries: int) -> None:
    """100 questions of one bucket, 80 of which the reference answers right: at least 78 pass."""
    items = tuple(Item(str(i), "?", ("a",), ("d.a",)) for i in range(100))
    cells, scores = cells_of(EvalSet(items, "h", "s"), ["d.a"]), {"d.a": Score.counted(80, 100)}
    power = gate_power(cells, scores, Fraction(2, 100), drops=DROPS)
    computed = passes(power, power.buckets[0], drop, tries)
    rng = np.random.default_rng(11)
    right = rng.binomial(100, 0.8 - drop, size=(40_000, tries))
    seen = int((right >= 78).any(axis=1).sum())
    interval = binomtest(seen, 40_000).proportion_ci(0.9999)
    assert interval.low <= computed <= interval.high


def test_two_copies_of_a_bucket_count_as_one() -> None:
    """Buckets with the same questions fail together; treated as independent, refusals would
    double."""
    cells = cells_of(eval_set_of(*[("d.a", "e.a")] * 50), ["d.a", "e.a"])
    scores = {"d.a": Score.counted(40, 50), "e.a": Score.counted(40, 50)}
    power = gate_power(cells, scores, Fraction(1, 20))
    assert power.refusal == pytest.approx(power.buckets[0].refusal, abs=1e-3)


@pytest.mark.parametrize("n", [1, 5, 60, 92, 1_000])
def test_the_limit_of_a_perfect_reference_agrees_with_scipy(n: int) -> None:
    """The lower limit of SciPy's exact one-sided interval, and near the rule of three."""
    interval = binomtest(n, n, alternative="greater").proportion_ci(0.95, method="exact")
    assert lowest_accuracy(n) == pytest.approx(interval.low, rel=1e-9)
    if n >= 60:
        assert lowest_accuracy(n) == pytest.approx(1 - 3 / n, abs=2 / n**1.5)


def test_a_perfect_reference_promises_no_more_than_its_limit() -> None:
    """92 of 92: measured, an equally good model is never refused; at the limit of 96.8 %, as often
    as simulated models with that accuracy miss more than one question."""
    cells = cells_of(eval_set_of(*[("d.a",)] * 92), ["d.a"])
    power = gate_power(cells, {"d.a": Score.counted(92, 92)}, Fraction(2, 100))
    (bucket,) = power.buckets
    assert power.refusal == 0
    assert bucket.lowest_accuracy == pytest.approx(0.968, abs=1e-3)
    draws = np.random.default_rng(3).binomial(92, 0.05 ** (1 / 92), size=200_000)
    simulated = float((draws < 91).mean())
    assert bucket.refusal == pytest.approx(simulated, abs=0.005)
    assert power.refusal_limit == pytest.approx(bucket.refusal)


@pytest.mark.slow
def test_the_limit_of_the_shipped_gate_agrees_with_simulated_candidates(
    shipped: tuple[Cells, Baseline],
) -> None:
    """Some of its buckets are perfect, and they share questions with others."""
    cells, baseline = shipped
    scores = dict(baseline.buckets)
    power = gate_power(cells, scores, baseline.tolerance)
    assert power.perfect
    assert power.refusal_limit is not None
    chance = at_limit(cells, scores, equally_good(cells, scores))
    share = simulated_refusal(cells, scores, baseline.tolerance, 20_000, chance)
    half = Z99 * sqrt(share * (1 - share) / 20_000)
    assert abs(power.refusal_limit - share) <= half
    assert power.refusal < power.refusal_limit


@pytest.mark.parametrize("tolerance", [0.01, 0.02, 0.05])
def test_the_needed_n_of_a_perfect_reference_is_the_smallest(tolerance: float) -> None:
    """With one question fewer than the tolerance allows, a model at the limit is refused more
    often than 5 %."""
    n = needed_n(1.0, tolerance)
    allowed = round(n * tolerance)
    assert n == pytest.approx(allowed / tolerance)
    assert binom.sf(allowed, n, 1 - lowest_accuracy(n)) <= 0.05
    fewer = round((allowed - 1) / tolerance)
    assert binom.sf(allowed - 1, fewer, 1 - lowest_accuracy(fewer)) > 0.05


def test_an_assumed_accuracy_holds_in_every_bucket(shipped: tuple[Cells, Baseline]) -> None:
    """With the same power as a measured reference of that accuracy."""
    cells, _ = shipped
    scores = assumed(cells, Fraction(9, 10), {})
    assert {score.accuracy for score in scores.values()} == {Fraction(9, 10)}
    measured = {name: Score.counted(round(0.9 * it.n), it.n) for name, it in scores.items()}
    tolerance = Fraction(2, 100)
    both = [gate_power(cells, each, tolerance).refusal for each in (scores, measured)]
    assert both[0] == pytest.approx(both[1], abs=1e-3)


def test_an_assumption_for_a_bucket_changes_those_that_share_its_questions(
    shipped: tuple[Cells, Baseline],
) -> None:
    """A fifth of each verb's questions is in the past tense; other tenses keep the overall one."""
    cells, _ = shipped
    scores = assumed(cells, Fraction(9, 10), {"tense.past_simple": Fraction(8, 10)})
    assert float(scores["tense.past_simple"].accuracy) == pytest.approx(0.8, abs=1e-6)
    assert scores["tense.infinitive"].accuracy == Fraction(9, 10)
    assert float(scores["verb.go"].accuracy) == pytest.approx(0.88, abs=1e-6)
    overlapping = {"tense.past_simple": Fraction(8, 10), "verb.go": Fraction(7, 10)}
    both = assumed(cells, Fraction(9, 10), overlapping)
    assert {name: round(float(both[name].accuracy), 6) for name in overlapping} == {
        "tense.past_simple": 0.8, "verb.go": 0.7
    }  # fmt: skip
    assert 0 < gate_power(cells, both, Fraction(2, 100)).refusal < 1


def test_impossible_assumptions_are_refused() -> None:
    """A name that is no bucket; and two buckets with the same questions but other accuracies."""
    cells = cells_of(eval_set_of(*[("d.a", "e.a")] * 10), ["d.a", "e.a"])
    half = Fraction(1, 2)
    with pytest.raises(BadInput, match=r"no bucket 'd.b'\. It has d.a, e.a"):
        assumed(cells, half, {"d.b": half})
    with pytest.raises(BadInput, match="no model could have these accuracies on this eval set: "):
        assumed(cells, half, {"d.a": half, "e.a": Fraction(9, 10)})


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
