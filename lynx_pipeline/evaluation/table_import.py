"""Tables as eval sets: CSV, TSV and Parquet, row by row in flat memory.

Whatever could be read in two ways is an error that names the row: see
:mod:`~lynx_pipeline.domain.tables`. The eval set's own parser reads every line that is written, and
the file appears only when it is complete.
"""

import csv
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, Protocol

from lynx_pipeline.adapters.files import writing_atomic
from lynx_pipeline.domain.eval_set import parse_item
from lynx_pipeline.domain.file_kinds import ARCHIVES, PARQUET, new_name, quoted, recognise
from lynx_pipeline.domain.repeats import Keys
from lynx_pipeline.domain.scorers import Scorer
from lynx_pipeline.domain.strict_json import LONGEST
from lynx_pipeline.domain.tables import Columns
from lynx_pipeline.errors import BadInput, LynxError, SystemFailed
from lynx_pipeline.evaluation.storage.parquet import one_line

if TYPE_CHECKING:
    import pyarrow as pa

Progress = Callable[[int, int], None]
Cells = Sequence[str | None]

_MARK = b"\xef\xbb\xbf"  # Excel writes a byte-order mark before a CSV file in UTF-8
_DELIMITERS = (",", "\t", ";")
_BATCH = 4096  # rows
_SHOWN_DUPLICATES = 3


class Imported(NamedTuple):
    """What was written: the number of items, their buckets, and the columns that were not used."""

    items: int
    buckets: frozenset[str]
    unused: tuple[str, ...]


class _Table(Protocol):
    """A file of rows. ``unit`` is what the numbers of its rows count."""

    header: list[str]
    unit: str

    def rows(self, progress: Progress) -> Iterator[tuple[Cells, int]]:
        """The cells of every row in the order of the columns that are used, and its number."""


def import_table(
    file: Path, columns: Columns, output: Path, scorer: Scorer, progress: Progress
) -> Imported:
    """Write the rows of ``file`` to ``output`` as JSON lines. ``progress`` gets the bytes that
    were read, and their total.

    Raises:
        BadInput: the file is not a table with these columns, or a row is not an item. Nothing is
            written.
        SystemFailed: the disk failed.
    """
    table = _open(file, columns)
    columns.check(table.header, str(file))
    ids, buckets = Keys(), set[str]()
    items = 0
    with writing_atomic(output) as written:
        for cells, number in table.rows(progress):
            here = f"{file}, {table.unit} {number}"
            item_id, line = columns.line(cells, here)
            buckets.update(parse_item(line, here, scorer).buckets)
            ids.add(item_id)
            written.write(line)
            items += 1
        if not items:
            raise BadInput(f"{file}: the table has no rows.")
        if ids.repeated().extra:
            raise BadInput(f"{file}: {_duplicates(table, columns, ids)}")
    unused = tuple(name for name in table.header if name not in columns.all)
    return Imported(items, frozenset(buckets), unused)


def _duplicates(table: _Table, columns: Columns, ids: Keys) -> str:
    """Describe the duplicate ids, after reading the table once more."""
    repeated = ids.repeated()
    all_ids = (
        (columns.line(cells, "")[0], number) for cells, number in table.rows(lambda *_: None)
    )
    places = "; ".join(
        f"{table.unit}s {', '.join(map(str, rows))}" + (f" ({key!r:.80})" if columns.id else "")
        for key, rows in repeated.rows(all_ids, _SHOWN_DUPLICATES).items()
    )
    if columns.id:
        return f"{repeated.extra} rows have an id of an earlier row: {places}. Ids must be unique."
    return (
        f"{repeated.extra} rows are equal to an earlier row in all columns that are imported: "
        f"{places}. Remove them, or name a column of ids with --id to count them as several items."
    )


def _open(file: Path, columns: Columns) -> _Table:
    with file.open("rb") as opened:
        head = opened.read(4096)
        size = opened.seek(0, 2)
    kind = recognise(head)
    if kind is not None and kind.what == PARQUET:
        return _Parquet(file, columns, size)
    if kind is not None and not head.startswith(_MARK):
        advice = kind.advice(str(file)) or "Export it as CSV in UTF-8."
        advice = "Unpack it." if kind.what in ARCHIVES else advice
        raise BadInput(
            f"{file}: expected CSV or TSV in UTF-8, or Parquet, but this is {kind.what}. {advice}"
        )
    return _Csv(file, columns, size)


class _Csv:
    """CSV as in RFC 4180, in UTF-8. The delimiter is the one with which the header has the
    columns."""

    unit = "line"

    def __init__(self, file: Path, columns: Columns, size: int) -> None:
        self._file, self._size = file, size
        self._columns = columns
        csv.field_size_limit(LONGEST)
        headers: dict[str, list[str]] = {}
        problems: list[BadInput] = []
        for delimiter in _DELIMITERS:
            try:
                headers[delimiter] = self._header(delimiter)
            except BadInput as error:  # with this delimiter
                problems.append(error)
        if not headers:
            raise problems[0]
        # The most columns, if none has the right ones: the error lists them.
        self._delimiter = max(
            headers,
            key=lambda it: (set(columns.all) <= set(headers[it]), len(headers[it])),
        )
        self.header = headers[self._delimiter]

    def _header(self, delimiter: str) -> list[str]:
        for row, _ in self._read(delimiter, lambda *_: None):
            return row
        raise BadInput(f"{self._file}: the table is empty. Its first line must name the columns.")

    def rows(self, progress: Progress) -> Iterator[tuple[Cells, int]]:
        """See :class:`_Table`."""
        chosen = [self.header.index(name) for name in self._columns.all]
        rows = self._read(self._delimiter, progress)
        next(rows)
        for row, number in rows:
            if len(row) != len(self.header):
                raise BadInput(
                    f"{self._file}, line {number}: the row has {len(row)} cells, expected "
                    f"{len(self.header)} as in the header. Quote cells that contain "
                    f"{self._delimiter!r} or line breaks."
                )
            yield [row[index] for index in chosen], number

    def _read(self, delimiter: str, progress: Progress) -> Iterator[tuple[list[str], int]]:
        """The rows that are not blank lines, each with the number of its first line."""
        with self._file.open("rb") as file:
            lines = self._lines(file, progress)
            reader = csv.reader(lines, delimiter=delimiter, strict=True)
            first = 1
            while True:
                try:
                    row = next(reader)
                except StopIteration:
                    return
                except csv.Error as error:
                    # Its advice for a lone carriage return is for programmers.
                    text = str(error).partition(" - do you need")[0]
                    raise BadInput(
                        f"{self._file}, line {first}: not CSV: {text}. Check the quotes and line "
                        "ends of this row."
                    ) from None
                if row:
                    yield row, first
                first = reader.line_num + 1

    def _lines(self, file: BinaryIO, progress: Progress) -> Iterator[str]:
        done = 0
        for number in count(1):
            try:
                raw = file.readline(LONGEST + 1)
            except OSError as error:
                raise SystemFailed(f"{self._file} can't be read: {error.strerror}.") from None
            here = f"{self._file}, line {number}"
            if len(raw) > LONGEST:
                raise BadInput(f"{here}: more than {LONGEST} bytes. Check the file's line ends.")
            done += len(raw)
            if not raw or number % _BATCH == 0:
                progress(done, self._size)
            if not raw:
                return
            try:
                yield raw.removeprefix(_MARK).decode() if number == 1 else raw.decode()
            except UnicodeDecodeError as error:
                path = str(self._file)
                raise BadInput(
                    f"{here}: byte {error.start + 1} of the line is not UTF-8. Export the table as "
                    "UTF-8, or convert it from the encoding it is in, for example: "
                    f"iconv -f WINDOWS-1252 -t UTF-8 {quoted(path)} > {new_name(path)}"
                ) from None


class _Parquet:
    """Parquet with columns of text or integers. Integers become their decimal digits; all other
    types could be written in more than one way."""

    unit = "row"

    def __init__(self, file: Path, columns: Columns, size: int) -> None:
        self._file, self._size = file, size
        self._columns = columns
        with self._opened() as opened:
            schema = opened.schema_arrow
        self.header = list(schema.names)
        columns.check(self.header, str(file))
        for name in columns.all:
            _check_type(file, name, schema.field(name).type)

    def rows(self, progress: Progress) -> Iterator[tuple[Cells, int]]:
        """See :class:`_Table`."""
        import pyarrow as pa

        done = 0
        names = list(self._columns.all)
        with self._opened() as opened:
            total = max(1, opened.metadata.num_rows)
            try:
                for batch in opened.iter_batches(_BATCH, columns=names):
                    cells = [
                        [None if it is None else str(it) for it in batch.column(name).to_pylist()]
                        for name in names
                    ]
                    for number, row in enumerate(zip(*cells, strict=True), start=done + 1):
                        yield row, number
                    done += batch.num_rows
                    progress(self._size * done // total, self._size)
            except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
                raise self._unreadable(error) from None

    def _opened(self) -> "pa.parquet.ParquetFile":
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            return pq.ParquetFile(self._file)
        except (pa.ArrowException, OSError) as error:
            raise self._unreadable(error) from None

    def _unreadable(self, error: Exception) -> LynxError:
        text = f"{self._file}: the Parquet file can't be read: {one_line(error)}. Write "
        text += "the file again, or export it as CSV."
        # Arrow raises OSErrors without a number for damaged files.
        failed = isinstance(error, OSError) and error.errno is not None
        return SystemFailed(text) if failed else BadInput(text)


def _check_type(file: Path, name: str, found: "pa.DataType") -> None:
    from pyarrow import types

    kind = found.value_type if types.is_dictionary(found) else found
    is_text = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    if not (is_text or types.is_integer(kind)):
        raise BadInput(
            f"{file}: the column {name!r} has the type {found}, expected text or integers. Convert "
            "the column to text, in the form in which it is to be compared and shown."
        )
