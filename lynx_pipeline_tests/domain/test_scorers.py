"""Scorers: which answers count as equal, and which do not."""

from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lynx_pipeline.domain.candidate_eval import score
from lynx_pipeline.domain.eval_set import EvalSet, parse_eval_set
from lynx_pipeline.domain.scorers import EXACT, NUMERIC, SCORERS, Scorer, scorer_named
from lynx_pipeline.errors import BadInput
from lynx_pipeline_tests.support.builders import eval_items, jsonl


@pytest.mark.parametrize(
    ("given_answer", "right"),
    [
        pytest.param("  Went. ", "went", id="spaces, case, full stop"),
        pytest.param("will  go", "will go", id="spaces collapsed"),
        pytest.param("will\u00a0go", "will go", id="no-break space"),
        pytest.param("didn\u2019t", "didn't", id="curly apostrophe"),
        pytest.param("cafe\u0301", "caf\u00e9", id="decomposed"),
        pytest.param("STRASSE", "stra\u00dfe", id="casefold"),
        pytest.param("go .", "go", id="space before the full stop"),
    ],
)
def test_insignificant_differences_are_ignored(given_answer: str, right: str) -> None:
    """Unicode form (NFC), spaces, case, apostrophes and one final full stop are ignored."""
    assert EXACT.is_right(given_answer, [right])


@pytest.mark.parametrize(
    "given_answer",
    ["", ".", "goed", "go goes", "goes..", "goes!", "g oes", "\u200bgoes", "goes\x00", "gоes"],  # noqa: RUF001
)
def test_significant_differences_are_not_ignored(given_answer: str) -> None:
    """Look-alike and invisible characters are significant too."""
    assert not EXACT.is_right(given_answer, ["goes"])


@given(
    value=st.fractions(-(10**9), 10**9).map(lambda f: Fraction(round(f * 1000), 1000)),
    commas=st.booleans(),
    zeros=st.integers(0, 3),
    shift=st.integers(-5, 5),
)
def test_numbers_are_compared_by_value(
    value: Fraction, commas: bool, zeros: int, shift: int
) -> None:
    """Thousands separators, trailing zeros and exponents don't matter; the smallest difference in
    value does."""
    plain = f"{float(value):.3f}"
    written = f"{int(plain.split('.')[0]):,}" if commas else plain.split(".")[0]
    if plain.startswith("-0") and not written.startswith("-"):
        written = f"-{written}"
    written = f" {written}.{plain.split('.')[1]}{'0' * zeros} "
    assert NUMERIC.is_right(written, [plain])
    shifted = f"{value.numerator * 1000 // value.denominator}e{-3 + shift}"
    assert NUMERIC.is_right(shifted, [plain]) == (shift == 0 or value == 0)
    assert not NUMERIC.is_right(f"{plain}1", [plain])


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        pytest.param("42.", "42", id="full stop"),
        pytest.param("+42", "42", id="plus"),
        pytest.param("\u22125", "-5", id="minus sign"),
        pytest.param("-0", "0", id="minus zero"),
        pytest.param(".5", "0.50", id="no digit before the point"),
        pytest.param("1E3", "1,000", id="exponent"),
        pytest.param("1e999", "1e999", id="more than a double holds"),
        pytest.param("0." + "1" * 300, "0." + "1" * 300, id="more digits than a double has"),
    ],
)
def test_equal_numbers_are_right(answer: str, right: str) -> None:
    """Numbers are compared exactly, never as doubles."""
    assert NUMERIC.is_right(answer, [right])


@pytest.mark.parametrize(
    "answer",
    ["", "-", "42 km", "$42", "42%", "forty-two", "4 2", "42!", "0x2a", "4,2", "42,", "1,0000",
     "\u0664\u0662", "\uff14\uff12", "nan", "inf", "1e9999", "42e", "42 43", "0." + "1" * 500],
)  # fmt: skip
def test_an_answer_that_is_not_a_number_is_never_right(answer: str) -> None:
    """Such an answer is wrong even if the expected answer is the same text."""
    assert not NUMERIC.is_right(answer, ["42", answer])


@pytest.mark.parametrize("scorer", SCORERS.values(), ids=lambda scorer: scorer.name)
@given(text=st.one_of(st.text(), st.decimals(allow_nan=False, allow_infinity=False).map(str)))
@example(text="\u0130")
def test_equal_text_is_right_if_it_is_a_valid_answer(scorer: Scorer, text: str) -> None:
    """Counting a large eval set relies on this."""
    assert scorer.is_right(text, [text]) == (scorer.form(text) is not None)


def test_a_numeric_eval_set_is_counted_by_value() -> None:
    """An eval set whose answers are not numbers is refused; the message names the line."""
    items = eval_items(4)
    for item, expected in zip(items, ("1,000", "2", "3.50", "4"), strict=True):
        item["expected"] = expected
    lines = jsonl(items).split(b"\n")
    eval_set = EvalSet(tuple(parse_eval_set(lines, "f", NUMERIC)), "m", "s", NUMERIC)
    ids = [item.id for item in eval_set.items]
    counts = score(eval_set, zip(ids, ("1e3", "two", "3.5", None), strict=True))
    assert (counts.correct, counts.nulls) == (2, 1)
    items[2]["expected"] = "three"
    with pytest.raises(BadInput, match="line 3: 'expected': expected a decimal number"):
        list(parse_eval_set(jsonl(items).split(b"\n"), "f", NUMERIC))


def test_an_unknown_scorer_is_refused() -> None:
    """The message lists the known scorers."""
    for scorer in SCORERS.values():
        assert scorer_named(scorer.name, "x") is scorer
    with pytest.raises(
        BadInput, match=r"x: the scorer 'exact' is unknown. Known scorers: norm.*, num"
    ):
        scorer_named("exact", "x")
