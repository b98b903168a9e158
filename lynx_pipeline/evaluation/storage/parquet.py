"""Predictions and timings as Parquet: two columns, ``id`` and one more, in a given order.

The same rows give the same bytes. pyarrow is imported when something is read or written.
"""

import io
from collections.abc import Sequence
from pathlib import Path

from lynx_pipeline.errors import BadInput


def predictions_bytes(ids: Sequence[str], predictions: Sequence[str | None]) -> bytes:
    """``id`` and ``prediction`` (text or null) as Parquet bytes, in the given order."""
    import pyarrow as pa

    return _encode(ids, "prediction", pa.array(predictions, pa.string()))


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
    timings.write_bytes(_encode(ids, "seconds", pa.array(seconds, pa.float64())))


# Bytes of text when unpacked: a few packed ones could stand for all memory.
MOST_UNPACKED = 1 << 28


def read_predictions(raw: bytes, where: str, most: int) -> list[tuple[str, str | None]]:
    """The (id, prediction) rows in ``raw``, at most ``most``. ``where`` is for the error message.

    Raises:
        BadInput: it is no Parquet file with these two columns of text.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        about = pq.read_metadata(io.BytesIO(raw))
        size = sum(about.row_group(k).total_byte_size for k in range(about.num_row_groups))
        if about.num_rows > most or size > MOST_UNPACKED:
            raise BadInput(
                f"{where}: not a predictions file: it unpacks to {about.num_rows} rows of {size} "
                f"bytes, expected at most {most} rows."
            )
        table = pq.read_table(io.BytesIO(raw), columns=["id", "prediction"])
        columns = [table.column(name).cast(pa.string()) for name in ("id", "prediction")]
        ids, predictions = (column.to_pylist() for column in columns)
    except (pa.ArrowException, KeyError, OSError, UnicodeDecodeError) as error:
        said = " ".join(str(error).split())[:300]
        raise BadInput(f"{where}: not a predictions file: {said}.") from None
    if None in ids:
        raise BadInput(f"{where}: not a predictions file: a row has no id.")
    return list(zip(ids, predictions, strict=True))


def _encode(ids: Sequence[str], name: str, values: object) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    table = pa.table({"id": pa.array(ids, pa.string()), name: values})
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()
