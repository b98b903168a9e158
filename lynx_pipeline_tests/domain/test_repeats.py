"""Repeated keys among many, against plain counting."""

from collections import Counter, defaultdict

from hypothesis import given
from hypothesis import strategies as st

from lynx_pipeline.domain.repeats import Keys


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.integers(0, 2))))
def test_repeats_equal_plain_counting(rows: list[tuple[str, int]]) -> None:
    """Which keys are repeated, how many rows too many, and where they are."""
    mine, others = Keys(), Keys()
    seen = defaultdict(set)
    for key, other in rows:
        mine.add(key)
        others.add(other)
        seen[key].add(other)
    counts = Counter(key for key, _ in rows)
    repeated = mine.repeated()
    assert repeated.extra == len(rows) - len(counts)
    assert {key for key in "abcde" if key in repeated} == {k for k, n in counts.items() if n > 1}
    found = repeated.rows(((key, number) for number, (key, _) in enumerate(rows)), 2)
    assert len(found) == min(2, sum(n > 1 for n in counts.values()))
    for repeat, numbers in found.items():
        assert numbers == [n for n, (it, _) in enumerate(rows) if it == repeat][:5]
    ambiguous = mine.ambiguous(others)
    assert {key for key in "abcde" if key in ambiguous} == {
        key for key, values in seen.items() if len(values) > 1
    }
