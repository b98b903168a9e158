"""An eval set too large to be held: its items lie in a Parquet file, and DuckDB works on them
with as much memory as it is given, however many they are.

Everything here has a counterpart for small eval sets in ``domain`` that gives the same results,
only faster there: importing DuckDB takes longer than counting some thousand answers.
"""

import atexit
import gc
import json
import os
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lynx_pipeline.domain.candidate_eval import Counts, build_counts
from lynx_pipeline.domain.eval_set import Item, parse_eval_set, sum_by_bucket
from lynx_pipeline.domain.gate.comparison import Comparison, Flip
from lynx_pipeline.domain.scorers import Scorer
from lynx_pipeline.errors import BadInput, SystemFailed
from lynx_pipeline.sandbox.engine import Answered

if TYPE_CHECKING:
    import duckdb

# Bytes of a file from which on its items are not held. Up to some 40,000 items plain Python is
# faster than any import.
LARGE = 8 << 20
MEMORY = "512MB"
_ROWS = 1 << 16  # of a row group, and of what is held here at a time
_FORMAT = b"lynx_items_1"


@dataclass(frozen=True, slots=True)
class LargeEvalSet:
    """A :class:`~lynx_pipeline.domain.eval_set.Questions` whose items lie in ``file``, in the eval
    set's order. ``prompt_words`` is how many words its prompts have together."""

    dvc_hash: str
    sha256: str
    scorer: Scorer
    file: Path
    parts: tuple[tuple[tuple[str, ...], int], ...]
    prompt_words: int
    folder: "tempfile.TemporaryDirectory[str] | None" = None

    def __len__(self) -> int:
        return sum(count for _, count in self.parts)

    def cells(self) -> Mapping[tuple[str, ...], int]:
        """See :class:`~lynx_pipeline.domain.eval_set.Questions`."""
        return dict(self.parts)

    def shuffled(self, seed: str) -> Iterator[tuple[int, str]]:
        """See :class:`~lynx_pipeline.domain.eval_set.Questions`."""
        items, quoted = _parquet_of(self.file, "file_row_number = true"), seed.replace("'", "''")
        query = (
            f"SELECT file_row_number, prompt FROM {items} "
            f"ORDER BY hash(file_row_number, '{quoted}')"
        )
        with _database() as database:
            yield from _asked(database, query)

    def count(self, predictions: bytes, where: str) -> Counts:
        """Like :func:`~lynx_pipeline.domain.candidate_eval.score`, for a Parquet file's bytes whose
        rows are in the eval set's order. ``where`` is for the error messages.

        Raises:
            BadInput: it is no such file, or a row does not answer the item in its place.
            SystemFailed: memory or the disk did not do, or the items' file is gone.
        """
        with _predictions(where, predictions) as (database, file):
            joined = _joined(database, where, self.file, file)
            right = [0] * len(self.parts)
            nulls = wrong_place = 0
            query = (
                "SELECT cell, count(*) FILTER (a.prediction = answers[1]), "
                "count(*) FILTER (a.prediction IS NULL), "
                f"count(*) FILTER (i.id IS DISTINCT FROM a.id) FROM {joined} GROUP BY cell"
            )
            for cell, same, null, elsewhere in _asked(database, query):
                wrong_place += elsewhere
                if cell is not None:
                    right[cell] += same
                    nulls += null
            if wrong_place:
                query = f"SELECT i.id, a.id FROM {joined} WHERE i.id IS DISTINCT FROM a.id LIMIT 1"
                ((expected, found),) = _asked(database, query)
                raise BadInput(
                    f"{where}: not the predictions of this eval set: a row answers the item "
                    f"{found!r} where {expected!r} is expected."
                )
            # Lists are slow to turn into Python's, and most items have one answer.
            query = (
                "SELECT cell, a.prediction, answers[1], if(len(answers) > 1, answers[2:], NULL) "
                f"FROM {joined} WHERE a.prediction <> answers[1]"
            )
            for cell, prediction, first, more in _asked(database, query):
                right[cell] += _is_right(self.scorer, prediction, (first, *(more or ())))
        cells = {buckets: n for (buckets, _), n in zip(self.parts, right, strict=True)}
        return build_counts(self, sum_by_bucket(cells), sum(right), nulls)

    def compare(self, reference: bytes, candidate: bytes) -> Comparison:
        """Like :func:`~lynx_pipeline.domain.gate.comparison.compare`, for two files that
        :meth:`count` has taken.

        Raises:
            BadInput: one is no predictions file.
            SystemFailed: memory or the disk did not do, or the items' file is gone.
        """
        lost, gained = [], []
        where = "predictions"
        with _predictions(where, reference, candidate) as (database, old, new):
            query = (
                "SELECT i.id, i.prompt, i.answers, i.cell, a.prediction, b.prediction FROM "
                f"{_joined(database, where, self.file, old, new)} "
                "WHERE a.prediction IS DISTINCT FROM b.prediction"
            )
            for item_id, prompt, answers, cell, before, after in _asked(database, query):
                right = tuple(answers)
                was, now = (
                    a is not None and _is_right(self.scorer, a, right) for a in (before, after)
                )
                flip = Flip(Item(item_id, prompt, right, self.parts[cell][0]), before, after)
                if was and not now:
                    lost.append(flip)
                elif now and not was:
                    gained.append(flip)
        return Comparison(tuple(lost), tuple(gained))

    def write_answers(self, batches: Iterable[Answered], predictions: Path, timings: Path) -> None:
        """Put the answers to all items, which came in any order, into two Parquet files in the
        eval set's order."""
        import pyarrow as pa

        schema = pa.schema([("row", pa.int32()), ("prediction", pa.string()), ("s", pa.float64())])

        def made() -> Iterator[Any]:
            for batch in batches:
                seconds = [batch.seconds / len(batch.rows)] * len(batch.rows)
                yield pa.record_batch([batch.rows, batch.answers, seconds], schema)

        answered = pa.RecordBatchReader.from_batches(schema, made())
        with _database() as database:
            database.register("answered", answered)
            found = database.sql(
                f"SELECT i.id, a.prediction, a.s AS seconds FROM {_parquet_of(self.file)} i "
                "POSITIONAL JOIN (SELECT prediction, s FROM answered ORDER BY row) a"
            ).to_arrow_reader(_ROWS)
            with (
                _parquet(predictions, found.schema.remove(2)) as first,
                _parquet(timings, found.schema.remove(1)) as second,
            ):
                for table in _even(found):
                    first.write_table(table.remove_column(2), _ROWS)
                    second.write_table(table.remove_column(1), _ROWS)


def build(
    lines: Iterable[bytes],
    where: str,
    dvc_hash: str,
    sha256: str,
    scorer: Scorer,
    keep: Path | None,
) -> LargeEvalSet:
    """The eval set of these lines, in a file of its own: ``keep``, which is taken as it is if it
    was built before, or a temporary one that goes with the object.

    Raises:
        BadInput: a line is not an item, or an id stands twice.
        SystemFailed: the disk refused.
    """
    if keep is not None and keep.exists():
        return _opened(keep, dvc_hash, sha256, scorer, None)
    folder = None
    if keep is None:
        folder = tempfile.TemporaryDirectory(prefix="lynx-eval-set-")
        keep = Path(folder.name) / "items.parquet"
    new = keep.with_name(f".{keep.name}.{uuid.uuid4().hex}")
    try:
        keep.parent.mkdir(parents=True, exist_ok=True)
        _convert(parse_eval_set(lines, where, scorer, check_ids=False), new)
        _check_ids(new, where)
        new.replace(keep)
    except OSError as error:
        raise SystemFailed(f"{keep} can't be written: {error.strerror}.") from None
    finally:
        new.unlink(missing_ok=True)
    return _opened(keep, dvc_hash, sha256, scorer, folder)


def _convert(items: Iterator[Item], file: Path) -> None:
    import pyarrow as pa

    schema = pa.schema(
        [
            *((name, pa.string()) for name in ("id", "prompt")),
            ("answers", pa.list_(pa.string())),
            ("cell", pa.int32()),
        ]
    )
    index: dict[tuple[str, ...], int] = {}
    counts: list[int] = []
    words = 0
    with _parquet(file, schema) as writer:
        while some := list(islice(items, _ROWS)):
            cells = [index.setdefault(item.buckets, len(index)) for item in some]
            counts += [0] * (len(index) - len(counts))
            for cell in cells:
                counts[cell] += 1
            words += sum(len(item.prompt.split()) for item in some)
            columns = [[i.id for i in some], [i.prompt for i in some], [i.answers for i in some]]
            writer.write_batch(pa.record_batch([*columns, cells], schema))
        about = {"cells": list(zip(index, counts, strict=True)), "words": words}
        writer.add_key_value_metadata({_FORMAT: json.dumps(about).encode()})


def _opened(
    file: Path,
    dvc_hash: str,
    sha256: str,
    scorer: Scorer,
    folder: "tempfile.TemporaryDirectory[str] | None",
) -> LargeEvalSet:
    import pyarrow.parquet as pq

    try:
        about = json.loads(pq.read_metadata(file).metadata[_FORMAT])
        parts = tuple((tuple(buckets), count) for buckets, count in about["cells"])
    except (OSError, ValueError, KeyError, TypeError) as error:  # pyarrow's are ValueErrors too
        raise SystemFailed(
            f"{file}: the eval set's items were kept here and can't be read: {_said(error)}. "
            "Delete this file, then run this again."
        ) from None
    return LargeEvalSet(dvc_hash, sha256, scorer, file, parts, about["words"], folder)


def _check_ids(file: Path, where: str) -> None:
    query = f"SELECT id FROM {_parquet_of(file)} GROUP BY id HAVING count(*) > 1 LIMIT 1"
    with _database() as database:
        for (twice,) in _asked(database, query):
            raise BadInput(f"{where}: the id {twice!r} stands twice in this file.")


# ----- DuckDB and Parquet ---------------------------------------------------------------------


@contextmanager
def _database() -> Iterator["duckdb.DuckDBPyConnection"]:
    """A database for as long as the block runs.

    Raises:
        SystemFailed: whatever DuckDB, Arrow or the disk raise in the block.
    """
    import duckdb
    import pyarrow as pa

    # At the end of a process it reports all that is not collected, on standard error.
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
            f"DuckDB could not work on the eval set: {_said(error)}. Check that memory and the "
            "disk, also where temporary files go, have room, then run this again."
        ) from None


@contextmanager
def _predictions(where: str, *given: bytes) -> Iterator[tuple[Any, ...]]:
    """A database, and each of ``given`` as a file, since DuckDB reads no others: so they are the
    bytes that were hashed. They are called ``where`` if it is their fault that the block fails.

    Raises:
        BadInput: one is no predictions file.
        SystemFailed: whatever else DuckDB, Arrow or the disk raise in the block.
    """
    import duckdb
    import pyarrow as pa

    with _database() as database, tempfile.TemporaryDirectory(prefix="lynx-predictions-") as folder:
        files = [Path(folder) / f"{number}.parquet" for number in range(len(given))]
        for file, raw in zip(files, given, strict=True):
            file.write_bytes(raw)
        try:
            yield database, *files
        except (duckdb.Error, pa.ArrowException, OSError):
            for file in files:
                _check_readable(file, where)
            raise


def _check_readable(file: Path, where: str) -> None:
    """That DuckDB can read these predictions if it does nothing else, so that it takes no memory.

    Raises:
        BadInput: it can't.
    """
    import duckdb

    with _database() as database:
        try:
            # Both columns are read to their end for this, not only what is said about them.
            database.sql(
                f"SELECT sum(strlen(id)), sum(strlen(prediction)) FROM {_parquet_of(file)}"
            ).fetchall()
        except duckdb.OutOfMemoryException:
            raise
        except duckdb.Error as error:
            raise BadInput(f"{where}: not a predictions file: {_said(error)}.") from None


def _joined(
    database: "duckdb.DuckDBPyConnection", where: str, items: Path, *predictions: Path
) -> str:
    """SQL for the items (``i``) with each file's predictions (``a``, ``b``) beside them."""
    text = f"{_parquet_of(items)} i"
    for name, file in zip("ab", predictions, strict=False):
        query = f"DESCRIBE SELECT id, prediction FROM {_parquet_of(file)}"
        if [row[1] for row in _asked(database, query)] != ["VARCHAR", "VARCHAR"]:
            raise BadInput(f"{where}: not a predictions file: expected two columns of text.")
        text += f" POSITIONAL JOIN (SELECT id, prediction FROM {_parquet_of(file)}) {name}"
    return text


def _parquet_of(file: Path, *options: str) -> str:
    quoted = "'" + str(file).replace("'", "''") + "'"
    return f"read_parquet({', '.join((quoted, *options))})"


def _asked(database: "duckdb.DuckDBPyConnection", query: str) -> Iterator[tuple[Any, ...]]:
    """The rows, a part of them at a time."""
    for batch in database.sql(query).to_arrow_reader(_ROWS // 8):
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _said(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


@contextmanager
def _parquet(file: Path, schema: Any) -> Iterator[Any]:
    import pyarrow.parquet as pq

    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        yield writer


def _even(batches: Any) -> Iterator[Any]:
    """The batches as tables of :data:`_ROWS` rows and a rest, so that the same rows give the same
    bytes however they come."""
    import pyarrow as pa

    held: list[Any] = []
    rows = 0
    for batch in batches:
        held.append(batch)
        rows += batch.num_rows
        while rows >= _ROWS:
            table = pa.Table.from_batches(held)
            yield table.slice(0, _ROWS)
            held, rows = table.slice(_ROWS).to_batches(), rows - _ROWS
    if rows:
        yield pa.Table.from_batches(held)


@lru_cache(maxsize=1 << 14)
def _is_right(scorer: Scorer, prediction: str, answers: tuple[str, ...]) -> bool:
    return scorer.is_right(prediction, answers)
