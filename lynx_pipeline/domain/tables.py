"""Rows of a table as items of an eval set.

The rules, for every table format:

- A cell is text and becomes exactly that text. Nothing is trimmed, normalised or guessed.
- The prompt, the expected answer, the id and every bucket need a value. An empty cell of an
  accepted answer means that there is none.
- A bucket's dimension is its column's name.
- Without a column of ids, an item's id is made from its content, so it stays the same if rows are
  added or reordered, and two equal rows can't both be imported.

Leaves to ``evaluation``: reading files, and finding duplicate ids.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from lynx_pipeline.domain.eval_set import bucket_name
from lynx_pipeline.errors import BadInput, some_of

_ID_DIGITS = 16
_ENCODER = json.JSONEncoder(ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Columns:
    """The names of the columns that make an item. ``id`` is None if ids are made from content."""

    prompt: str
    expected: str
    buckets: tuple[str, ...]
    accept: tuple[str, ...] = ()
    id: str | None = None

    def __post_init__(self) -> None:
        """Check what is wrong whatever the table contains.

        Raises:
            BadInput: a column is used twice, or its name can't be a dimension.
        """
        for name in self.all:
            if self.all.count(name) > 1:
                raise BadInput(f"the column {name!r} is given twice. Give each column once.")
        for name in self.buckets:
            where = f"the column {name!r} can't be a dimension"
            if "." in name:
                raise BadInput(f"{where}: its name contains a dot. Rename the column.")
            bucket_name(name, "value", where)

    @property
    def all(self) -> tuple[str, ...]:
        """All columns, in the order of a row's cells."""
        ids = () if self.id is None else (self.id,)
        return (self.prompt, self.expected, *self.accept, *ids, *self.buckets)

    def check(self, header: Sequence[str], where: str) -> None:
        """Check that each column is in the table once.

        Raises:
            BadInput: one is missing or duplicate.
        """
        for name in self.all:
            if header.count(name) != 1:
                problem = "several columns are called" if name in header else "there is no column"
                listed = some_of([repr(column)[:80] for column in header], 40)
                raise BadInput(f"{where}: {problem} {name!r}. The columns are {listed}.")

    def line(self, cells: Sequence[str | None], where: str) -> tuple[str, bytes]:
        """A row as an item: its id, and the line of JSON. ``cells`` are those of :attr:`all`; None
        is null.

        Raises:
            BadInput: a cell that needs a value has none.
        """
        values: list[str] = []
        first, last = 2, 2 + len(self.accept)
        for index, cell in enumerate(cells):
            if (cell is None or not cell.strip()) and not first <= index < last:
                found = "null" if cell is None else "empty"
                raise BadInput(
                    f"{where}: the column {self.all[index]!r} is {found}. Fill it in, or remove "
                    "the row."
                )
            values.append(cell or "")
        rest = values[last:]
        item_id = None if self.id is None else rest.pop(0)
        content = _ENCODER.encode(
            {
                "prompt": values[0],
                "expected": values[1],
                "accept": [text for text in values[first:last] if text.strip()],
                "buckets": dict(zip(self.buckets, rest, strict=True)),
            }
        )
        if item_id is None:
            item_id = hashlib.sha256(content.encode()).hexdigest()[:_ID_DIGITS]
        return item_id, f'{{"id": {_ENCODER.encode(item_id)}, {content[1:]}\n'.encode()
