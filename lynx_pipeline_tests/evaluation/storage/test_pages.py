"""Predictions files that are small and unpack to gigabytes, or claim to be small."""

import io
import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lynx_pipeline.domain.scorers import EXACT
from lynx_pipeline.errors import BadInput
from lynx_pipeline.evaluation.evidence import EVAL, PREDICTIONS, read_evidence
from lynx_pipeline.evaluation.storage import large, pages
from lynx_pipeline.evaluation.storage.parquet import predictions_bytes, read_predictions
from lynx_pipeline_tests.support.bounded import refusal
from lynx_pipeline_tests.support.builders import candidate_eval, eval_items, eval_set, jsonl

ROWS = 1200
IDS = [f"i{k}" for k in range(ROWS)]


def parquet(table: Any, **options: Any) -> bytes:
    """The table as a Parquet file."""
    sink = io.BytesIO()
    pq.write_table(table, sink, **{"compression": "zstd", **options})
    return sink.getvalue()


def one_text(mib: int, rows: int = ROWS) -> Any:
    """A table whose rows all have the same answer, of ``mib`` MiB."""
    answers = pa.DictionaryArray.from_arrays(
        pa.array([0] * rows, pa.int32()), pa.array(["x" * (mib << 20)])
    )
    return pa.table({"id": [f"i{k}" for k in range(rows)], "prediction": answers})


def understated(raw: bytes) -> bytes:
    """The file, whose metadata claims that it unpacks to almost nothing."""
    footer = -8 - int.from_bytes(raw[-8:-4], "little")
    group = pq.read_metadata(io.BytesIO(raw)).row_group(0)
    for size in {group.total_byte_size, group.column(1).total_uncompressed_size}:
        varint = encoded(size)
        one = bytes([0x82, *[0x80] * (len(varint) - 2), 0])  # padded to the same length
        raw = raw[:footer] + raw[footer:].replace(varint, one)
    assert pq.read_metadata(io.BytesIO(raw)).row_group(0).total_byte_size == 1
    return raw


def encoded(number: int) -> bytes:
    """A number in Thrift's compact protocol."""
    number, result = number << 1, bytearray()
    while number > 127:
        result.append(number & 127 | 128)
        number >>= 7
    return bytes([*result, number])


def delta() -> bytes:
    """Rows that repeat the row before, each in a few bytes."""
    table = pa.table({"id": IDS, "prediction": ["x" * 9999] * ROWS})
    encoding = {"id": "PLAIN", "prediction": "DELTA_BYTE_ARRAY"}
    return parquet(table, use_dictionary=False, column_encoding=encoding)


def wide() -> bytes:
    """Many columns besides the two."""
    more = {f"c{k}": [1] for k in range(2000)}
    return parquet(pa.table({"id": ["i0"], "prediction": ["x"], **more}))


def described() -> bytes:
    """Metadata of 5 MiB."""
    table = pa.table({"id": ["i0"], "prediction": ["x"]})
    return parquet(table.replace_schema_metadata({"x": "x" * (5 << 20)}))


def rows(count: int) -> bytes:
    """Many rows without an answer."""
    nulls = pa.nulls(count, pa.string())
    return parquet(pa.table({"id": nulls, "prediction": nulls}))


def in_an_empty_group() -> bytes:
    """Four answers of 64 MiB in a row group that claims to have no rows."""
    raw = parquet(one_text(64, 4), use_dictionary=False)
    size = pq.read_metadata(io.BytesIO(raw)).row_group(0).total_byte_size
    fields = b"\x16" + encoded(size) + b"\x16"  # its size, and then its rows
    assert raw.count(fields + encoded(4)) == 1
    return raw.replace(fields + encoded(4), fields + encoded(0))


def typed(kind: Any, values: list[Any]) -> bytes:
    """Answers of another type than text."""
    return parquet(pa.table({"id": ["i0"], "prediction": pa.array(values, kind)}))


BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "an answer of 64 MiB": (lambda: parquet(one_text(64)), "unpacks to"),
    "an answer of 30 MiB, in all rows": (lambda: parquet(one_text(30)), "texts have"),
    "plain pages": (
        lambda: parquet(one_text(64, 4), use_dictionary=False),
        "unpacks to",
    ),
    "plain pages, and the metadata lies": (
        lambda: understated(parquet(one_text(64, 4), use_dictionary=False)),
        "unpacks to",
    ),
    "a dictionary, and the metadata lies": (
        lambda: understated(parquet(one_text(64))),
        "unpacks to",
    ),
    "delta encoding": (delta, "the encoding 7, which an evaluation does not write"),
    "pages of version 2": (
        lambda: parquet(one_text(1), data_page_version="2.0"),
        "of the type 3",
    ),
    "a group without rows": (in_an_empty_group, "a row group without rows"),
    "JSON": (lambda: typed(pa.json_(), ["{}"]), "expected two columns of text"),
    "bytes": (lambda: typed(pa.binary(), [b"x"]), "expected two columns of text"),
    "2,000 columns": (wide, "expected two columns of text"),
    "long metadata": (described, "its metadata has"),
    "5 million rows": (lambda: rows(5_000_000), "it has 5000000 rows, expected at most 1200"),
    "a hole of 4 GiB": (lambda: b"", "more than"),
}


def count_small(folder: Path) -> None:
    """Read this evidence for an eval set in memory."""
    read_evidence(folder, eval_set(eval_items(ROWS)))


def count_large(folder: Path) -> None:
    """Count these predictions with DuckDB."""
    items = large.build(jsonl(eval_items(ROWS)).splitlines(), "f", "md5", "sha", EXACT, None)
    items.count((folder / PREDICTIONS).read_bytes(), "p")


def evidence(folder: Path, raw: bytes) -> Path:
    """Evidence with these bytes as its predictions."""
    items = eval_set(eval_items(ROWS))
    values = candidate_eval(items, raw, {item.id: None for item in items.items}).to_json()
    (folder / EVAL).write_text(json.dumps(values))
    (folder / PREDICTIONS).write_bytes(raw)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("kind", BOMBS)
def test_a_bomb_is_refused_before_it_unpacks(tmp_path: Path, kind: str) -> None:
    """Within a second and 200 MiB, by both ways to count."""
    build, says = BOMBS[kind]
    raw = build()
    folder = evidence(tmp_path, raw)
    if not raw:
        os.truncate(folder / PREDICTIONS, 4 << 30)
    assert says in refusal(count_small, folder)
    if raw:
        assert says in refusal(count_large, folder)


HEADER = bytes([0x15, 0, 0x15, 20, 0x15, 10, 0x2C, 0x15, 4, 0x15, 0, 0x15, 6, 0x15, 6, 0, 0])


def test_a_pages_header_is_read_as_its_reader_reads_it() -> None:
    """A data page of 2 plain rows, which unpacks from 5 bytes to 10."""
    assert pages._page(HEADER, 0) == ((0, 10, 5, 2, 0), len(HEADER))


@pytest.mark.parametrize(
    ("header", "error"),
    [
        pytest.param(HEADER[:-1], IndexError, id="cut"),
        pytest.param(b"", IndexError, id="empty"),
        pytest.param(HEADER[:-1] + b"\x05\x04\x02\x00", IndexError, id="a size twice"),
        pytest.param(HEADER[:2] + b"\x05\xff\xff\x07" + HEADER[2:], IndexError, id="field -1"),
        pytest.param(b"\x15" + b"\xff" * 20, IndexError, id="an endless number"),
        pytest.param(b"\x1c" * 5000, RecursionError, id="structs in one another"),
        pytest.param(b"\x19\xf5" + b"\xff" * 9 + b"\x01", IndexError, id="an endless list"),
    ],
)
def test_a_header_with_another_reading_is_not_read(header: bytes, error: type[Exception]) -> None:
    """Another reader could find other sizes in it."""
    with pytest.raises(error):
        pages._page(header, 0)


@pytest.mark.parametrize(
    "size", [b"\xff\xff\xff\xff\x0f", b"\x80\x80\x80\x80\x10", b"\x01"], ids=str
)
def test_a_size_that_is_negative_or_too_large_is_none(size: bytes) -> None:
    """A reader cuts it to 32 bits."""
    assert pages._page(HEADER[:3] + size + HEADER[4:], 0)[0].unpacked == -1


def test_a_file_of_ours_is_read_whatever_its_texts() -> None:
    """Long answers, nulls, many distinct texts and several row groups."""
    for texts in (
        [None] * ROWS,
        ["same"] * ROWS,
        [f"answer {k} " * 99 for k in range(ROWS)],
        ["x" * (k % 7) * 5000 for k in range(ROWS)],
    ):
        raw = predictions_bytes(IDS, texts)
        assert read_predictions(raw, "p", ROWS) == list(zip(IDS, texts, strict=True))
        table = pa.table({"id": IDS, "prediction": pa.array(texts, pa.string())})
        assert read_predictions(parquet(table, row_group_size=100), "p", ROWS) == list(
            zip(IDS, texts, strict=True)
        )


def test_a_field_of_another_width_is_not_read() -> None:
    """pyarrow skips such a field, so what we would check is not what it reads."""
    raw = parquet(pa.table({"id": IDS, "prediction": ["x"] * ROWS}))
    found = 0
    for at in range(len(raw) - 8 - int.from_bytes(raw[-8:-4], "little"), len(raw) - 8):
        if raw[at] != 0x26:  # two fields further, 64 bits; 0x24 is 16 bits
            continue
        changed = raw[:at] + b"\x24" + raw[at + 1 :]
        with suppress(pa.ArrowException, OSError):
            if pq.read_metadata(io.BytesIO(changed)).row_group(0).column(1).has_dictionary_page:
                continue
            found += 1
            with pytest.raises(BadInput, match="its metadata is damaged"):
                pages.check_pages(changed, "f", ROWS)
    assert found
