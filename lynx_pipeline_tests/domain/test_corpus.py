"""An eval set and its corpus: what is read, what is found, and how far their shares differ."""

import json
import math
import unicodedata
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import rel_entr

from lynx_pipeline.domain.candidate_eval import parse_candidate_eval
from lynx_pipeline.domain.corpus import (
    LISTED,
    BucketCounts,
    CorpusDigests,
    CorpusScan,
    Line,
    Overlap,
    compare,
    dimensions_of,
    find_items,
    parse_corpus,
    read_scan,
    stability_index,
)
from lynx_pipeline.domain.eval_set import Item
from lynx_pipeline.domain.ledger.facts import Evidence, Malformed, read_object, to_json
from lynx_pipeline.domain.scorers import EXACT, NUMERIC, Scorer
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.errors import BadInput
from lynx_pipeline_tests.domain.ledger.test_chain import bytes_of, promoted
from lynx_pipeline_tests.support.builders import (
    candidate_eval,
    chain,
    eval_items,
    eval_set,
    evidence,
    sha256,
)

DIMENSIONS = {"half", "all"}
NEAR = ["go", "Go.", " go", "g\u00f6", "go\u0308", "don't", "don\u2019t", "GO !", "go !"]
ANSWERS = ["1", "1.0", "1,000", "1000", "Two.", "two", "x"]


def parsed(*lines: Any) -> list[Line]:
    """The lines of a corpus; a text or bytes stand for themselves."""
    raw = [it if isinstance(it, bytes) else json.dumps(it).encode() for it in lines]
    return list(parse_corpus(raw, "c", DIMENSIONS))


# ----- reading --------------------------------------------------------------------------------


def test_a_line_needs_only_a_prompt() -> None:
    """Null means absent, any other key is ignored, and blank lines are skipped."""
    assert parsed(
        {"prompt": "a"},
        b"",
        {"prompt": "b", "expected": "1", "accept": ["2"], "time": 0.5, "user": {"id": 7}},
        {"prompt": "c", "expected": None, "accept": None, "buckets": None},
        {"prompt": "d", "accept": ["2"], "buckets": {"half": "z"}},
    ) == [
        Line("a", (), {}),
        Line("b", ("1", "2"), {}),
        Line("c", (), {}),
        Line("d", ("2",), {"half": "z"}),
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{", "c, line 2: not JSON: "),
        (b"[]", "c, line 2: expected a JSON object, found an empty list."),
        (b"\xff", "c, line 2: byte 0 is not UTF-8 text."),
        (b'{"prompt": "a", "prompt": "b"}', "c, line 2: duplicate key 'prompt' in one object."),
        (b'{"prompt": "a", "x": {"y": 1, "y": 2}}', "c, line 2: duplicate key 'y' in one object."),
        (b'{"prompt": "a", "x": NaN}', "c, line 2: NaN is not a number in JSON."),
        ({"text": "a"}, "c, line 2: 'prompt' is missing."),
        ({"prompt": " "}, "c, line 2: 'prompt': expected a string that is not empty, found "),
        ({"prompt": ["a"]}, "c, line 2: 'prompt': expected a string that is not empty, found "),
        ({"prompt": "a", "expected": 1}, "c, line 2: 'expected': expected a string that is"),
        ({"prompt": "a", "expected": ""}, "c, line 2: 'expected': expected a string that is"),
        ({"prompt": "a", "accept": "b"}, "c, line 2: 'accept': expected a list of answers that"),
        ({"prompt": "a", "accept": [None]}, "c, line 2: 'accept': expected a list of answers tha"),
        ({"prompt": "a", "accept": 0}, "c, line 2: 'accept': expected a list of answers that"),
        ({"prompt": "a", "buckets": []}, "c, line 2: 'buckets': expected an object that is not "),
        (
            {"prompt": "a", "buckets": {"haIf": "a"}},
            "c, line 2: 'buckets': the eval set has no dimension 'haIf'. Expected some of "
            "all, half.",
        ),
        (
            {"prompt": "a", "buckets": {"half": 1}},
            "c, line 2: 'buckets': the bucket 'half.1': its value is not text. ",
        ),
        (
            {"prompt": "a", "buckets": {"half": {"a": "b"}}},
            "c, line 2: 'buckets': the bucket \"half.{'a': 'b'}\": its value is not text. ",
        ),
        (
            {"prompt": "a", "buckets": {"half": " a"}},
            "c, line 2: 'buckets': the bucket 'half. a': its value starts or ends with ",
        ),
    ],
)
def test_an_invalid_line_is_refused(line: Any, message: str) -> None:
    """The error names the line and what was expected."""
    with pytest.raises(BadInput) as caught:
        parsed({"prompt": "good"}, line)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("lines", [[], [b""], [b" ", b"\r"]])
def test_an_empty_corpus_is_refused(lines: list[bytes]) -> None:
    """It could show nothing, and every eval set would pass."""
    with pytest.raises(BadInput, match=r"^c: the corpus contains no lines\.$"):
        parsed(*lines)


def test_ids_are_not_buckets() -> None:
    """A value per line would fill the memory."""
    lines = [{"prompt": "a", "buckets": {"half": f"v{k}"}} for k in range(10_001)]
    assert len(parsed(*lines[:-1])) == 10_000
    with pytest.raises(BadInput, match=r"line 10001: .* 'half' has more than 10000 values"):
        parsed(*lines)


# ----- questions in the corpus ----------------------------------------------------------------

items_of = st.lists(
    st.tuples(st.sampled_from(NEAR), st.lists(st.sampled_from(ANSWERS), min_size=1, max_size=3)),
    min_size=1,
    max_size=30,
).map(lambda rows: [Item(f"i{k}", p, tuple(a), ("half.a",)) for k, (p, a) in enumerate(rows)])
lines_of = st.lists(
    st.tuples(st.sampled_from(NEAR), st.lists(st.sampled_from(ANSWERS), max_size=2)), max_size=12
).map(lambda rows: [Line(prompt, tuple(answers), {}) for prompt, answers in rows])


def _plain(text: str) -> str:
    """What two equal texts have in common, written without the scorer's code."""
    text = unicodedata.normalize("NFC", text).lower().replace("\u2019", "'").strip()
    return " ".join(text.removesuffix(".").split())


def _value(text: str) -> object:
    """A number's value; other text is equal to nothing."""
    digits = text.replace(",", "")
    return float(digits) if digits.replace(".", "").isdigit() else object()


@given(items_of, lines_of, st.sampled_from([EXACT, NUMERIC]))
def test_the_overlap_is_that_of_comparing_each_item_with_each_line(
    items: list[Item], lines: list[Line], scorer: Scorer
) -> None:
    """Naive loops count the same."""
    same: Callable[[str], Any] = _plain if scorer is EXACT else _value

    def prompts(item: Item, line: Line) -> bool:
        return _plain(item.prompt) == _plain(line.prompt)

    def pairs(item: Item, line: Line) -> bool:
        right = {same(answer) for answer in item.answers}
        return prompts(item, line) and any(same(it) in right for it in line.answers)

    def exact_prompts(item: Item, line: Line) -> bool:
        return item.prompt == line.prompt

    def exact_pairs(item: Item, line: Line) -> bool:
        return item.prompt == line.prompt and not set(item.answers).isdisjoint(line.answers)

    def found(test: Callable[[Item, Line], bool]) -> list[Item]:
        return [item for item in items if any(test(item, line) for line in lines)]

    assert find_items(items, iter(lines), scorer) == Overlap(
        prompts=len(found(prompts)),
        exact_prompts=len(found(exact_prompts)),
        pairs=len(found(pairs)),
        exact_pairs=len(found(exact_pairs)),
        examples=tuple((item.id, item.prompt) for item in found(prompts)[:LISTED]),
    )


# ----- shares ---------------------------------------------------------------------------------

counts_of = st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 500), min_size=1)


@given(counts_of, counts_of)
def test_the_stability_index_is_the_sum_of_both_relative_entropies(
    expected: dict[str, int], actual: dict[str, int]
) -> None:
    """SciPy computes the same. With a value missing on one side, half an item is added to each."""
    names = sorted(expected.keys() | actual.keys())
    e, a = ([float(counts.get(name, 0)) for name in names] for counts in (expected, actual))
    if 0 in e or 0 in a:
        e, a = [it + 0.5 for it in e], [it + 0.5 for it in a]
    e, a = ([it / sum(counts) for it in counts] for counts in (e, a))
    reference = sum(rel_entr(a, e)) + sum(rel_entr(e, a))
    index = stability_index(expected, actual)
    assert math.isclose(index, reference, rel_tol=1e-9, abs_tol=1e-12)
    assert index >= 0
    assert index == pytest.approx(stability_index(actual, expected), abs=1e-12)


def test_a_textbook_example() -> None:
    """Shares of 50 and 50 % against 60 and 40 %: 0.1 ln 1.2 + 0.1 ln 1.25."""
    index = stability_index({"a": 50, "b": 50}, {"a": 600, "b": 400})
    assert index == pytest.approx(0.1 * math.log(1.2) + 0.1 * math.log(1.25))
    assert stability_index({"a": 5, "b": 10}, {"a": 100, "b": 200}) == 0


@pytest.mark.parametrize(
    ("corpus", "represents", "objects", "words"),
    [
        ({"a": 70, "b": 50}, True, False, "half 0.028 (same shares)"),
        ({"a": 65, "b": 35}, True, False, "half 0.093 (same shares)"),
        ({"a": 66, "b": 34}, False, False, "half 0.106 (somewhat different shares)"),
        ({"a": 73, "b": 27}, False, False, "half 0.229 (somewhat different shares)"),
        ({"a": 74, "b": 26}, False, True, "half 0.251 (different shares)"),
        ({"c": 100}, False, True, "(different shares)"),
    ],
)
def test_the_thresholds_are_the_usual_ones(
    corpus: dict[str, int], represents: bool, objects: bool, words: str
) -> None:
    """From 0.10 on it warns, from 0.25 on a blocking project refuses."""
    nothing = Overlap(0, 0, 0, 0)
    found = compare(eval_set(), CorpusScan(100, nothing, {"half": corpus}))
    assert (found.separate, found.represents, bool(found.objections)) == (True, represents, objects)
    assert words in found.shift_text


def test_only_dimensions_of_the_corpus_are_compared() -> None:
    """Chance alone gives an index of (k - 1)(1/n + 1/m): here (2 - 1)(1/12 + 1/30)."""
    scan = CorpusScan(99, Overlap(0, 0, 0, 0), {"half": {"a": 20, "b": 10}})
    (shift,) = compare(eval_set(), scan).shifts
    assert (shift.dimension, shift.values, shift.lines) == ("half", 2, 30)
    assert shift.by_chance == pytest.approx(1 / 12 + 1 / 30)
    nothing = compare(eval_set(), CorpusScan(99, Overlap(0, 0, 0, 0), {}))
    assert (nothing.represents, nothing.objections) == (True, ())
    assert nothing.shift_text.startswith("The corpus has no buckets")


def test_the_lines_of_each_bucket_are_counted() -> None:
    """A line without a dimension does not count for it."""
    counts = BucketCounts()
    lines = [Line("p", (), {"half": k}) for k in "aab"] + [Line("p", (), {"all": "x"})]
    assert list(counts.counting(lines)) == lines
    assert counts.lines == 4
    assert counts.buckets == {"half": Counter("aab"), "all": {"x": 1}}
    assert dimensions_of(eval_set()) == DIMENSIONS


# ----- what is stored -------------------------------------------------------------------------


def test_a_scan_reads_back_equal() -> None:
    """So the cached result is the computed one."""
    overlap = Overlap(3, 2, 1, 0, (("i1", "a\u2028\u00e9"), ("i2", "b")))
    scan = CorpusScan(7, overlap, {"half": {"a": 3, "\u00e9 x": 4}})
    assert read_scan(json.dumps(scan.to_json()).encode(), "f") == scan


@pytest.mark.parametrize(
    "changes",
    [
        {"lines": 0},
        {"lines": "7"},
        {"overlap": {}},
        {"overlap": {"prompts": 1, "exact_prompts": 0, "pairs": 0, "exact_pairs": 0}},
        {"buckets": []},
        {"buckets": {"half": {"a": -1}}},
        {"buckets": {"half": 7}},
    ],
)
def test_a_damaged_scan_is_refused(changes: dict[str, Any]) -> None:
    """Then the corpus is scanned again."""
    good = CorpusScan(7, Overlap(0, 0, 0, 0), {"half": {"a": 3}}).to_json()
    with pytest.raises(BadInput):
        read_scan(json.dumps({**good, **changes}).encode(), "f")


CORPUS = CorpusDigests("c" * 32, "d" * 64)
WITH_CORPUS = {"corpus_dvc_hash": CORPUS.dvc_hash, "corpus_sha256": CORPUS.sha256}


def test_an_evaluation_names_the_corpus_if_there_is_one() -> None:
    """Without one, the file has the same keys as before there were corpora."""
    items = eval_set(eval_items(2))
    answers: dict[str, str | None] = {item.id: "x" for item in items.items}
    before = candidate_eval(items, b"", answers)
    after = candidate_eval(items, b"", answers, corpus=CORPUS)
    assert after.to_json() == {**before.to_json(), **WITH_CORPUS}
    assert not before.to_json().keys() & WITH_CORPUS.keys()
    for each in (before, after):
        assert parse_candidate_eval(json.dumps(each.to_json()).encode(), "f").corpus == each.corpus
    del (half := after.to_json())["corpus_sha256"]
    with pytest.raises(BadInput, match="'corpus_sha256' is missing"):
        parse_candidate_eval(json.dumps(half).encode(), "f")


# Pins the format of an entry with evidence: as it was before there were corpora, and with one.
HASHES = (
    "2feac4a08d97cf99d75c17f590be3f8ad48f577d3b8b4029e77d96ceec58c507",
    "7506d9180f798495527995dbd2cf43c98fdf39189fc9bfbe1733e20b53401ea2",
)


def test_the_bytes_of_an_entry_without_corpus_are_as_before() -> None:
    """And those of one with a corpus have two keys more."""
    without, with_corpus = (
        chain(promoted("v0.1.0", env=Env.DEV, evidence=each))
        for each in (evidence(), evidence(**WITH_CORPUS))
    )
    assert b"corpus" not in bytes_of(without)
    assert (sha256(bytes_of(without)), sha256(bytes_of(with_corpus))) == HASHES


def test_evidence_with_a_corpus_reads_back_equal() -> None:
    """It has both digests or none."""
    full = evidence(**WITH_CORPUS)
    values = to_json(promoted("v0.1.0", evidence=full))["evidence"]
    assert values.items() >= WITH_CORPUS.items()
    assert read_object(values, Evidence) == full
    for key in WITH_CORPUS:
        for bad in ({k: v for k, v in values.items() if k != key}, {**values, key: None}):
            assert isinstance(read_object(bad, Evidence), Malformed)
    assert isinstance(read_object({**values, "corpus_sha256": "x"}, Evidence), Malformed)


def test_a_corpus_has_the_inputs_of_its_eval_set() -> None:
    """The order of the names makes no difference. A line with a prompt can't be compared."""
    lines = [b'{"inputs": {"b": "2", "a": "1"}}', b'{"inputs": {"a": "3", "b": "4"}}']
    found = parse_corpus(lines, "c", DIMENSIONS, ("a", "b"))
    assert [line.prompt for line in found] == ['{"a": "1", "b": "2"}', '{"a": "3", "b": "4"}']
    for bad in (b'{"prompt": "a"}', b'{"inputs": {"a": "1"}}'):
        with pytest.raises(
            BadInput, match=r"c, line 1: this item has .*; the eval set's items have"
        ):
            list(parse_corpus([bad], "c", DIMENSIONS, ("a", "b")))


@pytest.mark.parametrize(
    ("mine", "theirs"), [("Who is it?", "Who  is it? "), ("It is.", "it is"), ("a b", "a\nb")]
)
def test_each_input_is_normalised_by_itself(mine: str, theirs: str) -> None:
    """As a prompt would be, not as one JSON text."""
    text = json.dumps({"question": mine, "context": "c"})
    item = Item("1", text, ("x",), ("all.x",), ("question", "context"))
    line = Line(json.dumps({"question": theirs, "context": "C."}), ("x",), {})
    assert find_items([item], [line], EXACT) == Overlap(1, 0, 1, 0, (("1", text),))
    other = Line(json.dumps({"question": "c", "context": theirs}), (), {})
    assert find_items([item], [other], EXACT).prompts == 0


def test_an_endless_blank_line_is_refused() -> None:
    """What follows it was not compared."""
    with pytest.raises(BadInput, match=r"c, line 2: has \d+ bytes"):
        parsed(b'{"prompt": "a"}', b" " * (5 << 20))
