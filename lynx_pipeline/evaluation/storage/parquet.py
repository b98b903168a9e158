"""Predictions and timings as Parquet: two columns, ``id`` and one more, in a given order.

The same rows give the same bytes. pyarrow is imported when something is read or written. Importing
pandas takes longer than all the rest, so this avoids ``pa.array`` and ``pq.read_table``, which do.
"""

import array
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from lynx_pipeline.errors import BadInput
from lynx_pipeline.evaluation.storage.pages import COLUMNS, check_pages, most_bytes, too_large


def predictions_bytes(ids: Sequence[str], predictions: Sequence[str | None]) -> bytes:
    """``id`` and ``prediction`` (text or null) as Parquet bytes, in the given order."""
    return _encode(ids, "prediction", _text_array(predictions))


def write_answers(
    ids: Sequence[str],
    texts: Sequence[str | None],
    seconds: Sequence[float],
    predictions: Path,
    timings: Path,
) -> None:
    """Write two files: ``id`` and ``prediction``; ``id`` and ``seconds``."""
    import pyarrow as pa

    predictions.write_bytes(predictions_bytes(ids, texts))
    buffers = [None, pa.py_buffer(array.array("d", seconds))]
    values = pa.Array.from_buffers(pa.float64(), len(seconds), buffers)
    timings.write_bytes(_encode(ids, "seconds", values))


def read_predictions(raw: bytes, where: str, limit: int) -> list[tuple[str, str | None]]:
    """The (id, prediction) rows in ``raw``, at most ``limit``. ``where`` is for error messages.

    Raises:
        BadInput: it is not a Parquet file with these two text columns, or is too large.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        metadata = check_pages(raw, where, limit)
        # A buffer of Arrow's own, read without threads: one that reads a Python object can outlive
        # the interpreter, which then aborts (exit code 134).
        source = pa.BufferReader(raw)
        file = pq.ParquetFile(source, metadata=metadata, read_dictionary=COLUMNS)
        text = [pa.dictionary(pa.int32(), it) for it in (pa.string(), pa.large_string())]
        for field in file.schema_arrow:  # the file may name an Arrow type of its own
            if field.type not in text:
                raise BadInput(f"{where}: not a predictions file: {field.type!s:.80} is not text.")
        table = file.read(use_threads=False)
        ids, predictions = (_texts(table.column(name), where, limit) for name in COLUMNS)
    except (pa.ArrowException, KeyError, OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{where}: not a predictions file: {one_line(error)}.") from None
    if None in ids:
        raise BadInput(f"{where}: not a predictions file: a row has no id.")
    return list(zip(map(str, ids), predictions, strict=True))


def _texts(column: Any, where: str, rows: int) -> list[str | None]:
    """The texts of a column that was read as a dictionary, each distinct one held once."""
    texts, size = list[str | None](), 0
    for chunk in column.chunks:
        chunk.validate(full=True)  # a damaged file has indices beyond the dictionary
        distinct = chunk.dictionary.to_pylist()
        found = [None if k is None else distinct[k] for k in chunk.indices.to_pylist()]
        size += sum(len(text) for text in found if text is not None)
        if size > most_bytes(rows):
            raise too_large(where, f"its texts have {size} characters", rows)
        texts += found
    return texts


def one_line(error: Exception) -> str:
    """The error's message as one line of limited length."""
    return " ".join(str(error).split())[:300]


def _encode(ids: Sequence[str], name: str, values: object) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    table = pa.table({"id": _text_array(ids), name: values})
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def _text_array(values: Iterable[str | None]) -> object:
    import pyarrow as pa

    builder = pa.lib.StringBuilder()
    builder.append_values(values)
    return builder.finish()
