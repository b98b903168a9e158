"""What is wrong or risky in an eval set is found all at once."""

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lynx_pipeline.domain.eval_set import parse_eval_set
from lynx_pipeline.domain.eval_set_findings import (
    MOST_BUCKETS,
    Finding,
    Findings,
    Severity,
    skeleton,
)
from lynx_pipeline.domain.scorers import EXACT, NUMERIC, Scorer
from lynx_pipeline.errors import BadInput
from lynx_pipeline_tests.support.builders import eval_items, jsonl
from lynx_pipeline_tests.support.names import BUCKET_NAMES

WIDE = Fraction(1, 2)  # no bucket of eval_items() is too small for it


def findings(raw: bytes, tolerance: Fraction = WIDE, scorer: Scorer = EXACT) -> list[Finding]:
    """What is found in these lines."""
    numbered = [(n, line) for n, line in enumerate(raw.split(b"\n"), 1) if line.strip()]
    found = Findings(scorer, tolerance)
    for number, line in numbered:
        found.add(number, line)
    return found.all(lambda: numbered)


def changed(*changes: dict[str, Any]) -> bytes:
    """Twelve good items, and one more for each of ``changes``: the first item changed."""
    items = eval_items()
    extra = [{**items[0], "id": f"x{k}", "prompt": f"p{k}", **it} for k, it in enumerate(changes)]
    return jsonl([*items, *extra])


NFD = {"buckets": {"half": "e\u0301", "all": "x"}}
WORD0 = {"prompt": "Say word0"}
ERROR, WARNING = Severity.ERROR, Severity.WARNING
CASES = {
    "a missing key": (changed({"buckets": None}), ERROR, "malformed_line", 1, (13,)),
    "NFD in a name, twice": (changed(NFD, NFD), ERROR, "malformed_line", 2, (13, 14)),
    "no JSON": (changed() + b"{nope\n", ERROR, "malformed_line", 1, (13,)),
    "a mark between two files": (changed() + b"\xef\xbb\xbf{}", ERROR, "malformed_line", 1, (13,)),
    "other dimensions": (
        changed({"buckets": {"half": "a"}}), ERROR, "other_dimensions", 1, (13,)
    ),
    "a duplicate id": (changed({"id": "i3"}), ERROR, "duplicate_id", 1, (4, 13)),
    "an id three times": (
        changed({"id": "i3"}, {"id": "i3"}), ERROR, "duplicate_id", 2, (4, 13, 14)
    ),
    "only malformed lines": (b"{nope\n", ERROR, "malformed_line", 1, (1,)),
    "only an empty object": (b"{}\n", ERROR, "malformed_line", 1, (1,)),
    "no items": (b"\n", ERROR, "no_items", 1, ()),
    "the same question": (changed(WORD0), WARNING, "duplicate_question", 1, (1, 13)),
    "the same but for spaces": (
        changed({"prompt": "Say  word0 ", "expected": "Word0."}),
        WARNING, "duplicate_question", 1, (1, 13),
    ),
    "another answer": (
        changed({**WORD0, "expected": "x"}), WARNING, "prompt_with_other_answers", 1, (1, 13)
    ),
    "one answer more": (
        changed({**WORD0, "accept": ["x"]}), WARNING, "prompt_with_other_answers", 1, (1, 13)
    ),
    "answers that are alike": (
        changed({"accept": ["WORD0."]}), WARNING, "answers_alike", 1, (13,)
    ),
    "answers twice in accept": (
        changed({"accept": ["b", " B"]}), WARNING, "answers_alike", 1, (13,)
    ),
    "NaN": (changed({"expected": "NaN"}), WARNING, "answer_looks_missing", 1, (13,)),
    "null in accept": (changed({"accept": ["<NA>"]}), WARNING, "answer_looks_missing", 1, (13,)),
    "names in two cases": (
        changed(*[{"buckets": {"half": "A", "all": "x"}}] * 2), WARNING, "names_look_alike", 1, ()
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("raw", "severity", "kind", "count", "lines"), CASES.values(), ids=CASES.keys()
)
def test_each_kind_is_found_alone(
    raw: bytes, severity: Severity, kind: str, count: int, lines: tuple[int, ...]
) -> None:
    """With its count and its lines, and nothing else is reported."""
    (found,) = [it for it in findings(raw) if it.kind != "small_bucket"]
    assert (found.severity, found.kind, found.count, found.lines) == (severity, kind, count, lines)


def test_a_good_eval_set_has_no_findings() -> None:
    """Nothing to say."""
    assert findings(changed()) == []


def test_everything_is_found_at_once_errors_first() -> None:
    """One line does not hide another."""
    raw = changed({"id": "i3"}, {"expected": "NaN"}, WORD0) + b"{}\n"
    kinds = [it.kind for it in findings(raw, Fraction(1, 50))]
    assert kinds == [
        "malformed_line", "duplicate_id", "duplicate_question", "small_bucket",
        "answer_looks_missing",
    ]  # fmt: skip


def test_small_buckets_depend_on_the_tolerance() -> None:
    """Exactly the tolerance passes the gate, so a bucket of six is large enough for a sixth."""
    assert findings(changed(), Fraction(1, 6)) == []
    (found,) = findings(changed(), Fraction(1, 7))
    assert (found.kind, found.count) == ("small_bucket", 2)
    assert "half.a (6), half.b (6)" in found.message


def test_answers_are_compared_by_the_scorer() -> None:
    """Two spellings of a number are one answer."""
    item = {**eval_items(1)[0], "expected": "1000", "accept": ["1,000.0"]}
    assert [it.kind for it in findings(jsonl([item]), Fraction(1), NUMERIC)] == ["answers_alike"]
    assert findings(jsonl([item]), Fraction(1)) == []


def test_the_list_of_malformed_lines_is_bounded() -> None:
    """Thousands of different errors are counted, and the first ones shown."""
    found = findings(b"".join(b'{"x%d": 1}\n' % k for k in range(5_000)))
    assert len(found) < 30
    assert sum(it.count for it in found if it.kind == "malformed_line") == 5_000
    assert all(len(it.lines) <= 10 for it in found)


def test_a_dimension_that_is_unique_per_item_is_named() -> None:
    """The names kept in memory are limited."""
    found = Findings(EXACT, Fraction(1))
    found.sizes = {f"id.{k}": 1 for k in range(MOST_BUCKETS)}
    line = jsonl(eval_items(1))
    found.add(1, line)
    assert len(found.sizes) == MOST_BUCKETS
    assert "many_buckets" in [it.kind for it in found.all(lambda: [(1, line)])]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param("a.past_simple", "a.past simple", id="underscore"),
        pytest.param("a.past-simple", "a.past\u2011simple", id="hyphens"),
        pytest.param("a.x  y", "a.x y", id="two spaces"),
        pytest.param("a.Verb", "a.verb", id="case"),
        pytest.param("a.pa\u0455t", "a.past", id="Cyrillic s"),
        pytest.param("a.\u0430\u0441\u0435", "a.ace", id="all Cyrillic"),
        pytest.param("a.\u039f", "a.O", id="Greek O"),
        pytest.param("a.\uff41", "a.a", id="full width"),
        pytest.param("a.\ufb01n", "a.fin", id="ligature"),
    ],
)
def test_names_that_look_alike_share_a_skeleton(one: str, other: str) -> None:
    """Each is a valid name of its own."""
    assert one != other
    assert skeleton(one) == skeleton(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("a.b", "a.c"), ("a.1", "a.l"), ("a.\u00e9", "a.e"), ("\u65e5.a", "\u6708.a")],
)
def test_names_that_differ_visibly_do_not(one: str, other: str) -> None:
    """A warning about them would be noise."""
    assert skeleton(one) != skeleton(other)


@given(
    st.lists(
        st.fixed_dictionaries(
            {"id": st.sampled_from("ab"), "prompt": st.sampled_from("pq"), "bucket": BUCKET_NAMES},
            optional={"expected": st.sampled_from(["x", "X.", "y", "", "."])},
        ),
        max_size=4,
    )
)
def test_errors_are_exactly_what_the_parser_refuses(rows: list[dict[str, str]]) -> None:
    """A file without errors can be evaluated, and the other way round."""
    items = []
    for row in rows:
        dimension, value = row.pop("bucket").split(".", 1)
        items.append({**row, "buckets": {dimension: value}})
    raw = jsonl(items)
    errors = [it for it in findings(raw) if it.severity is Severity.ERROR]
    try:
        list(parse_eval_set(raw.split(b"\n"), "f"))
    except BadInput:
        assert errors
    else:
        assert errors == []
