"""Which changes to the floors are refused, and how a change is shown."""

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

import pytest

from lynx_pipeline.domain.gate.baseline import Baseline
from lynx_pipeline.domain.gate.baseline_change import bucket_changes, drift, objections
from lynx_pipeline.domain.scorers import EXACT, NUMERIC
from lynx_pipeline.domain.scores import Score


def baseline(sha: str, previous: str | None, **correct: int) -> Baseline:
    """A baseline over buckets ``d.<name>`` of 50 items each."""
    return Baseline(
        sha256=sha,
        eval_set_dvc_hash="md5",
        eval_set_sha256=None,
        scorer=EXACT,
        baseline_sha=sha,
        previous_baseline_sha=previous,
        tolerance=Fraction(2, 100),
        latency_p95_ms=None,
        justification=f"Because of {sha}.",
        buckets={f"d.{name}": Score.counted(k, 50) for name, k in correct.items()},
    )


OLD = baseline("old", None, a=40, b=45)
NEW = baseline("new", "old", a=39, b=46)


def test_a_justified_change_with_evidence_is_allowed() -> None:
    """A floor may fall if the change says why and the stored predictions confirm its numbers."""
    assert objections(OLD, NEW, NEW.buckets) == []


def test_a_first_baseline_needs_justification_and_evidence_too() -> None:
    """There is no first-time exception."""
    assert objections(None, OLD, OLD.buckets) == []
    assert len(objections(None, replace(OLD, justification=None), None)) == 2


@pytest.mark.parametrize(
    ("after", "measured", "says"),
    [
        pytest.param(replace(NEW, justification=None), NEW.buckets, "no justification", id="none"),
        pytest.param(replace(NEW, justification="  "), NEW.buckets, "no justification", id="blank"),
        pytest.param(
            replace(NEW, justification=OLD.justification),
            NEW.buckets,
            "unchanged from the previous",
            id="same",
        ),
        pytest.param(
            replace(NEW, previous_baseline_sha="other"), NEW.buckets, "previous", id="lineage"
        ),
        pytest.param(
            replace(NEW, previous_baseline_sha=None), NEW.buckets, "is none", id="no lineage"
        ),
        pytest.param(NEW, None, "no stored reference", id="no evidence"),
        pytest.param(
            NEW,
            OLD.buckets,
            "differ from the stored reference predictions: d.a, d.b",
            id="different numbers",
        ),
        pytest.param(
            baseline("new", "old", a=39),
            {"d.a": Score.counted(39, 50)},
            "d.b was removed",
            id="removed",
        ),
        pytest.param(
            replace(NEW, tolerance=Fraction(3, 100)),
            NEW.buckets,
            "tolerance was raised",
            id="tolerance",
        ),
        pytest.param(replace(NEW, scorer=NUMERIC), NEW.buckets, "to numeric/1", id="scorer"),
    ],
)
def test_each_fault_gives_one_objection(
    after: Baseline, measured: Mapping[str, Score] | None, says: str
) -> None:
    """Each silent change of the floors is detected and named."""
    (objection,) = objections(OLD, after, measured)
    assert says in objection


def test_changes_that_the_justification_mentions_are_allowed() -> None:
    """A removed bucket, a larger tolerance or a different scorer is allowed if it is mentioned."""
    changed = replace(
        baseline("new", "old", a=39),
        tolerance=Fraction(3, 100),
        scorer=NUMERIC,
        justification="Drop d.b, covered by d.a; widen the tolerance; the scorer reads numbers.",
    )
    assert objections(OLD, changed, changed.buckets) == []


def test_the_difference_shows_falling_floors_first() -> None:
    """Worst first, with points; unchanged floors are left out."""
    new = baseline("new", "old", a=39, b=46, c=1)
    assert [change.text for change in bucket_changes(OLD, new)] == [
        "d.a: FALLS -2.00 points, 80.00% to 78.00%",
        "d.b: rises +2.00 points, 90.00% to 92.00%",
        "d.c: new bucket",
    ]
    assert bucket_changes(new, OLD)[0].text.startswith("d.c: REMOVED")


def test_the_difference_shows_buckets_whose_size_changes() -> None:
    """The number of items says how far an accuracy can be trusted, also where that is the same."""
    sizes = {
        "d.a": Score.counted(80, 100),
        "d.b": Score.counted(20, 25),
        "d.c": Score.counted(1, 2),
    }
    old = replace(OLD, buckets={**OLD.buckets, "d.c": Score.counted(1, 2)})
    assert [change.text for change in bucket_changes(old, replace(NEW, buckets=sizes))] == [
        "d.b: FALLS -10.00 points, 90.00% to 80.00%, of 25 items instead of 50",
        "d.a: stays at 80.00%, of 100 items instead of 50",
    ]


def test_small_drops_add_up() -> None:
    """Five drops of two points are a drift of ten points; a gain elsewhere does not offset it."""
    history = [baseline(str(k), None, a=40 - k, b=40 + k) for k in range(6)]
    history.append(baseline("up", None, a=50, b=45))
    assert drift(history) == {"d.a": Fraction(-10, 100), "d.b": Fraction(0)}


def test_drift_counts_only_comparable_baselines() -> None:
    """Baselines with a different eval set or scorer are left out."""
    other = replace(baseline("x", None, a=50, b=50), eval_set_dvc_hash="before")
    assert drift([other, OLD, NEW])["d.a"] == Fraction(-2, 100)
    other_scorer = replace(baseline("x", None, a=50, b=50), scorer=NUMERIC)
    assert drift([other_scorer, OLD, NEW])["d.a"] == Fraction(-2, 100)
    assert drift([]) == {}
