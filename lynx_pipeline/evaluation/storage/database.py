"""DuckDB within a fixed memory limit, and Parquet files, for large eval sets."""

import atexit
import gc
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lynx_pipeline.errors import BadInput, SystemFailed
from lynx_pipeline.evaluation.storage.pages import check_pages
from lynx_pipeline.evaluation.storage.parquet import one_line

if TYPE_CHECKING:
    import duckdb

MEMORY = "512MB"
ROWS = 1 << 16  # in a row group, and in memory at a time


@contextmanager
def connected() -> Iterator["duckdb.DuckDBPyConnection"]:
    """A database for as long as the block runs.

    Raises:
        SystemFailed: DuckDB, Arrow or the disk raised an error in the block.
    """
    import duckdb
    import pyarrow as pa

    # Registered in lynx_pipeline.definitions. DuckDB reports, on standard error, all of its objects
    # that are not collected when the process ends.
    atexit.unregister(gc.freeze)
    try:
        with tempfile.TemporaryDirectory(prefix="lynx-duckdb-") as folder:
            config: dict[str, Any] = {
                "memory_limit": MEMORY,
                "temp_directory": folder,
                "threads": os.cpu_count() or 1,
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
            }
            with duckdb.connect(":memory:", config=config) as database:
                yield database
    except (duckdb.Error, pa.ArrowException, OSError) as error:
        raise SystemFailed(
            f"DuckDB could not work on the eval set: {one_line(error)}. Check that there is enough "
            "memory and room on the disk, also for temporary files, then run this again."
        ) from None


@contextmanager
def opened(where: str, rows: int, *contents: bytes) -> Iterator[tuple[Any, ...]]:
    """A database, and each of ``contents``, predictions of ``rows`` items, as a file. DuckDB reads
    only files, and writing them here ensures that it reads the bytes that were hashed. If one of
    them makes the block fail, the error message calls it ``where``.

    Raises:
        BadInput: one is not a predictions file, or is too large.
        SystemFailed: DuckDB, Arrow or the disk raised another error in the block.
    """
    import duckdb
    import pyarrow as pa

    for raw in contents:
        try:
            check_pages(raw, where, rows)
        except (pa.ArrowException, OSError) as error:
            raise BadInput(f"{where}: not a predictions file: {one_line(error)}.") from None
    with connected() as database, tempfile.TemporaryDirectory(prefix="lynx-predictions-") as folder:
        files = [Path(folder) / f"{number}.parquet" for number in range(len(contents))]
        for file, raw in zip(files, contents, strict=True):
            file.write_bytes(raw)
        try:
            yield database, *files
        except (duckdb.Error, pa.ArrowException, OSError):
            for file in files:
                _check_readable(file, where)
            raise


def _check_readable(file: Path, where: str) -> None:
    """Check that DuckDB can read these predictions on their own, which takes little memory.

    Raises:
        BadInput: it can't.
    """
    import duckdb

    with connected() as database:
        try:
            # This reads all values of both columns, not only the file's metadata.
            database.sql(
                f"SELECT sum(strlen(id)), sum(strlen(prediction)) FROM {read_parquet(file)}"
            ).fetchall()
        except duckdb.OutOfMemoryException:
            raise
        except duckdb.Error as error:
            raise BadInput(f"{where}: not a predictions file: {one_line(error)}.") from None


def joined(
    database: "duckdb.DuckDBPyConnection", where: str, items: Path, *predictions: Path
) -> str:
    """SQL that joins the items (``i``) with each file's predictions (``a``, ``b``) by position."""
    text = f"{read_parquet(items)} i"
    for name, file in zip("ab", predictions, strict=False):
        query = f"DESCRIBE SELECT id, prediction FROM {read_parquet(file)}"
        if [row[1] for row in rows(database, query)] != ["VARCHAR", "VARCHAR"]:
            raise BadInput(f"{where}: not a predictions file: expected two columns of text.")
        text += f" POSITIONAL JOIN (SELECT id, prediction FROM {read_parquet(file)}) {name}"
    return text


def read_parquet(file: Path, *options: str) -> str:
    quoted = "'" + str(file).replace("'", "''") + "'"
    return f"read_parquet({', '.join((quoted, *options))})"


def rows(database: "duckdb.DuckDBPyConnection", query: str) -> Iterator[tuple[Any, ...]]:
    """The rows of the query's result, fetched in batches."""
    for batch in database.sql(query).to_arrow_reader(ROWS // 8):
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def insert(
    database: "duckdb.DuckDBPyConnection",
    table: str,
    columns: tuple[str, ...],
    rows: Iterator[tuple[int, ...]],
) -> None:
    """Insert rows of whole numbers into a table, in batches."""
    import pyarrow as pa

    schema = pa.schema([(name, pa.int64()) for name in columns])
    while chunk := list(islice(rows, ROWS)):
        database.register("batch", pa.record_batch(list(zip(*chunk, strict=True)), schema))
        database.execute(f"INSERT INTO {table} SELECT * FROM batch")
        database.unregister("batch")


@contextmanager
def parquet_writer(file: Path, schema: Any) -> Iterator[Any]:
    import pyarrow.parquet as pq

    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        yield writer


def row_groups(batches: Any) -> Iterator[Any]:
    """The batches as tables of :data:`ROWS` rows, and a last one with the rest, so that the same
    rows give the same bytes however they are batched."""
    import pyarrow as pa

    pending: list[Any] = []
    rows = 0
    for batch in batches:
        pending.append(batch)
        rows += batch.num_rows
        while rows >= ROWS:
            table = pa.Table.from_batches(pending)
            yield table.slice(0, ROWS)
            pending, rows = table.slice(ROWS).to_batches(), rows - ROWS
    if rows:
        yield pa.Table.from_batches(pending)
