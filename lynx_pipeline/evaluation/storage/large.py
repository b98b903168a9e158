"""Large eval sets: the items are in a Parquet file, and DuckDB works on them within a fixed memory
limit, however many there are.

The results equal those of :mod:`~lynx_pipeline.evaluation.storage.memory`, which is faster for
small eval sets: importing DuckDB takes longer than counting a few thousand answers.
"""

import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lynx_pipeline.domain.candidate_eval import Counts, build_counts
from lynx_pipeline.domain.corpus import (
    KINDS,
    LISTED,
    PROMPT,
    Line,
    Overlap,
    counted,
    keys,
    question_form,
)
from lynx_pipeline.domain.eval_set import Item, parse_eval_set, sum_by_bucket
from lynx_pipeline.domain.gate.comparison import Comparison, Flip
from lynx_pipeline.domain.scorers import Scorer
from lynx_pipeline.errors import BadInput, SystemFailed
from lynx_pipeline.evaluation.storage import database as db
from lynx_pipeline.evaluation.storage.pages import most_bytes, same_ids, too_large
from lynx_pipeline.evaluation.storage.parquet import one_line
from lynx_pipeline.sandbox.engine import Answered

if TYPE_CHECKING:
    pass

# Eval set files with more bytes than this are large. Up to some 40,000 items plain Python is
# faster than importing an engine.
LARGE = 8 << 20
_FORMAT = b"lynx_items_1"
_FILTER_BITS = 29  # 64 MiB


@dataclass(frozen=True, slots=True)
class LargeEvalSet:
    """A :class:`~lynx_pipeline.evaluation.storage.StoredEvalSet` whose items are in ``file``, in
    the eval set's order. ``cell_sizes`` are the combinations of buckets with their item counts, by
    the number that ``file`` gives each. ``inputs`` are the names of each item's inputs. ``folder``
    is deleted together with this object."""

    dvc_hash: str
    sha256: str
    scorer: Scorer
    file: Path
    cell_sizes: tuple[tuple[tuple[str, ...], int], ...]
    prompt_words: int
    inputs: tuple[str, ...] = ()
    folder: "tempfile.TemporaryDirectory[str] | None" = None

    def __len__(self) -> int:
        return sum(count for _, count in self.cell_sizes)

    def cells(self) -> Mapping[tuple[str, ...], int]:
        """See :class:`~lynx_pipeline.domain.eval_set.Questions`."""
        return dict(self.cell_sizes)

    def shuffled(self, seed: str) -> Iterator[tuple[int, str]]:
        """See :class:`~lynx_pipeline.domain.eval_set.Questions`."""
        items, quoted = (
            db.read_parquet(self.file, "file_row_number = true"),
            seed.replace("'", "''"),
        )
        query = (
            f"SELECT file_row_number, prompt FROM {items} "
            f"ORDER BY hash(file_row_number, '{quoted}')"
        )
        with db.connected() as database:
            yield from db.rows(database, query)

    def count(self, predictions: bytes, where: str) -> Counts:
        """See :class:`~lynx_pipeline.evaluation.storage.StoredEvalSet`. The rows must be in the
        eval set's order."""
        with db.opened(where, len(self), predictions) as (database, file):
            joined = db.joined(database, where, self.file, file)
            # Equal ids are neither compared nor counted again, since reading them takes longest.
            ids = (
                "0, 0"
                if same_ids(predictions, self.file)
                else "count(*) FILTER (i.id IS DISTINCT FROM a.id), sum(strlen(a.id))"
            )
            right = [0] * len(self.cell_sizes)
            nulls = mismatches = size = 0
            query = (
                "SELECT cell, count(*) FILTER (a.prediction = answers[1]), "
                "count(*) FILTER (a.prediction IS NULL), sum(strlen(a.prediction)), "
                f"{ids} FROM {joined} GROUP BY cell"
            )
            for cell, same, null, prediction_size, other_id, id_size in db.rows(database, query):
                mismatches += other_id
                size += int(prediction_size or 0) + int(id_size or 0)
                if cell is not None:
                    right[cell] += same
                    nulls += null
            if size > most_bytes(len(self)):  # before any text is copied out of the dictionaries
                raise too_large(where, f"its texts have {size} bytes", len(self))
            if mismatches:
                query = f"SELECT i.id, a.id FROM {joined} WHERE i.id IS DISTINCT FROM a.id LIMIT 1"
                ((expected, found),) = db.rows(database, query)
                raise BadInput(
                    f"{where}: not the predictions of this eval set: a row answers the item "
                    f"{found!r:.80}, expected {expected!r} in its place."
                )
            # Converting lists to Python is slow, and most items have one answer.
            query = (
                "SELECT cell, a.prediction, answers[1], if(len(answers) > 1, answers[2:], NULL) "
                f"FROM {joined} WHERE a.prediction <> answers[1]"
            )
            is_right = _remembered(self.scorer)
            for cell, prediction, first, more in db.rows(database, query):
                right[cell] += is_right(prediction, (first, *more) if more else (first,))
        cells = {buckets: n for (buckets, _), n in zip(self.cell_sizes, right, strict=True)}
        return build_counts(self, sum_by_bucket(cells), sum(right), nulls)

    def compare(self, reference: bytes, candidate: bytes) -> Comparison:
        """See :class:`~lynx_pipeline.evaluation.storage.StoredEvalSet`."""
        lost, gained = [], []
        is_right = _remembered(self.scorer)
        where = "predictions"
        with db.opened(where, len(self), reference, candidate) as (database, old, new):
            query = (
                "SELECT i.id, i.prompt, i.answers, i.cell, a.prediction, b.prediction FROM "
                f"{db.joined(database, where, self.file, old, new)} "
                "WHERE a.prediction IS DISTINCT FROM b.prediction"
            )
            for item_id, prompt, answers, cell, before, after in db.rows(database, query):
                right = tuple(answers)
                was, now = (a is not None and is_right(a, right) for a in (before, after))
                item = Item(item_id, prompt, right, self.cell_sizes[cell][0], self.inputs)
                flip = Flip(item, before, after)
                if was and not now:
                    lost.append(flip)
                elif now and not was:
                    gained.append(flip)
        return Comparison(tuple(lost), tuple(gained))

    def with_predictions(self, predictions: bytes) -> Iterator[tuple[str, str, str | None]]:
        """See :class:`~lynx_pipeline.evaluation.storage.StoredEvalSet`."""
        where = "predictions"
        with db.opened(where, len(self), predictions) as (database, file):
            joined = db.joined(database, where, self.file, file)
            yield from db.rows(database, f"SELECT i.id, i.prompt, a.prediction FROM {joined}")

    def overlap(self, corpus: Iterable[Line]) -> Overlap:
        """See :class:`~lynx_pipeline.evaluation.storage.StoredEvalSet`.

        Keys are compared by their 64-bit hashes, which Python salts anew in each process. Two
        different keys among ten million on either side have the same one in one of 200,000 runs.
        """
        prompts = _Filter()
        with db.connected() as database:
            database.sql("CREATE TABLE wanted (row INTEGER, kind TINYINT, key BIGINT)")
            database.sql("CREATE TABLE found (key BIGINT)")
            db.insert(database, "wanted", ("row", "kind", "key"), self._wanted(prompts))
            db.insert(database, "found", ("key",), self._hits(corpus, prompts))
            matching = "FROM wanted SEMI JOIN found USING (key)"
            rows = db.rows(database, f"SELECT kind, count(DISTINCT row) {matching} GROUP BY kind")
            counts = dict.fromkeys(KINDS, 0) | dict(rows)
            examples = db.rows(
                database,
                f"SELECT id, prompt FROM {db.read_parquet(self.file, 'file_row_number = true')} "
                f"WHERE file_row_number IN (SELECT DISTINCT row {matching} WHERE kind = {PROMPT} "
                f"ORDER BY row LIMIT {LISTED}) ORDER BY file_row_number",
            )
            return counted(counts.values(), examples)

    def _wanted(self, prompts: "_Filter") -> Iterator[tuple[int, ...]]:
        """The row, kind and hash of each key of each item. Prompts are added to ``prompts``."""
        import pyarrow.parquet as pq

        row = 0
        for batch in pq.ParquetFile(self.file).iter_batches(
            db.ROWS // 8, columns=["prompt", "answers"]
        ):
            for item in batch.to_pylist():
                for key in keys(
                    item["prompt"],
                    form := question_form(item["prompt"], self.inputs),
                    item["answers"],
                    self.scorer,
                ):
                    yield row, key[0], hash(key)
                prompts.add(form)
                row += 1

    def _hits(self, corpus: Iterable[Line], prompts: "_Filter") -> Iterator[tuple[int]]:
        """The hashes of the keys of all lines that may have the prompt of an item."""
        for line in corpus:
            if (form := question_form(line.prompt, self.inputs)) in prompts:
                for key in keys(line.prompt, form, line.answers, self.scorer):
                    yield (hash(key),)

    def write_answers(self, batches: Iterable[Answered], predictions: Path, timings: Path) -> None:
        """See :class:`~lynx_pipeline.evaluation.storage.StoredEvalSet`."""
        import pyarrow as pa

        schema = pa.schema([("row", pa.int32()), ("prediction", pa.string()), ("s", pa.float64())])

        def record_batches() -> Iterator[Any]:
            for batch in batches:
                seconds = [batch.seconds / len(batch.rows)] * len(batch.rows)
                yield pa.record_batch([batch.rows, batch.answers, seconds], schema)

        answered = pa.RecordBatchReader.from_batches(schema, record_batches())
        with db.connected() as database:
            database.register("answered", answered)
            ordered = database.sql(
                f"SELECT i.id, a.prediction, a.s AS seconds FROM {db.read_parquet(self.file)} i "
                "POSITIONAL JOIN (SELECT prediction, s FROM answered ORDER BY row) a"
            ).to_arrow_reader(db.ROWS)
            with (
                db.parquet_writer(predictions, ordered.schema.remove(2)) as predictions_writer,
                db.parquet_writer(timings, ordered.schema.remove(1)) as timings_writer,
            ):
                for table in db.row_groups(ordered):
                    predictions_writer.write_table(table.remove_column(2), db.ROWS)
                    timings_writer.write_table(table.remove_column(1), db.ROWS)


def build(
    lines: Iterable[bytes],
    where: str,
    dvc_hash: str,
    sha256: str,
    scorer: Scorer,
    cache: Path | None,
) -> LargeEvalSet:
    """Convert these lines to Parquet in the file ``cache``, or use that file as it is if it exists.
    Without ``cache`` the file is temporary and is deleted together with the object.

    Raises:
        BadInput: a line is not an item, or an id is duplicate.
        SystemFailed: the disk failed.
    """
    if cache is not None and cache.exists():
        return _open(cache, dvc_hash, sha256, scorer, None)
    folder = None
    if cache is None:
        folder = tempfile.TemporaryDirectory(prefix="lynx-eval-set-")
        cache = Path(folder.name) / "items.parquet"
    new = cache.with_name(f".{cache.name}.{os.urandom(16).hex()}")
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        _convert(parse_eval_set(lines, where, scorer, check_ids=False), new)
        _check_ids(new, where)
        new.replace(cache)
    except OSError as error:
        raise SystemFailed(f"{cache} can't be written: {error.strerror}.") from None
    finally:
        new.unlink(missing_ok=True)
    return _open(cache, dvc_hash, sha256, scorer, folder)


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
    inputs: tuple[str, ...] = ()
    with db.parquet_writer(file, schema) as writer:
        while chunk := list(islice(items, db.ROWS)):
            inputs = chunk[0].inputs
            cells = [index.setdefault(item.buckets, len(index)) for item in chunk]
            counts += [0] * (len(index) - len(counts))
            for cell in cells:
                counts[cell] += 1
            words += sum(len(item.prompt.split()) for item in chunk)
            columns = [[i.id for i in chunk], [i.prompt for i in chunk], [i.answers for i in chunk]]
            writer.write_batch(pa.record_batch([*columns, cells], schema))
        cells_with_counts = list(zip(index, counts, strict=True))
        about = {"cells": cells_with_counts, "words": words, "inputs": inputs}
        writer.add_key_value_metadata({_FORMAT: json.dumps(about).encode()})


def _open(
    file: Path,
    dvc_hash: str,
    sha256: str,
    scorer: Scorer,
    folder: "tempfile.TemporaryDirectory[str] | None",
) -> LargeEvalSet:
    import pyarrow.parquet as pq

    try:
        about = json.loads(pq.read_metadata(file).metadata[_FORMAT])
        cell_sizes = tuple((tuple(buckets), count) for buckets, count in about["cells"])
        inputs = tuple(about.get("inputs", ()))  # older files have none
    except (OSError, ValueError, KeyError, TypeError) as error:  # pyarrow raises ValueErrors
        raise SystemFailed(
            f"{file}: the cached eval set can't be read: {one_line(error)}. "
            "Delete this file, then run this again."
        ) from None
    words = about["words"]
    return LargeEvalSet(dvc_hash, sha256, scorer, file, cell_sizes, words, inputs, folder)


def _check_ids(file: Path, where: str) -> None:
    query = f"SELECT id FROM {db.read_parquet(file)} GROUP BY id HAVING count(*) > 1 LIMIT 1"
    with db.connected() as database:
        for (duplicate,) in db.rows(database, query):
            raise BadInput(f"{where}: duplicate id {duplicate!r} in this file.")


class _Filter:
    """A set of texts of fixed size: it contains all that were added, and few others. Of ten million
    texts it takes two in a hundred others for one of them."""

    def __init__(self) -> None:
        self._bits = bytearray(1 << (_FILTER_BITS - 3))

    def add(self, text: str) -> None:
        """Add a text."""
        bit = hash(text) & ((1 << _FILTER_BITS) - 1)
        self._bits[bit >> 3] |= 1 << (bit & 7)

    def __contains__(self, text: str) -> bool:
        bit = hash(text) & ((1 << _FILTER_BITS) - 1)
        return bool(self._bits[bit >> 3] >> (bit & 7) & 1)


def _remembered(scorer: Scorer) -> Callable[[str, tuple[str, ...]], bool]:
    """The scorer's rule, with its latest results in memory. A cache for all scorers would hash the
    scorer at each call, which takes longer than all the rest."""
    return lru_cache(maxsize=1 << 14)(scorer.is_right)
