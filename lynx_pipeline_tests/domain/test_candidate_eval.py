"""Counting: the eval set determines the denominator, whatever the predictions contain."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lynx_pipeline.domain.candidate_eval import BUBBLEWRAP, NONE, score
from lynx_pipeline.domain.scores import Score
from lynx_pipeline.errors import BadInput
from lynx_pipeline_tests.support.builders import candidate_eval, eval_items, eval_set

ITEMS = eval_set()
RIGHT: dict[str, str | None] = {item.id: item.answers[0] for item in ITEMS.items}


@given(st.dictionaries(st.sampled_from(sorted(RIGHT)), st.none() | st.just("wrong"), max_size=12))
def test_every_bucket_is_counted_out_of_its_whole_size(spoilt: dict[str, str | None]) -> None:
    """The result equals a plain count; wrong and null answers stay in the denominator."""
    counts = score(ITEMS, {**RIGHT, **spoilt}.items())
    right: Counter[str] = Counter()
    for item in eval_items():
        if item["id"] not in spoilt:
            right.update(f"{dimension}.{value}" for dimension, value in item["buckets"].items())
    sizes = {"half.a": 6, "half.b": 6, "all.x": 12}
    assert counts.buckets == {name: Score.counted(right[name], n) for name, n in sizes.items()}
    assert (counts.n, counts.correct) == (12, 12 - len(spoilt))
    assert counts.nulls == list(spoilt.values()).count(None)


@given(st.permutations(sorted(RIGHT.items())))
def test_the_order_of_answers_does_not_matter(rows: list[tuple[str, str | None]]) -> None:
    """Answers are matched by id, not by position."""
    assert score(ITEMS, rows) == score(ITEMS, RIGHT.items())


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        pytest.param([], "no answer to item 'i0'", id="none"),
        pytest.param([*RIGHT.items()][:-1], "no answer to item 'i11'", id="one missing"),
        pytest.param([*RIGHT.items(), ("i99", "x")], "unknown item, 'i99'", id="one too many"),
        pytest.param(
            [*RIGHT.items(), ("i3", "word3")], "two answers to item 'i3'", id="twice, the same"
        ),
        pytest.param(
            [("i3", "x"), *RIGHT.items()], "two answers to item 'i3'", id="twice, different"
        ),
    ],
)
def test_missing_unknown_or_duplicate_answers_are_an_error(
    rows: list[tuple[str, str | None]], says: str
) -> None:
    """A missing answer never reduces n, and the better of two answers is never chosen."""
    with pytest.raises(BadInput, match=says):
        score(ITEMS, rows)


@pytest.mark.parametrize("isolation", [NONE, "", "Bubblewrap", "bubblewrap ", "chroot"])
def test_an_unknown_isolation_level_counts_as_none(isolation: str) -> None:
    """Evidence is a file that anyone may have written."""
    assert candidate_eval(ITEMS, b"", RIGHT, isolation=BUBBLEWRAP).isolated
    assert not candidate_eval(ITEMS, b"", RIGHT, isolation=isolation).isolated
