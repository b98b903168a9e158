"""How much a predictions file unpacks to, read from it without unpacking anything.

A small Parquet file can expand to gigabytes, and the sizes in its metadata are mere claims. Readers
allocate what the header in front of each page says, so those headers are read here, and all pages
together must stay below a limit. Only what :mod:`.parquet` and :mod:`.large` write is allowed: two
flat columns, in pages that are plain or have a dictionary. Other encodings expand further when they
are decoded. So can a dictionary: whoever decodes it has to count again.
"""

import io
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from lynx_pipeline.errors import BadInput

COLUMNS = ["id", "prediction"]
_FOOTER = 1 << 20  # bytes; one of ours has about 1 KiB for each 65,536 rows
_BYTES = 32 << 20
_BYTES_PER_ROW = 1 << 10
# The format's codes (parquet.thrift), for types of pages and for encodings.
_DATA, _DICTIONARY = 0, 2
_ENCODINGS = (0, 2, 8)  # plain, and the two names of a dictionary


def most_bytes(rows: int) -> int:
    """The limit on the predictions of ``rows`` items, as a file and unpacked."""
    return _BYTES + _BYTES_PER_ROW * rows


def check_pages(raw: bytes, where: str, rows: int) -> Any:
    """The metadata of the predictions file ``raw``, which can be read within the limits for
    ``rows`` items. ``where`` is for error messages.

    Raises:
        BadInput: it is not a predictions file, or is beyond a limit.
        ArrowException, OSError: pyarrow can't read its metadata.
    """
    import pyarrow.parquet as pq

    if len(raw) > most_bytes(rows):
        raise too_large(where, f"it has {len(raw)} bytes", rows)
    footer = int.from_bytes(raw[-8:-4], "little")
    if footer > _FOOTER:
        raise _invalid(where, f"its metadata has {footer} bytes, expected at most {_FOOTER}")
    metadata = pq.read_metadata(io.BytesIO(raw))
    columns = [metadata.schema.column(k) for k in range(min(metadata.num_columns, 3))]
    # Of another type than text, pyarrow would expand a dictionary at once.
    types = [(it.path, it.physical_type, it.logical_type.type) for it in columns]
    if types != [(name, "BYTE_ARRAY", "STRING") for name in COLUMNS]:
        raise _invalid(where, f"expected two columns of text, {' and '.join(COLUMNS)}")
    groups = [metadata.row_group(k) for k in range(metadata.num_row_groups)]
    found = max(metadata.num_rows, sum(group.num_rows for group in groups))
    if found > rows:
        raise too_large(where, f"it has {found} rows", rows)
    if not all(group.num_rows for group in groups):  # a reader may look at its pages all the same
        raise BadInput(
            f"{where}: not the predictions of this eval set: it has a row group without rows. "
            "Evaluate the candidate again."
        )
    chunks = _chunks(raw, _footer_at(raw), where)
    if [len(columns) for columns in chunks] != [len(COLUMNS)] * len(groups):
        raise _invalid(where, "its row groups don't have two columns each")
    size = sum(
        _unpacked(raw, chunk, where, group.num_rows)
        for group, columns in zip(groups, chunks, strict=True)
        for chunk in columns
    )
    if size > most_bytes(rows):
        raise too_large(where, f"it unpacks to {size} bytes", rows)
    return metadata


def same_ids(raw: bytes, file: Path) -> bool:
    """Whether the ids in ``raw``, which :func:`check_pages` accepts, are stored in the same bytes
    as those in ``file``, which this package wrote. Then they are equal, and need not be unpacked to
    compare them. Another version may store equal ids in other bytes.

    Raises:
        ArrowException, OSError: ``file`` can't be read.
    """
    import pyarrow.parquet as pq

    one, other = (pq.read_metadata(source).schema.column(0) for source in (file, io.BytesIO(raw)))
    if not one.equals(other):
        return False
    with file.open("rb") as items, suppress(BadInput):
        size = items.seek(-8, os.SEEK_END)
        items.seek(size - int.from_bytes(items.read(4), "little"))
        expected = [columns[0] for columns in _chunks(items.read(), 0, str(file))]
        found = [columns[0] for columns in _chunks(raw, _footer_at(raw), "")]
        if [(it.length, it.codec) for it in found] != [(it.length, it.codec) for it in expected]:
            return False
        for ours, theirs in zip(expected, found, strict=True):
            items.seek(ours.start)
            if items.read(ours.length) != raw[theirs.start : theirs.start + theirs.length]:
                return False
        return True
    return False  # a version wrote it whose metadata is not read here


def too_large(where: str, found: str, rows: int) -> BadInput:
    """The error for a file that is beyond the limits for ``rows`` items."""
    return BadInput(
        f"{where}: not the predictions of this eval set: {found}, expected at most {rows} rows "
        f"and {most_bytes(rows)} bytes. Evaluate the candidate again."
    )


def _invalid(where: str, reason: str) -> BadInput:
    return BadInput(f"{where}: not a predictions file: {reason}. Evaluate the candidate again.")


def _footer_at(raw: bytes) -> int:
    """The offset of a file's metadata."""
    return len(raw) - 8 - int.from_bytes(raw[-8:-4], "little")


class _Chunk(NamedTuple):
    """Where one column's pages are, in one row group, and the format's code of their codec."""

    data: int
    dictionary: int | None
    length: int
    codec: Any

    @property
    def start(self) -> int:
        """Where the first page is."""
        return self.data if self.dictionary is None else self.dictionary


def _chunks(raw: bytes, at: int, where: str) -> list[list[_Chunk]]:
    """The chunks of each row group, from the metadata at this offset. pyarrow's own object for a
    chunk ends the process if its metadata is damaged."""
    try:
        groups = _struct(raw, at)[0].get(4, [])
        metas = [[column[3] for column in group[1]] for group in groups]
        return [[_chunk(meta) for meta in columns] for columns in metas]
    except (IndexError, KeyError, TypeError, AttributeError, RecursionError):
        raise _invalid(where, "its metadata is damaged") from None


def _chunk(meta: dict[int, Any]) -> _Chunk:
    dictionary = _wide(meta[11]) if 11 in meta else None
    return _Chunk(_wide(meta[9]), dictionary, _wide(meta[7]), meta.get(4))


def _wide(value: Any) -> int:
    """A 64-bit number. A reader skips the field if it has any other type."""
    if not isinstance(value, tuple):
        raise TypeError
    return int(value[0])


def _unpacked(raw: bytes, chunk: _Chunk, where: str, rows: int) -> int:
    """The bytes that one column's pages unpack to, in a row group of ``rows``. Readers differ in
    where they stop, so the pages must fill the chunk and have all rows."""
    at = chunk.data
    if chunk.dictionary is not None:
        if not 0 < chunk.dictionary < at:
            raise _invalid(where, "its dictionary is not in front of its data")
        at = chunk.dictionary
    end, size, found = at + chunk.length, 0, 0
    while 0 < at < end:
        try:
            page, at = _page(raw, at)
        except (IndexError, RecursionError):
            raise _invalid(where, "a page's header is damaged") from None
        if page.type not in (_DATA, _DICTIONARY) or page.encoding not in _ENCODINGS:
            raise _invalid(
                where,
                f"it has a page of the type {page.type} and the encoding {page.encoding}, which "
                "an evaluation does not write",
            )
        if min(page.unpacked, page.packed, page.values) < 0 or page.values > rows:
            raise _invalid(
                where,
                f"a page of {page.values} rows has {page.packed} bytes and unpacks to "
                f"{page.unpacked}, in a group of {rows} rows",
            )
        at += page.packed
        size += page.unpacked
        found += page.values if page.type == _DATA else 0
    if (at, found) != (end, rows):
        raise _invalid(where, f"its pages have {found} rows, expected {rows}, or are cut")
    return size


class _Page(NamedTuple):
    """A page's header. Sizes in bytes; ``values`` are the rows, or the dictionary's entries."""

    type: int
    unpacked: int
    packed: int
    values: int
    encoding: int


def _page(raw: bytes, at: int) -> tuple[_Page, int]:
    """The header at this offset, and the offset behind it. A missing field is -1."""
    header, at = _struct(raw, at)
    kind, unpacked, packed = (_number(header.get(field)) for field in (1, 2, 3))
    own = header.get(7 if kind == _DICTIONARY else 5)
    values, encoding = (_number(own.get(k)) if isinstance(own, dict) else -1 for k in (1, 2))
    return _Page(kind, unpacked, packed, values, encoding), at


def _number(value: Any) -> int:
    """A 32-bit number. A larger one would be cut by the reader that allocates the memory."""
    return value if isinstance(value, int) and 0 <= value < 1 << 31 else -1


# ----- Thrift's compact protocol: only what a file of ours contains ---------------------------


def _struct(raw: bytes, at: int) -> tuple[dict[int, Any], int]:
    """The fields by number, texts and 16-bit numbers skipped, 64-bit numbers in tuples. To be sure
    that a reader sees the same ones, a field may be given once."""
    fields: dict[int, Any] = {}
    number = 0
    while head := raw[at]:
        at += 1
        if head >> 4:
            number += head >> 4
        else:
            number, at = _zigzag(raw, at)
        if number in fields or not 0 < number < 1 << 15:
            raise IndexError
        fields[number], at = _value(raw, at, head & 15)
    return fields, at + 1


def _value(raw: bytes, at: int, kind: int) -> tuple[Any, int]:
    if kind in (1, 2):  # true and false have no bytes
        return None, at
    if kind == 5:
        return _zigzag(raw, at)
    if kind in (4, 6):  # 16 bits, of no use here, and 64 bits
        number, at = _zigzag(raw, at)
        return (number,) if kind == 6 else None, at
    if kind == 9:
        return _list(raw, at)
    if kind == 8:
        length, at = _varint(raw, at)
        return None, at + length
    if kind == 12:
        return _struct(raw, at)
    raise IndexError  # not in a file of ours


def _list(raw: bytes, at: int) -> tuple[list[Any], int]:
    head, at, values = raw[at], at + 1, list[Any]()
    count, at = (head >> 4, at) if head < 0xF0 else _varint(raw, at)
    if head & 15 in (1, 2):  # these would have a byte each
        raise IndexError
    for _ in range(count):
        value, at = _value(raw, at, head & 15)
        values.append(value)
    return values, at


def _zigzag(raw: bytes, at: int) -> tuple[int, int]:
    value, at = _varint(raw, at)
    return (value >> 1) ^ -(value & 1), at


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = raw[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise IndexError
