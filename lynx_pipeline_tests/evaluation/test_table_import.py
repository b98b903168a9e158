"""Tables become eval sets without loss, or an error names the row and nothing is written."""

import csv
import datetime
import io
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lynx_pipeline.domain.eval_set import parse_eval_set
from lynx_pipeline.domain.scorers import EXACT, NUMERIC, Scorer, normalise
from lynx_pipeline.domain.tables import Columns
from lynx_pipeline.errors import BadInput
from lynx_pipeline.evaluation.table_import import Imported, import_table

COLUMNS = Columns("question", "answer", ("question type", "язык"), ("other",))
HEADER = "question,answer,question type,язык,other\n"
GOOD = HEADER + "Say a,a,yes or no,русский,b\n"


def run(
    folder: Path, raw: bytes | str, columns: Columns = COLUMNS, scorer: Scorer = EXACT
) -> tuple[Imported, list[dict[str, Any]]]:
    """Import a table with these bytes; returns what was imported, and the items."""
    file, output = folder / "table", folder / "out.jsonl"
    file.write_bytes(raw.encode() if isinstance(raw, str) else raw)
    result = import_table(file, columns, output, scorer, lambda *_: None)
    lines = output.read_bytes().splitlines()
    assert len(list(parse_eval_set(lines, "out", scorer))) == result.items
    return result, [json.loads(line) for line in lines]


def refused(folder: Path, raw: bytes | str, columns: Columns = COLUMNS, **options: Any) -> str:
    """The error of an import, which must leave no file."""
    with pytest.raises(BadInput) as caught:
        run(folder, raw, columns, **options)
    assert [path.name for path in folder.iterdir()] == ["table"]
    return str(caught.value)


def parquet(**columns: Any) -> bytes:
    """A Parquet file with these columns, each a list or an Arrow array."""
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file)
    return file.getvalue()


def test_every_cell_is_taken_over_as_it_is(tmp_path: Path) -> None:
    """Spaces, line breaks, quotes and NFD stay; an empty other answer is left out."""
    raw = HEADER + '" Say ""a"",\r\nplease ",e\u0301,why,日本,\n\nSay 007,007,why,日本,7\n'
    result, items = run(tmp_path, raw)
    assert result == Imported(2, frozenset({"question type.why", "язык.日本"}), ())
    ids = [item.pop("id") for item in items]
    buckets = {"question type": "why", "язык": "日本"}
    assert items == [
        {
            "prompt": ' Say "a",\r\nplease ',
            "expected": "e\u0301",
            "accept": [],
            "buckets": buckets,
        },
        {"prompt": "Say 007", "expected": "007", "accept": ["7"], "buckets": buckets},
    ]
    assert len(set(ids)) == 2


@pytest.mark.parametrize("delimiter", [",", "\t", ";"], ids=["comma", "tab", "semicolon"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["no mark", "mark"])
def test_the_delimiter_follows_from_the_header(tmp_path: Path, delimiter: str, mark: bytes) -> None:
    """Excel writes semicolons in some countries, and a byte-order mark."""
    columns = Columns("a,b", "c;d", ("e",), id="f")
    file = io.StringIO()
    writer = csv.writer(file, delimiter=delimiter)
    writer.writerows([["a,b", "c;d", "e", "f", "g"], ["p,;\t", "x", "y", "1", "z"]])
    result, items = run(tmp_path, mark + file.getvalue().encode(), columns)
    assert result.unused == ("g",)
    assert items == [
        {"id": "1", "prompt": "p,;\t", "expected": "x", "accept": [], "buckets": {"e": "y"}}
    ]


def test_ids_from_content_survive_a_reordering(tmp_path: Path) -> None:
    """And other rows that are added."""
    row = "Say a,a,yes or no,русский,b\n"
    other = "Say b,b,yes or no,русский,\n"
    _, (one,) = run(tmp_path, HEADER + row)
    _, (_, two) = run(tmp_path, HEADER + other + row)
    assert one == two


CELLS = st.text(
    st.characters(exclude_categories=["Cs"]), max_size=8
).filter(lambda text: "\x00" not in text)  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=6))
def test_any_text_survives(tmp_path: Path, texts: list[tuple[str, str]]) -> None:
    """Through Python's CSV writer and through Parquet, with the same result."""
    rows = [
        [str(k), p, e, "x"] for k, (p, e) in enumerate(texts) if p.strip() and normalise(e)
    ] or [["0", "p", "e", "x"]]
    columns = Columns("p", "e", ("b",), id="i")
    file = io.StringIO()
    csv.writer(file).writerows([["i", "p", "e", "b"], *rows])
    _, items = run(tmp_path, file.getvalue(), columns)
    assert [[it["id"], it["prompt"], it["expected"], it["buckets"]["b"]] for it in items] == rows
    i, p, e, b = (list(column) for column in zip(*rows, strict=True))
    assert run(tmp_path, parquet(i=i, p=p, e=e, b=b), columns)[1] == items


ROW = "Say a,a,yes or no,русский,b\n"
BAD_CSV = {
    "empty file": ("", "the table is empty"),
    "only a header": (HEADER, "the table has no rows"),
    "no such column": (GOOD.replace("answer", " answer", 1), "no column 'answer'.*' answer'"),
    "no header": (ROW, "there is no column 'question'. The columns are 'Say a', 'a'"),
    "duplicate column": (GOOD.replace("other", "answer", 1), "several columns are called 'answer'"),
    "too few cells": (GOOD + "Say b,b\n", "line 3: the row has 2 cells, expected 5"),
    "too many cells": (GOOD + ROW.replace("\n", ",x\n"), "line 3: the row has 6 cells, expected 5"),
    "an unquoted comma": (GOOD + "Say, b,b,why,日本,\n", "line 3: the row has 6 cells"),
    "an empty prompt": (GOOD + ",b,why,日本,\n", "line 3: the column 'question' is empty"),
    "a blank answer": (GOOD + "Say b, ,why,日本,\n", "line 3: the column 'answer' is empty"),
    "an empty bucket": (GOOD + "Say b,b,,日本,\n", "line 3: the column 'question type' is empty"),
    "a bucket with a space": (GOOD + "Say b,b,why ,日本,\n", "line 3: .*starts or ends with white"),
    "a bucket in NFD": (GOOD + "S,b,e\u0301,日本,\n", "line 3: .*not in Unicode NFC"),
    "after a multi-line row": (GOOD + '"a\nb",c,d,e,\n,f,g,h,\n', "line 5: .*'question' is empty"),
    "a quote that is not closed": (
        GOOD + '"Say b,b,why,日本,\n' + ROW,
        "line 3: not CSV: unexpected",
    ),
    "text after a quote": (GOOD + '"Say" b,b,why,日本,\n', "line 3: not CSV: ',' expected after"),
    "lone carriage returns": (GOOD.replace("\n", "\r"), "line 1: not CSV: new-line character"),
    "an answer no scorer matches": (GOOD + "Say b,.,why,日本,\n", "line 3: .*one full stop"),
    "equal rows": (GOOD + "b,b,c,d,\n" + ROW, "1 rows are equal to an earlier row.*lines 2, 4"),
    "Latin-1": (GOOD.encode() + b"caf\xe9,b,c,d,\n", "line 3: byte 4 of the line is not UTF-8"),
    "Latin-1 in the header": (b"caf\xe9,b\n", "line 1: byte 4 of the line is not UTF-8"),
    "UTF-16": (GOOD.encode("utf-16"), "this is UTF-16 text. Convert it: iconv -f UTF-16"),
    "gzip": (b"\x1f\x8b\x08", "this is a gzip archive. Unpack it"),
    "Excel": (b"PK\x03\x04" + b"[Content_Types].xml", "Excel.*Export it as CSV in UTF-8"),
    "JSON lines": ('{"question": "a", "answer": "b"}\n', "there is no column 'question'"),
}


@pytest.mark.parametrize(("raw", "message"), BAD_CSV.values(), ids=BAD_CSV.keys())
def test_what_is_ambiguous_in_csv_is_refused(
    tmp_path: Path, raw: bytes | str, message: str
) -> None:
    """The message names the file and the line on which the row starts."""
    text = refused(tmp_path, raw)
    assert text.startswith(str(tmp_path / "table"))
    with pytest.raises(BadInput, match=message):
        raise BadInput(text)


def test_a_quote_that_is_not_closed_does_not_fill_the_memory(tmp_path: Path) -> None:
    """A field ends at the limit of a line of JSON, wherever the file ends."""
    raw = GOOD + '"Say b,b,why,日本,\n' + ROW * 300_000
    file = tmp_path / "table"
    file.write_text(raw)
    tracemalloc.start()
    with pytest.raises(BadInput, match="line 3: not CSV: field larger than"):
        import_table(file, COLUMNS, tmp_path / "out.jsonl", EXACT, lambda *_: None)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 30 << 20


P = Columns("q", "a", ("b",), id="i")
TEXT = {"q": ["x", "y"], "a": ["1", "2"], "b": ["u", "v"], "i": ["k", "l"]}
DAY = datetime.date(2024, 1, 2)
BAD_PARQUET = {
    "null answer": ({"a": ["1", None]}, "row 2: the column 'a' is null"),
    "null bucket": ({"b": ["u", None]}, "row 2: the column 'b' is null"),
    "empty prompt": ({"q": ["x", " "]}, "row 2: the column 'q' is empty"),
    "a bucket of floats": ({"b": [0.5, 1.0]}, "the column 'b' has the type double, expected text"),
    "an answer of floats": ({"a": [0.1, 2.0]}, "'a' has the type double"),
    "dates": ({"a": [DAY, DAY]}, "'a' has the type date32"),
    "times": ({"b": [datetime.datetime(2024, 1, 2)] * 2}, "'b' has the type timestamp"),
    "truth values": ({"b": [True, False]}, "'b' has the type bool"),
    "decimals": ({"a": pa.array([1, 2], pa.decimal128(5, 2))}, "'a' has the type decimal128"),
    "bytes": ({"q": [b"x", b"y"]}, "'q' has the type binary"),
    "lists": ({"a": [["1"], ["2"]]}, "'a' has the type list"),
    "nulls only": ({"a": [None, None]}, "'a' has the type null"),
    "duplicate ids": ({"i": ["k", "k"]}, "1 rows have an id of an earlier row: rows 1, 2 .'k'."),
    "no such column": ({"q": None}, "there is no column 'q'. The columns are 'a', 'b', 'i'"),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "message"), BAD_PARQUET.values(), ids=BAD_PARQUET.keys())
def test_what_is_ambiguous_in_parquet_is_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    """A number or a date could be written as text in several ways."""
    columns = {key: value for key, value in {**TEXT, **changes}.items() if value is not None}
    with pytest.raises(BadInput, match=message):
        raise BadInput(refused(tmp_path, parquet(**columns), P))


def test_parquet_with_text_categories_and_integers_is_read(tmp_path: Path) -> None:
    """As pandas and others write it, over several row groups."""
    count = 10_000
    raw = parquet(
        q=pa.array([f"q{k}" for k in range(count)], pa.large_string()),
        a=pa.array(range(count), pa.int64()),
        b=pa.array(["u", "v"] * (count // 2)).dictionary_encode(),
        i=pa.array(range(count), pa.uint8() if count < 256 else pa.int32()),
    )
    result, items = run(tmp_path, raw, P, NUMERIC)
    assert result == Imported(count, frozenset({"b.u", "b.v"}), ())
    assert items[-1] == {
        "id": "9999", "prompt": "q9999", "expected": "9999", "accept": [], "buckets": {"b": "v"}
    }  # fmt: skip


@pytest.mark.parametrize("keep", [8, 100, 300])
def test_a_damaged_parquet_file_is_refused(tmp_path: Path, keep: int) -> None:
    """A download that was cut off."""
    assert "the Parquet file can't be read" in refused(tmp_path, parquet(**TEXT)[:keep], P)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        pytest.param(lambda: Columns("a", "a", ("b",)), "'a' is given twice", id="prompt, answer"),
        pytest.param(lambda: Columns("p", "a", ("b", "b")), "'b' is given twice", id="two buckets"),
        pytest.param(lambda: Columns("p", "a", ("b.c",)), "contains a dot", id="dot"),
        pytest.param(lambda: Columns("p", "a", ("b ",)), "ends with whitespace", id="space"),
        pytest.param(lambda: Columns("p", "a", ("",)), "is empty", id="no name"),
    ],
)
def test_columns_that_no_table_can_have_are_refused(columns: Any, message: str) -> None:
    """Before any file is read."""
    with pytest.raises(BadInput, match=message):
        columns()
