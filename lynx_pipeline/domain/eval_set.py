"""The eval set: one JSON object a line, every item in one bucket per dimension.

Guarantees that ids are unique and that all items have the same dimensions, so that every bucket can
be counted. Leaves to the DVC adapter: whether the bytes are the versioned ones.
"""

import json
import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from lynx_pipeline.domain.file_kinds import ARCHIVES, PARQUET, new_name, quoted, recognise
from lynx_pipeline.domain.scorers import EXACT, Scorer
from lynx_pipeline.domain.scores import NAME_RULE, name_problem
from lynx_pipeline.domain.strict_json import Fields, parse_object
from lynx_pipeline.errors import BadInput


@dataclass(frozen=True, slots=True)
class Item:
    """One question. ``answers`` are all right answers, the expected one first;
    ``buckets`` are full names such as ``tense.past_simple``.

    If the question has several ``inputs``, ``prompt`` is the text of a JSON object that has them,
    in the order of the names in ``inputs``."""

    id: str
    prompt: str
    answers: tuple[str, ...]
    buckets: tuple[str, ...]
    inputs: tuple[str, ...] = ()

    @property
    def dimensions(self) -> frozenset[str]:
        """The dimensions of its buckets."""
        return frozenset(name.partition(".")[0] for name in self.buckets)


class Questions(Protocol):
    """An eval set, in memory or on disk: its size, its buckets and its prompts."""

    @property
    def dvc_hash(self) -> str:
        """DVC's digest of the file (MD5)."""

    @property
    def sha256(self) -> str:
        """The SHA-256 of the file."""

    @property
    def scorer(self) -> Scorer:
        """The rule by which answers are right."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the inputs that all items have; none if they have a prompt."""

    def __len__(self) -> int:
        """The number of items."""

    def cells(self) -> Mapping[tuple[str, ...], int]:
        """The number of items for each combination of buckets that occurs."""

    def shuffled(self, seed: str) -> Iterator[tuple[int, str]]:
        """Every item's row (its position in the file, from 0) and prompt, in an order that depends
        only on ``seed``, so that a candidate can't guess answers from the file's order."""


@dataclass(frozen=True, slots=True)
class EvalSet:
    """An eval set held in memory: :class:`Questions` with all their items."""

    items: tuple[Item, ...]
    dvc_hash: str
    sha256: str
    scorer: Scorer = EXACT

    @property
    def inputs(self) -> tuple[str, ...]:
        """See :class:`Questions`."""
        return self.items[0].inputs

    def __len__(self) -> int:
        return len(self.items)

    def cells(self) -> dict[tuple[str, ...], int]:
        """See :class:`Questions`."""
        cells: dict[tuple[str, ...], int] = {}
        for item in self.items:
            cells[item.buckets] = cells.get(item.buckets, 0) + 1
        return cells

    def shuffled(self, seed: str) -> Iterator[tuple[int, str]]:
        """See :class:`Questions`."""
        rows = list(range(len(self.items)))
        random.Random(seed).shuffle(rows)  # noqa: S311  # not a secret
        for row in rows:
            yield row, self.items[row].prompt


def bucket_sizes(eval_set: Questions) -> dict[str, int]:
    """The number of items in each bucket."""
    return sum_by_bucket(eval_set.cells())


def sum_by_bucket(cells: Mapping[tuple[str, ...], int]) -> dict[str, int]:
    """Counts per cell (combination of buckets), added up for each bucket."""
    sums: dict[str, int] = {}
    for buckets, count in cells.items():
        for bucket in buckets:
            sums[bucket] = sums.get(bucket, 0) + count
    return sums


def bucket_name(dimension: str, value: Any, where: str) -> str:
    """The name of the bucket that an item is in.

    Raises:
        BadInput: ``value`` is not text, or the name breaks :data:`.scores.NAME_RULE`.
    """
    name = f"{dimension}.{value}"
    problem = name_problem(name)
    if "." in dimension:
        problem = "its dimension contains a dot"
    if not isinstance(value, str):
        problem = "its value is not text"
    if problem:
        raise BadInput(f"{where}: 'buckets': the bucket {name!r:.80}: {problem}. {NAME_RULE}.")
    return name


def parse_eval_set(
    lines: Iterable[bytes], where: str, scorer: Scorer = EXACT, *, check_ids: bool = True
) -> Iterator[Item]:
    """The items of a JSONL eval set, in file order. ``check_ids`` keeps all ids in memory; without
    it the caller must check for duplicates.

    Raises:
        BadInput: a line is not an item, ``scorer`` could never match an expected answer, an id
            is a duplicate, dimensions or inputs differ between items, or there are no items.
    """
    dimensions: frozenset[str] | None = None
    inputs: tuple[str, ...] | None = None
    ids: set[str] = set()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        if dimensions is None:
            check_kind(line, where)
        here = f"{where}, line {number}"
        item = parse_item(line, here, scorer, inputs)
        inputs = item.inputs
        found = item.dimensions
        if dimensions is None:
            dimensions = found
        elif found != dimensions:
            raise BadInput(
                f"{here}: has the bucket dimensions {', '.join(sorted(found))}; "
                f"earlier items have {', '.join(sorted(dimensions))}."
            )
        if item.id in ids:
            raise BadInput(f"{here}: duplicate id {item.id!r} in this file.")
        if check_ids:
            ids.add(item.id)
        yield item
    if dimensions is None:
        raise BadInput(f"{where}: the eval set contains no items.")


def parse_item(
    line: bytes, where: str, scorer: Scorer, inputs: tuple[str, ...] | None = None
) -> Item:
    """The item in one line. ``inputs`` are those of the items before, None if this is the first.

    Raises:
        BadInput: the line is not an item, ``scorer`` could never match an expected answer, or it
            has other inputs.
    """
    return _read_item(Fields(parse_object(line, where), where), scorer, inputs)


def check_kind(first: bytes, file: str, table: str = "") -> None:
    """Check that ``file``, whose first line is ``first``, may be JSON lines. ``table`` says what to
    do with a table that can't be imported as an eval set.

    Raises:
        BadInput: it is another kind of file. The message says how to convert it, with a command
            that can be pasted.
    """
    expected = f"{file}: expected JSON lines in UTF-8, one object per line, but this is"
    table = table or (
        f"Convert it: lynx-pipeline eval-set import {quoted(file)} --prompt COLUMN --expected "
        f"COLUMN --bucket COLUMN --output {new_name(file, '.jsonl')}"
    )
    if kind := recognise(first):
        advice = kind.advice(file) or "Export it as CSV or JSON lines."
        if kind.what == PARQUET:
            advice = table
        elif kind.what in ARCHIVES:
            advice = "Unpack it."
        raise BadInput(f"{expected} {kind.what}. {advice}")
    start = first.strip()
    new = f"{quoted(file)} > {new_name(file)}"
    if start.startswith(b"["):
        raise BadInput(f"{expected} a JSON array. Convert it: jq -c '.[]' {new}")
    if start == b"{":
        raise BadInput(
            f"{expected} JSON with an object over several lines. Convert it: jq -c . {new}"
        )
    if not start.startswith(b"{") and any(mark in start for mark in (b",", b";", b"\t")):
        raise BadInput(f"{expected} probably a CSV file. {table}")


def _read_item(fields: Fields, scorer: Scorer, inputs: tuple[str, ...] | None) -> Item:
    fields.refuse_unknown(("id", "prompt", "inputs", "expected", "accept", "buckets"))
    accept: Any = fields.values.get("accept", [])
    if not isinstance(accept, list) or not all(isinstance(a, str) and a.strip() for a in accept):
        fields.fail("accept", "a list of answers that are not empty", "something else")
    buckets = fields.object("buckets")
    names = []
    for dimension, value in buckets.items():
        names.append(bucket_name(dimension, value, fields.where))
    answers = (fields.text("expected"), *accept)
    for answer in answers:
        if scorer.form(answer) is None:
            fields.fail("expected", scorer.expects, repr(answer)[:80])
    prompt, inputs = read_question(fields, inputs)
    return Item(fields.text("id"), prompt, answers, tuple(names), inputs)


def read_question(
    fields: Fields, expected: tuple[str, ...] | None, others: str = "earlier items have"
) -> tuple[str, tuple[str, ...]]:
    """An item's prompt and the names of its inputs. ``expected`` are the names that ``others``.

    Raises:
        BadInput: it has neither a prompt nor inputs, or other inputs than expected.
    """
    names: tuple[str, ...] = ()
    if "inputs" not in fields.values:
        prompt = fields.text("prompt")
    else:
        values = fields.object("inputs")
        if "prompt" in fields.values:
            fields.fail("inputs", "either this or 'prompt'", "both")
        if not all(isinstance(value, str) for value in values.values()) or not all(
            name.strip() and name.isprintable() for name in values
        ):
            fields.fail("inputs", "names with texts", "something else")
        if not any(value.strip() for value in values.values()):
            fields.fail("inputs", "a text that is not empty", "only empty ones")
        names = tuple(values) if expected is None or set(expected) != set(values) else expected
        prompt = json.dumps({name: values[name] for name in names}, ensure_ascii=False)
    if expected not in (None, names):
        raise BadInput(
            f"{fields.where}: this item has {_inputs(names)}; {others} {_inputs(expected or ())}."
        )
    return prompt, names


def _inputs(names: tuple[str, ...]) -> str:
    return f"the inputs {', '.join(sorted(names))}" if names else "a prompt"
