"""The quick way to read an entry agrees with the long one, whatever the line."""

import re
from dataclasses import replace
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lynx_pipeline.domain.ledger import chain as rules
from lynx_pipeline.domain.ledger.chain import Entry, seal
from lynx_pipeline.domain.ledger.facts import Fact, Malformed, Promoted
from lynx_pipeline.domain.ledger.usual_form import read_usual
from lynx_pipeline.domain.strict_json import canonical
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.errors import BadInput
from lynx_pipeline_tests.support.builders import SHA, actor, evidence, fact, promoted, rolled_back

CORPUS = {"corpus_dvc_hash": "c" * 32, "corpus_sha256": "c" * 64}
USUAL = (
    promoted("v0.1.0-dev"),
    promoted("v0.1.0-dev", cpqu=1.3331035114070845e-07, parent_sha="older", bundle_digest=SHA),
    promoted("v0.1.0-dev", cpqu=7, evidence=evidence(tolerance=0, worst_margin=-0.015833)),
    promoted("v1.0.0", env=Env.PROD),
    promoted("v1.0.0", env=Env.PROD, evidence=evidence(**CORPUS), actor=actor()),
)
OTHER = (
    fact(),
    rolled_back(USUAL[3]),
    promoted("v0.1.0-dev", cpqu="free"),
    promoted("v0.1.0-dev", model="größer"),
    promoted("v0.1.0-dev", model=" tiny"),
    promoted("v0.1.0-dev", evidence=Malformed({"isolation": "none"}, "")),
)
# What a line may be changed to contain, at any place.
PIECES = (
    *("0", "00", "1", ".0", ".50", "e-7", "e-07", "e-5", "e+7", "E-7", "-", "-0", "1e22", "null"),
    *('"', '""', " ", ",", ",,", ":", "{", "}", "{}", "\\", "\\u0041", "\\/", "\x7f", "é", "\n"),
    *('"actor":null,', '"seq":1,', '"corpus_sha256":"' + "c" * 64 + '",', "prod", "promoted"),
)


def line_of(made: Fact, seq: int = 3, prev: str | None = "b" * 64) -> bytes:
    """The entry's line, without its newline."""
    return seal(seq, prev, made).to_line()[:-1]


def the_long_way(line: bytes) -> Entry | None:
    """The entry that the long way reads; None if it refuses the line."""
    with patch.object(rules, "read_usual", lambda _: None):
        try:
            return rules._unverified(line, "f")
        except BadInput:
            return None


@pytest.mark.parametrize("made", USUAL)
@pytest.mark.parametrize("prev", [None, "b" * 64])
def test_promotions_are_read_the_quick_way(made: Fact, prev: str | None) -> None:
    """Otherwise reading a ledger takes more than twice as long."""
    line = line_of(made, 15, prev)
    found = read_usual(line)
    assert found is not None
    assert Entry(*found) == the_long_way(line) == seal(15, prev, made)


@pytest.mark.parametrize("made", OTHER)
def test_other_entries_are_left_to_the_long_way(made: Fact) -> None:
    """It reads them."""
    assert read_usual(line_of(made)) is None
    assert the_long_way(line_of(made)) == seal(3, "b" * 64, made)


@given(st.sampled_from(USUAL), st.data())
def test_a_changed_line_is_read_as_the_long_way_reads_it(made: Fact, data: st.DataObject) -> None:
    """Each line gets up to three changes: a piece of it is removed, replaced or doubled."""
    line = line_of(made)
    for _ in range(data.draw(st.integers(1, 3))):
        # Most changes start where a value, a key or a number does.
        starts = [0, *(found.start() for found in re.finditer(rb"[0-9.e-]+|[\":,{}]|\w+", line))]
        start = data.draw(st.sampled_from(starts) | st.integers(0, len(line)))
        end = min(len(line), start + data.draw(st.integers(0, 4)))
        piece = data.draw(st.sampled_from(PIECES).map(str.encode) | st.just(line[start:end] * 2))
        line = line[:start] + piece + line[end:]
    found = read_usual(line)
    assert found is None or Entry(*found) == the_long_way(line)


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers(1 - 2**53, 2**53 - 1))
def test_a_number_is_read_as_it_is_written(number: float) -> None:
    """Both ways read the canonical form, and only that: Python's own form often differs."""
    made = promoted("v0.1.0-dev", cpqu=0.5)
    (before, after) = line_of(made).split(b'"cpqu":0.5')
    for text in (canonical(number), repr(number).encode(), f"{number:e}".encode()):
        line = before + b'"cpqu":' + text + after
        found, expected = read_usual(line), the_long_way(line)
        assert found is None or Entry(*found) == expected
        if expected is None:
            continue
        assert isinstance(expected.fact, Promoted)
        assert canonical(expected.fact.cpqu) == text
        if found:
            assert type(found.fact.cpqu) is type(expected.fact.cpqu)


def test_a_blank_value_is_no_value() -> None:
    """A text of spaces is refused as the long way does."""
    line = line_of(replace(USUAL[0], model="tiny")).replace(b'"tiny"', b'"    "')
    assert read_usual(line) is None
    assert the_long_way(line) is None
