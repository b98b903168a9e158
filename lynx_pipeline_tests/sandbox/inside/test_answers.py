"""What a model may return, and which text each answer becomes."""

import json
from collections.abc import Callable, Iterator
from datetime import date
from decimal import Decimal
from typing import Any

import numpy
import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lynx_pipeline.domain.scorers import NUMERIC
from lynx_pipeline.sandbox.inside.worker import plain

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("output", "answers"),
    [
        pytest.param(["a", None, ""], ["a", None, ""], id="list"),
        pytest.param(("a", "b"), ["a", "b"], id="tuple"),
        pytest.param([], [], id="empty list"),
        pytest.param([numpy.str_("a")], ["a"], id="numpy texts"),
        pytest.param(numpy.array(["a", "bc"]), ["a", "bc"], id="array"),
        pytest.param(numpy.array(["a", None], dtype=object), ["a", None], id="array of objects"),
        pytest.param(numpy.array([["a"], ["b"]]), ["a", "b"], id="n by 1"),
        pytest.param(pandas.Series(["a", None]), ["a", None], id="Series"),
        pytest.param(pandas.Series(["a", NAN], dtype=object), ["a", None], id="objects, NaN"),
        pytest.param(pandas.Series(["a", pandas.NA], dtype="string"), ["a", None], id="strings"),
        pytest.param(pandas.Series([None, None], dtype=object), [None, None], id="all missing"),
        pytest.param(pandas.Series(["a", "b"]).astype("category"), ["a", "b"], id="categories"),
        pytest.param(pandas.DataFrame({"x": ["a", None]}, index=[7, 3]), ["a", None], id="frame"),
        pytest.param(pandas.Index(["a", "b"]), ["a", "b"], id="Index"),
        pytest.param({"y": numpy.array(["a"])}, ["a"], id="one named tensor"),
        pytest.param(["a", 1, 0.5], ["a", "1", "0.5"], id="text and numbers"),
        pytest.param(numpy.array([[1], [2]]), ["1", "2"], id="numbers, n by 1"),
        pytest.param(pandas.Series([1, 2]).astype("category"), ["1", "2"], id="whole categories"),
        pytest.param({"y": numpy.array([1.5])}, ["1.5"], id="one named tensor of numbers"),
        pytest.param(pandas.Series([pandas.NaT]), [None], id="no date"),
        pytest.param([{"generated_text": "a"}, {"generated_text": None}], ["a", None], id="rows"),
        pytest.param([{"y": 1}, None], ["1", None], id="rows, one null"),
    ],
)
def test_answers_are_text_or_null(output: Any, answers: list[str | None]) -> None:
    """Every type that MLflow's flavors return is supported."""
    found = plain(output)
    assert found == answers
    assert {type(text) for text in found} <= {str, type(None)}


def _each() -> Iterator[str]:
    yield "a"


@pytest.mark.parametrize(
    ("output", "message"),
    [
        pytest.param(["a", 1j], "complex, expected text or a number, first as answer 2", id="1j"),
        pytest.param([date(2025, 1, 2)], "returned date", id="dates"),
        pytest.param(numpy.array(["2025-01-02"], "M8[ns]"), "returned datetime64", id="array"),
        pytest.param(pandas.Series(pandas.to_datetime(["2025"])), "datetime64", id="Series"),
        pytest.param(numpy.array([1], "m8[ns]"), "returned timedelta64", id="durations"),
        pytest.param([numpy.longdouble(1)], "returned longdouble", id="more than a double"),
        pytest.param([b"a"], "returned bytes", id="bytes"),
        pytest.param(numpy.array([b"a"]), "returned bytes", id="array of bytes"),
        pytest.param([["a"], ["b"]], "returned list", id="lists"),
        pytest.param([numpy.array([1.0])], "returned ndarray", id="arrays in a list"),
        pytest.param("ab", "returned str for a batch", id="one text"),
        pytest.param(3, "returned int for a batch", id="one number"),
        pytest.param(b"ab", "returned bytes for a batch", id="one text in bytes"),
        pytest.param(None, "returned NoneType for a batch", id="None"),
        pytest.param({"a", "b"}, "returned set for a batch", id="a set"),
        pytest.param(_each(), "returned generator for a batch", id="a stream"),
        pytest.param(numpy.array([["a", "b"]]), r"of shape \(1, 2\)", id="1 by n"),
        pytest.param(numpy.array("a"), r"of shape \(\)", id="no dimensions"),
        pytest.param(numpy.array([[["a"]]]), r"of shape \(1, 1, 1\)", id="three dimensions"),
    ],
)
def test_any_other_output_is_refused(output: Any, message: str) -> None:
    """The error names the type and the first position."""
    with pytest.raises(ValueError, match=message):
        plain(output)


# ----- several columns ---------------------------------------------------------------------------

LABELS, SCORES = ["a", None], [[0.9, 0.1], [0.5, 0.5]]
SEVERAL = {
    "frame": pandas.DataFrame({"label": LABELS, "score": [0.9, 0.5]}),
    "numbered frame": pandas.DataFrame({0: [0.9, 0.5], "label": LABELS}),
    "rows": [{"label": "a", "score": 0.9}, {"label": None, "score": 0.5}],
    "tensors": {"label": numpy.array(LABELS, object), "probabilities": numpy.array(SCORES)},
    "ONNX with ZipMap": {"label": numpy.array(LABELS, object), "p": [{"a": 0.9}, {"a": 0.5}]},
}


@pytest.mark.parametrize("name", SEVERAL)
def test_one_of_several_columns_is_chosen_by_name(name: str) -> None:
    """The others may be of any type."""
    assert plain(SEVERAL[name], "label") == ["a", None]


@pytest.mark.parametrize("name", SEVERAL)
def test_several_columns_without_a_choice_are_refused(name: str) -> None:
    """The error names them and the setting."""
    with pytest.raises(ValueError, match=r"2 columns \(.*'label'.*answer_column = 'NAME'"):
        plain(SEVERAL[name])
    with pytest.raises(ValueError, match=r"2 columns .*'label'.* one named 'Label', as"):
        plain(SEVERAL[name], "Label")


@pytest.mark.parametrize(
    "output",
    [["a", None], numpy.array(LABELS, object), pandas.Series(LABELS), pandas.Index(LABELS)],
)
def test_output_without_columns_needs_no_choice(output: Any) -> None:
    """So one setting fits models of both kinds."""
    assert plain(output, "label") == ["a", None]


@pytest.mark.parametrize(
    ("output", "column", "message"),
    [
        pytest.param({}, None, "returned 0 columns", id="no column"),
        pytest.param(pandas.DataFrame({"x": ["a"]}), "label", "one named 'label'", id="another"),
        pytest.param(
            pandas.DataFrame([["a", "b"]], columns=["label", "label"]),
            "label",
            "2 columns \\('label', 'label'\\), expected one named",
            id="the same name twice",
        ),
        pytest.param([{"a": "x"}, {"b": "y"}], None, "2 columns \\('a', 'b'\\)", id="other fields"),
        pytest.param([{"y": "x"}, {}], None, "without the field 'y'", id="a missing field"),
        pytest.param([{"y": "x"}, "x"], None, "returned dict", id="rows and texts"),
        pytest.param({"label": SCORES}, "label", "returned list", id="no answers in it"),
    ],
)
def test_a_column_that_is_not_clear_is_refused(
    output: Any, column: str | None, message: str
) -> None:
    """Nothing is guessed."""
    with pytest.raises(ValueError, match=message):
        plain(output, column)


# ----- numbers ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((3, "3"), (-3, "-3"), (10**30, "1" + 30 * "0"), (numpy.int8(3), "3")),
        *((3.0, "3.0"), (0.1, "0.1"), (-0.0, "-0.0"), (1e16, "1e+16"), (0.00001, "1e-05")),
        *((numpy.float64(0.1), "0.1"), (numpy.float32(0.1), "0.1"), (numpy.float16(0.1), "0.1")),
        *((numpy.float32(1e16), "1e+16"), (numpy.float32(16777216), "16777216.0")),
        *((True, "true"), (numpy.False_, "false"), (INF, "Infinity"), (-INF, "-Infinity")),
        *((numpy.float32(INF), "Infinity"), (Decimal("Infinity"), "Infinity")),
        *((Decimal("0.10"), "0.10"), (Decimal("1E+3"), "1E+3")),
        *((NAN, None), (numpy.float32(NAN), None), (Decimal("NaN"), None), (pandas.NA, None)),
    ],
)
def test_numbers_are_answers_as_json_writes_them(value: Any, text: str | None) -> None:
    """A number with fewer bits gets the digits that its own type needs. NaN is a null answer."""
    assert plain([value]) == [text]


def test_printing_options_of_the_model_change_nothing() -> None:
    """They apply to the whole process, which the model shares."""
    value = numpy.float32(0.12345679)
    with numpy.printoptions(precision=2, legacy="1.13", floatmode="fixed"):
        assert plain(numpy.array([value])) == plain([value]) == ["0.12345679"]


CONTAINERS: dict[str, Callable[[Any], Any]] = {
    "list": list,
    "tuple": tuple,
    "list of Python numbers": lambda array: array.tolist(),
    "array": lambda array: array,
    "n by 1": lambda array: array.reshape(-1, 1),
    "objects": lambda array: array.astype(object),
    "Series": pandas.Series,
    "Series of objects": lambda array: pandas.Series(list(array), dtype=object),
    "nullable": lambda array: pandas.Series(array).convert_dtypes(convert_integer=False),
    "Arrow": lambda array: pandas.Series(array).convert_dtypes(dtype_backend="pyarrow"),
    "categories": lambda array: pandas.Series(array).astype("category"),
    "Index": pandas.Index,
    "frame": lambda array: pandas.DataFrame({"y": array}),
    "rows": lambda array: pandas.DataFrame({"y": array}, index=range(len(array), 0, -1)),
    "tensor": lambda array: {"y": array},
}
NARROW = {"list of Python numbers", "objects"}  # numpy widens to double for these


def _same_in_every_container(array: Any, expected: list[str | None], but: set[str]) -> None:
    for name, into in CONTAINERS.items():
        if name not in but:
            assert plain(into(array)) == expected, name


@given(st.lists(st.floats(), min_size=1, max_size=9))
def test_doubles_read_back_equal_from_every_container(values: list[float]) -> None:
    """NaN is null in each of them, and ``numeric/1`` reads every finite one."""
    found = plain(values)
    for value, text in zip(values, found, strict=True):
        assert (text is None) == (value != value)
        assert text is None or json.loads(text) == value
        if text is not None and abs(value) != INF:
            assert NUMERIC.form(text) == Decimal(repr(value))
    # These two turn whole doubles into integers before the worker sees them.
    _same_in_every_container(numpy.array(values), found, {"nullable", "Arrow"})


@given(st.lists(st.floats(width=32), min_size=1, max_size=9), st.sampled_from(["f4", "f2"]))
def test_narrow_floats_read_back_equal_in_their_own_type(values: list[float], kind: str) -> None:
    """With the fewest digits that do: none can be left out."""
    with numpy.errstate(over="ignore"):
        array = numpy.array(values, kind)
    found = plain(array)
    for value, text in zip(array, found, strict=True):
        assert (text is None) == bool(numpy.isnan(value))
        if text is None or numpy.isinf(value):
            continue
        read = array.dtype.type(text)
        assert read == value
        digits = len(Decimal(text).normalize().as_tuple().digits)
        if digits > 1:
            with numpy.errstate(over="ignore"):
                assert array.dtype.type(f"{Decimal(text):.{digits - 2}e}") != value
    _same_in_every_container(array, found, NARROW | {"nullable", "Arrow", "categories", "Index"})


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=9))
def test_whole_numbers_are_the_same_in_every_container(values: list[int]) -> None:
    """Also if one is missing, in a Series that can hold that."""
    expected = [str(value) for value in values]
    assert plain(values) == expected
    _same_in_every_container(numpy.array(values), list(expected), set())
    for kind in ("Int64", "int64[pyarrow]"):
        assert plain(pandas.Series([*values, None], dtype=kind)) == [*expected, None]


@given(st.lists(st.booleans(), min_size=1, max_size=9))
def test_booleans_are_the_same_in_every_container(values: list[bool]) -> None:
    """As JSON writes them."""
    _same_in_every_container(numpy.array(values), [json.dumps(it) for it in values], set())
