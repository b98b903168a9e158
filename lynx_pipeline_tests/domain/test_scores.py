"""Names of buckets: any alphabet, and no two names that only look equal."""

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lynx_pipeline.domain.eval_set import parse_eval_set
from lynx_pipeline.domain.gate.baseline import parse_baseline
from lynx_pipeline.domain.scores import name_problem, read_buckets
from lynx_pipeline.errors import BadInput
from lynx_pipeline_tests.support.builders import baseline_json, bucket, eval_items, jsonl
from lynx_pipeline_tests.support.names import BUCKET_NAMES

GOOD = {
    "ASCII": "tense.past_simple",
    "a space in the dimension": "question type.yes or no",
    "Cyrillic": "язык.русский",
    "Japanese": "品詞.動詞",
    "Arabic": "لغة.عربي",
    "Hindi": "भाषा.हिन्दी",
    "accents": "catégorie.été",
    "dots in the value": "version.1.2.3",
    "punctuation": 'a|b*"c".<d>&e',
    "a digit first": "2nd.3rd",
    "emoji": "mood.😀",
}
BAD = {
    "no dot": ("tense", "it has no dot"),
    "no dimension": (".a", "its dimension is empty"),
    "no value": ("a.", "its value is empty"),
    "a space before": ("a. b", "its value starts or ends with whitespace"),
    "a space after the dimension": ("a .b", "its dimension starts or ends with whitespace"),
    "a space after": ("a.b ", "its value starts or ends with whitespace"),
    "a newline": ("a.b\nc", r"U\+000A \(a control character\)"),
    "a tab": ("a.b\tc", r"U\+0009"),
    "NUL": ("a.b\x00c", r"U\+0000"),
    "a C1 control": ("a.b\x85c", r"U\+0085"),
    "a line separator": ("a.b\u2028c", r"U\+2028 \(LINE SEPARATOR\)"),
    "zero width": ("que\u200bstion.a", r"U\+200B \(ZERO WIDTH SPACE\)"),
    "a joiner": ("a.b\u200dc", r"U\+200D \(ZERO WIDTH JOINER\)"),
    "a byte-order mark": ("\ufeffa.b", r"U\+FEFF"),
    "a soft hyphen": ("a.b\u00adc", r"U\+00AD \(SOFT HYPHEN\)"),
    "bidi": ("a.b\u202ec", r"U\+202E \(RIGHT-TO-LEFT OVERRIDE\)"),
    "a bidi isolate": ("a.\u2066b\u2069", r"U\+2066"),
    "a no-break space": ("a.b\u00a0c", r"U\+00A0 \(NO-BREAK SPACE\)"),
    "an ideographic space": ("a.b\u3000c", r"U\+3000"),
    "a Hangul filler": ("a.\u3164", r"U\+3164 \(HANGUL FILLER\)"),
    "a variation selector": ("a.\u2764\ufe0f", r"U\+FE0F"),
    "half a surrogate pair": ("a.b\ud800", r"U\+D800"),
    "NFD": ("cate\u0301gorie.a", "not in Unicode NFC"),
    "NFD in the value": ("a.e\u0301te\u0301", "not in Unicode NFC"),
    "a compatibility sign with a canonical form": ("unit.\u212b", "not in Unicode NFC"),
}  # fmt: skip
# Names that the rule allowed before.
OLD = frozenset(
    (
        *("a C1 control", "a line separator", "a joiner", "a soft hyphen", "bidi"),
        *("a bidi isolate", "a no-break space", "an ideographic space", "a Hangul filler"),
        *("a variation selector", "half a surrogate pair", "NFD in the value"),
        "a compatibility sign with a canonical form",
    )
)


@pytest.mark.parametrize("name", GOOD.values(), ids=GOOD.keys())
def test_a_name_in_any_alphabet_is_read(name: str) -> None:
    """In an eval set and in a baseline."""
    dimension, value = name.split(".", 1)
    line = {**eval_items(1)[0], "buckets": {dimension: value}}
    (item,) = parse_eval_set(jsonl([line]).split(b"\n"), "f")
    assert item.buckets == (name,)
    assert list(read_buckets({name: {"accuracy": 1, "n": 2}}, "f")) == [name]


@pytest.mark.parametrize("kind", BAD)
def test_an_invalid_name_is_refused_with_the_rule(kind: str) -> None:
    """The message says what is wrong with this name, and which rule is enforced. A baseline from
    before the rule can still be read."""
    name, problem = BAD[kind]
    if kind in OLD:
        assert list(read_buckets({name: {"accuracy": 1, "n": 2}}, "f")) == [name]
    else:
        with pytest.raises(BadInput, match=f"f: bucket .*: .*{problem}.*Names of buckets are"):
            read_buckets({name: {"accuracy": 1, "n": 2}}, "f")
    dimension, dot, value = name.partition(".")
    if dot and "\ud800" not in name:
        line = {**eval_items(1)[0], "buckets": {dimension: value}}
        with pytest.raises(BadInput, match=f"line 1: 'buckets': .*: .*{problem}.*Names of"):
            list(parse_eval_set(jsonl([line]).split(b"\n"), "f"))


@given(BUCKET_NAMES)
def test_a_name_reads_back_equal(name: str) -> None:
    """From an eval set into a baseline and back, split at the first dot."""
    dimension, _, value = name.partition(".")
    line = {**eval_items(1)[0], "buckets": {dimension: value}}
    (item,) = parse_eval_set(jsonl([line]).split(b"\n"), "f")
    raw = json.dumps(baseline_json({item.buckets[0]: bucket(1, 2)}), ensure_ascii=False).encode()
    assert list(parse_baseline(raw, "f").buckets) == [name]


@given(st.text(), st.text())
def test_two_valid_names_never_differ_only_in_form(one: str, other: str) -> None:
    """Valid names are NFC and trimmed, and all of their characters are visible or a space."""
    name = f"{one}.{other}"
    if name_problem(name) is None:
        assert unicodedata.normalize("NFC", name) == name
        assert all(part and part == part.strip() for part in name.split(".", 1))
        assert name.isprintable()
