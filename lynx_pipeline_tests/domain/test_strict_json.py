"""Parsers: a file has one meaning, or a BadInput names the place; no other exception escapes."""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lynx_pipeline.domain.bundle import parent_sha, stable_mlmodel
from lynx_pipeline.domain.candidate_eval import parse_candidate_eval
from lynx_pipeline.domain.eval_set import Item, parse_eval_set
from lynx_pipeline.domain.gate.baseline import parse_baseline
from lynx_pipeline.domain.ledger.chain import Ledger, parse_ledger
from lynx_pipeline.domain.release.request import Request, parse_comment
from lynx_pipeline.domain.scorers import normalise
from lynx_pipeline.domain.scores import read_scores
from lynx_pipeline.domain.strict_json import JsonObject, canonical, parse, parse_object
from lynx_pipeline.errors import BadInput
from lynx_pipeline_tests.support.builders import (
    RUN,
    baseline_json,
    candidate_eval,
    candidate_json,
    eval_items,
    eval_set,
    fact,
    jsonl,
)

MALFORMED = [
    pytest.param(b"", "not JSON", id="empty"),
    pytest.param(b" \n", "not JSON", id="blank"),
    pytest.param(b"\xef\xbb\xbf{}", "it is UTF-8 with a byte-order mark", id="byte-order mark"),
    pytest.param(b'{"a": "\xff"}', "byte 7 is not UTF-8", id="not UTF-8"),
    pytest.param('{"a": 1}'.encode("utf-16"), "it is UTF-16 text", id="UTF-16"),
    pytest.param(b'{"a": "\xed\xa0\x80"}', "not UTF-8", id="surrogate as bytes"),
    pytest.param(b'{"a": "\\ud800"}', "half a surrogate pair", id="lone surrogate"),
    pytest.param(b'{"\\udc00": 1}', "half a surrogate pair", id="lone surrogate in a key"),
    pytest.param(b'{"a": 1, "a": 1}', "duplicate key 'a'", id="same key"),
    pytest.param(b'{"a": 1, "\\u0061": 2}', "duplicate key 'a'", id="same key, escaped"),
    pytest.param(b'{"x": {"b": 1, "c": 2, "b": 3}}', "duplicate key 'b'", id="same key, inside"),
    pytest.param(b'{"\\ud800": 1, "\\ud800": 1}', "duplicate key", id="same bad key"),
    pytest.param(b'{"a": NaN}', "NaN", id="NaN"),
    pytest.param(b'{"a": Infinity}', "Infinity", id="Infinity"),
    pytest.param(b'{"a": -Infinity}', "-Infinity", id="-Infinity"),
    pytest.param(b'{"a": 1e999}', "too large", id="overflow"),
    pytest.param(b'{"a": 1e-999999999}', "too large or too small", id="exponent bomb"),
    pytest.param(b'{"a": 1e99999999999999999999}', "f:", id="exponent beyond Decimal"),
    pytest.param(b'{"a": 0.' + b"1" * 500 + b"}", "too large", id="500 digits"),
    pytest.param(b'{"a": ' + b"9" * 5000 + b"}", "f:", id="5000 digits"),
    pytest.param(b"[" * 100_000, "nested too deeply", id="deep lists"),
    pytest.param(b'{"a":' * 100_000, "nested too deeply", id="deep objects"),
    pytest.param(b'{"a": 1} {"a": 2}', "Extra data", id="two values"),
    pytest.param(b'{"a": 1}\x00', "Extra data", id="trailing NUL"),
    pytest.param(b"{'a': 1}", "not JSON", id="single quotes"),
    pytest.param(b'{"a": 1,}', "not JSON", id="trailing comma"),
    pytest.param(b'{"a": 01}', "not JSON", id="leading zero"),
    pytest.param(b'{"a": +1}', "not JSON", id="plus"),
    pytest.param(b'{"a": .5}', "not JSON", id="no digit before the point"),
    pytest.param(b'{"a": 0x10}', "not JSON", id="hexadecimal"),
    pytest.param(b'{"a": 1} // x', "Extra data", id="comment"),
    pytest.param(b'{"a": "\t"}', "control character", id="raw tab"),
    pytest.param(b"[]", "expected a JSON object, found an empty list", id="a list"),
    pytest.param(b"null", "expected a JSON object, found null", id="null"),
    pytest.param(b'"{}"', "expected a JSON object", id="text"),
]


@pytest.mark.parametrize(("raw", "says"), MALFORMED)
def test_malformed_json_is_refused(raw: bytes, says: str) -> None:
    """The message starts with the file and is one short line."""
    with pytest.raises(BadInput) as caught:
        parse_object(raw, "f")
    message = str(caught.value)
    assert message.startswith("f: ")
    assert says in message
    assert "\n" not in message
    assert len(message) < 300


def test_fractions_are_read_as_written() -> None:
    """0.02 is exactly two hundredths, not the nearest double; whole numbers stay whole."""
    assert parse(b"[0.02, 2, 1e2]", "f") == [Decimal("0.02"), 2, Decimal("1e2")]
    assert type(parse(b"2", "f")) is int


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 2**60, {1: 2}, b"x", "\ud800"])
def test_a_value_without_a_canonical_form_is_bad_input(value: object) -> None:
    """The library's own exceptions do not escape."""
    with pytest.raises(BadInput):
        canonical(value)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(-(2**53) + 1, 2**53 - 1)  # as for whole numbers, which large floats look like
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(json_values)
def test_canonical_bytes_read_back_equal(value: Any) -> None:
    """Writing the value that was read gives the same bytes again."""
    raw = canonical(value)
    again = parse(raw, "f", number=float)
    assert again == value
    assert canonical(again) == raw


def _ledger() -> bytes:
    ledger = Ledger()
    for number in range(2):
        entry = ledger.next_entry(fact(canonical_sha=str(number) * 64))
        ledger = Ledger((*ledger.entries, entry), ledger.size + len(entry.to_line()))
    return b"".join(entry.to_line() for entry in ledger.entries)


def _candidate_eval() -> bytes:
    items = eval_set()
    answers: dict[str, str | None] = {item.id: "word1" for item in items.items}
    return json.dumps(candidate_eval(items, b"", answers).to_json()).encode()


MLMODEL = (
    b"flavors: &f\n  python_function:\n    loader_module: x\nother: *f\n"
    b"run_id: abc\nwhen: 2025-01-01\n"
)
PARSERS: dict[str, tuple[Callable[[bytes], object], bytes]] = {
    "baseline": (lambda raw: parse_baseline(raw, "f"), json.dumps(baseline_json()).encode()),
    "candidate": (
        lambda raw: read_scores(parse_object(raw, "f"), "f"),
        json.dumps(candidate_json()).encode(),
    ),
    "candidate eval": (lambda raw: parse_candidate_eval(raw, "f"), _candidate_eval()),
    "eval set": (lambda raw: list(parse_eval_set(raw.split(b"\n"), "f")), jsonl(eval_items(4))),
    "ledger": (lambda raw: parse_ledger(raw, "f"), _ledger()),
    "comment": (parse_comment, f"mlflow_run_id={RUN} semver=v1.2.3\n".encode()),
    "MLmodel": (stable_mlmodel, MLMODEL.replace(b"when: 2025-01-01\n", b"")),
    "manifest": (lambda raw: parent_sha(raw, "f"), b'{"parent_sha": "abc", "x": [1, 0.5]}'),
}


@pytest.mark.parametrize("name", PARSERS)
def test_the_valid_file_is_accepted(name: str) -> None:
    """Otherwise the tests below would prove nothing."""
    parser, good = PARSERS[name]
    parser(good)


@pytest.mark.parametrize("name", PARSERS)
@given(data=st.data())
def test_only_bad_input_escapes_a_parser(name: str, data: st.DataObject) -> None:
    """Any bytes, also spliced into a valid file, give a value or a one-line BadInput."""
    parser, good = PARSERS[name]
    raw = data.draw(st.binary() | _spliced(good))
    try:
        parser(raw)
    except BadInput as error:
        assert "\n" not in str(error)  # one paragraph


@st.composite
def _spliced(draw: st.DrawFn, good: bytes) -> bytes:
    start = draw(st.integers(0, len(good)))
    end = draw(st.integers(start, min(len(good), start + 12)))
    piece = draw(st.binary(max_size=6) | st.sampled_from(PIECES))
    return good[:start] + piece + good[end:]


PIECES = [
    *(b"NaN", b"1e400", b"-1e400", b"null", b"true", b"{}", b"[]", b'""', b"-0", b"9" * 400),
    *(b'"\\ud800"', b"\\u0000", b"[" * 2000, b"\n", b"*f", b"&f ", b"<<: *f", b"!!int ''"),
    *(b"!!bool x", b"!!timestamp x", b"!!float ''", b"!!set {a}", b"? [a]\n: b\n", b"!!binary x"),
    *(b"!!python/object:os.system x", b"!!omap [a]", b"!!pairs [a]", b"2025-99-99", b"=", b"1:99"),
]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"a: !!int ''", id="empty int"),
        pytest.param(b"a: !!float ''", id="empty float"),
        pytest.param(b"a: !!bool x", id="not a bool"),
        pytest.param(b"a: !!timestamp x", id="not a timestamp"),
        pytest.param(b"a: 2025-99-99", id="month 99"),
        pytest.param(b"a: 2025-01-01", id="a date"),
        pytest.param(b"a: 2025-01-01 00:00:00 +99:99", id="impossible time zone"),
        pytest.param(b"a: .nan", id="NaN"),
        pytest.param(b"a: .inf", id="infinity"),
        pytest.param(b"a: 99999999999999999999", id="beyond 2^53"),
        pytest.param(b"a: " + b"9" * 5000, id="5000 digits"),
        pytest.param(b"a: 0b_", id="binary without digits"),
        pytest.param(b"a: !!binary '=='", id="bytes"),
        pytest.param(b"a: !!set {b}", id="set"),
        pytest.param(b"a: {1: 2}", id="number as key"),
        pytest.param(b"a: {null: 2}", id="null as key"),
        pytest.param(b"a: {[1]: 2}", id="list as key"),
        pytest.param(b"1: 2", id="number as key at the top"),
        pytest.param(b"- a", id="a list"),
        pytest.param(b"", id="empty"),
        pytest.param(b"a: &a [*a]", id="contains itself"),
        pytest.param(b"a: &a {b: *a}", id="contains itself, mapping"),
        pytest.param(b"a: *b", id="unknown alias"),
        pytest.param(b"a: !!python/object/apply:os.system [id]", id="code"),
        pytest.param(b"a: " + b"[" * 5000, id="deep"),
        pytest.param(b"a: " + b"[" * 2000 + b"]" * 2000, id="deep and closed"),
        pytest.param(b'a: "\\ud800"', id="lone surrogate"),
        pytest.param(b"\xff\xfe\xff", id="not text"),
        pytest.param(b"a: 1\n---\na: 2", id="two documents"),
        pytest.param(b"a: \x00", id="NUL"),
    ],
)
def test_an_mlmodel_without_plain_values_is_refused(text: bytes) -> None:
    """YAML allows values that no MLmodel needs."""
    with pytest.raises(BadInput, match=r"^MLmodel: "):
        stable_mlmodel(text)


# ----- eval set -----------------------------------------------------------------------------


def _line(**changes: Any) -> JsonObject:
    return {**eval_items(1)[0], **changes}


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        pytest.param([], "no items", id="none"),
        pytest.param([_line(), _line()], "line 2: duplicate id 'i0'", id="id twice"),
        pytest.param([_line(id=" ")], "'id'", id="blank id"),
        pytest.param([_line(prompt="")], "'prompt'", id="no prompt"),
        pytest.param([_line(expected=5)], "'expected'", id="expected a number"),
        pytest.param([_line(expected=".")], "one full stop", id="a full stop"),
        pytest.param([_line(accept=["."])], "one full stop", id="accepts a full stop"),
        pytest.param([_line(accept="word0")], "'accept'", id="accept no list"),
        pytest.param([_line(accept=[" "])], "'accept'", id="accepts a blank"),
        pytest.param([_line(accepts=["x"])], "'accepts'.*unknown", id="misspelt key"),
        pytest.param([_line(buckets={})], "'buckets'", id="no buckets"),
        pytest.param([_line(buckets={"half": 1})], "value is not text", id="bucket a number"),
        pytest.param([_line(buckets={"a.b": "c"})], "contains a dot", id="dot in dimension"),
        pytest.param([_line(buckets={"half": " a"})], "whitespace", id="space before"),
        pytest.param(
            [_line(), _line(id="j", buckets={"half": "a"})],
            "line 2: has the bucket dimensions half; earlier items have all, half",
            id="different shape",
        ),
    ],
)
def test_a_malformed_eval_set_is_refused(lines: list[JsonObject], says: str) -> None:
    """The message names the line, the key and what was expected."""
    with pytest.raises(BadInput, match=says):
        list(parse_eval_set(jsonl(lines).split(b"\n"), "f"))


@given(st.lists(st.tuples(st.text(min_size=1), st.text(min_size=1)), min_size=1, max_size=5))
def test_an_eval_set_reads_back_equal(texts: list[tuple[str, str]]) -> None:
    """In any language."""
    good = [(p, e) for p, e in texts if p.strip() and e.strip() and normalise(e)]
    items = [
        Item(f"i{k}", p, (e, "also"), ("half.a", "all.x")) for k, (p, e) in enumerate(good)
    ] or [Item("i", "p", ("e",), ("half.a", "all.x"))]
    lines = [
        {
            "id": item.id,
            "prompt": item.prompt,
            "expected": item.answers[0],
            "accept": list(item.answers[1:]),
            "buckets": dict(name.split(".") for name in item.buckets),
        }
        for item in items
    ]
    assert list(parse_eval_set(jsonl(lines).split(b"\n"), "f")) == items


# ----- candidate eval -----------------------------------------------------------------------


def test_a_candidate_eval_reads_back_equal() -> None:
    """Promotion reads exactly what evaluation wrote."""
    items = eval_set()
    answers = {
        item.id: None if i % 3 == 0 else f"word{i % 5}" for i, item in enumerate(items.items)
    }
    written = candidate_eval(items, b"x", answers, metrics={"a": 0.1, "b": 12.0})
    raw = json.dumps(written.to_json()).encode()
    assert asdict(parse_candidate_eval(raw, "f")) == asdict(written)


@pytest.mark.parametrize(
    "value", ['"12"', '"nan"', "true", "null", "[1]", "1e400", "9" * 400], ids=lambda v: v[:9]
)
def test_a_metric_that_is_not_a_number_is_refused(value: str) -> None:
    """The cost figure is computed from the metrics."""
    raw = _candidate_eval().replace(b"100.0", value.encode())
    with pytest.raises(BadInput):
        parse_candidate_eval(raw, "f")


# ----- request comment ----------------------------------------------------------------------


def _comments() -> Iterator[Any]:
    good = f"mlflow_run_id={RUN} semver=v1.2.3"
    yield pytest.param("", id="empty")
    yield pytest.param("please deploy", id="prose")
    yield pytest.param(f"{good}\n{good}", id="twice")
    yield pytest.param(f"{good}\nor semver v1?", id="something like it")
    yield pytest.param(f"{good} force=true", id="one word more")
    yield pytest.param(f"x {good}", id="one word before")
    yield pytest.param(f"> {good}", id="quoted")
    yield pytest.param(f"`{good}`", id="code")
    yield pytest.param(good.upper(), id="upper case")
    yield pytest.param(good.replace(" ", "  "), id="two spaces")
    yield pytest.param(good.replace(" ", "\t"), id="tab")
    yield pytest.param(good.replace(" ", "\n"), id="two lines")
    yield pytest.param(good.replace(" ", "\u00a0"), id="no-break space")
    yield pytest.param(good.replace("v1.2.3", "$(id)"), id="shell")
    yield pytest.param(good.replace("v1.2.3", "v1.2.3;id"), id="shell after")
    yield pytest.param(good.replace("v1.2.3", "v1.2.3\x00"), id="NUL")
    yield pytest.param(good.replace("v1.2.3", "v１.2.3"), id="full-width digit")  # noqa: RUF001
    yield pytest.param(good.replace("01", "0$", 1), id="not an id")
    yield pytest.param(good.replace(RUN, RUN * 63), id="too long an id")
    yield pytest.param(f"{good}\r", id="lone carriage return")
    yield pytest.param(f"{good}\u2028", id="line separator")
    yield pytest.param("x" * 65_537 + "\n" + good, id="too long")


@pytest.mark.parametrize("text", _comments())
def test_a_comment_that_only_resembles_a_request_is_refused(text: str) -> None:
    """Comments are untrusted input."""
    with pytest.raises(BadInput):
        parse_comment(text.encode())


@pytest.mark.parametrize(
    "text", ["{}", "{}\n", "  {}  ", "Ready!\r\n\r\n{}\r\nThanks"], ids=["bare", "nl", "sp", "crlf"]
)
def test_a_request_on_its_own_line_is_read(text: str) -> None:
    """Other lines are ignored."""
    comment = text.format(f"mlflow_run_id={RUN} semver=v1.2.3-dev.4")
    assert parse_comment(comment.encode()) == Request(RUN, "v1.2.3-dev.4")


@given(st.text())
@example("İ").via("its lower case has two characters")
def test_normalising_ignores_outer_and_repeated_spaces_and_a_full_stop(text: str) -> None:
    """For any text."""
    assert normalise(f"  {text}\n") == normalise(text)
    assert normalise(text.replace(" ", "  ")) == normalise(text)
    assert normalise(normalise(text) + ".") == normalise(text)


def test_the_place_of_a_mistake_is_named_once() -> None:
    """Of a line of a file, ``where`` has the number already."""
    with pytest.raises(BadInput, match=r"^f, line 7: not JSON: .* at column 2\.$"):
        parse(b"{x\n", "f, line 7")
    with pytest.raises(BadInput, match=r"^f: not JSON: .* at line 2, column 1\.$"):
        parse(b"{\nx", "f")
