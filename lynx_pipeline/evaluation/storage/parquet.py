"""Predictions and timings as Parquet: two columns, ``id`` and one more, in a given order.

The same rows give the same bytes. pyarrow is imported when something is read or written. Importing
pandas takes longer than all the rest, so this avoids ``pa.array`` and ``pq.read_table``, which do.
"""

import array
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from lynx_pipeline.errors import BadInput


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


# The limit in bytes once decompressed: a small compressed file could fill the memory.
_UNPACKED_LIMIT = 1 << 28


def read_predictions(raw: bytes, where: str, limit: int) -> list[tuple[str, str | None]]:
    """The (id, prediction) rows in ``raw``, at most ``limit``. ``where`` is for error messages.

    Raises:
        BadInput: it is not a Parquet file with these two text columns, or is too large.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(io.BytesIO(raw))
        metadata = file.metadata
        size = sum(metadata.row_group(k).total_byte_size for k in range(metadata.num_row_groups))
        if metadata.num_rows > limit or size > _UNPACKED_LIMIT:
            raise BadInput(
                f"{where}: not a predictions file: it unpacks to {metadata.num_rows} rows and "
                f"{size} bytes, expected at most {limit} rows and {_UNPACKED_LIMIT} bytes."
            )
        table = file.read(columns=["id", "prediction"])
        columns = [table.column(name).cast(pa.string()) for name in ("id", "prediction")]
        ids, predictions = (column.to_pylist() for column in columns)
    except (pa.ArrowException, KeyError, OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{where}: not a predictions file: {one_line(error)}.") from None
    if None in ids:
        raise BadInput(f"{where}: not a predictions file: a row has no id.")
    return list(zip(ids, predictions, strict=True))


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
