"""The eval set: one JSON object a line, every item in one bucket per dimension.

Guarantees that ids and dimensions are consistent over the whole file, so that counting
needs no second thoughts. Whether the bytes are the versioned ones is the DVC adapter's job.
"""

import random
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lynx_pipeline.domain.scores import BUCKET_NAME
from lynx_pipeline.domain.strict_json import Fields, parse_object
from lynx_pipeline.errors import BadInput


@dataclass(frozen=True, slots=True)
class Item:
    """One question. ``answers`` are all right answers, the expected one first;
    ``buckets`` are full names such as ``tense.past_simple``."""

    id: str
    prompt: str
    answers: tuple[str, ...]
    buckets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EvalSet:
    """The items, and the identity of the bytes they came from: ``dvc_hash`` is DVC's (MD5)."""

    items: tuple[Item, ...]
    dvc_hash: str
    sha256: str

    def shuffled(self, seed: str) -> Iterator[tuple[int, str]]:
        """Every item's row (its place in the file, from 0) and prompt, in an order that only
        ``seed`` decides: a candidate must not guess answers from the order."""
        rows = list(range(len(self.items)))
        random.Random(seed).shuffle(rows)  # noqa: S311  # no secret
        for row in rows:
            yield row, self.items[row].prompt

    def bucket_sizes(self) -> dict[str, int]:
        """Items per bucket."""
        sizes: dict[str, int] = {}
        for item in self.items:
            for bucket in item.buckets:
                sizes[bucket] = sizes.get(bucket, 0) + 1
        return sizes


def parse_eval_set(raw: bytes, where: str) -> Iterator[Item]:
    """The items of a JSONL eval set, in file order.

    Raises:
        BadInput: a line is not an item, an id stands twice, dimensions differ between
            items, or there is no item at all.
    """
    dimensions: frozenset[str] | None = None
    seen: set[str] = set()
    for number, line in enumerate(raw.split(b"\n"), start=1):
        if not line.strip():
            continue
        here = f"{where}, line {number}"
        fields = Fields(parse_object(line, here), here)
        item = _read_item(fields)
        if item.id in seen:
            raise BadInput(f"{here}: the id {item.id!r} stands twice in this file.")
        seen.add(item.id)
        found = frozenset(fields.object("buckets"))
        if dimensions is None:
            dimensions = found
        elif found != dimensions:
            raise BadInput(
                f"{here}: has the bucket dimensions {', '.join(sorted(found))}; "
                f"the items before have {', '.join(sorted(dimensions))}."
            )
        yield item
    if not seen:
        raise BadInput(f"{where}: the eval set holds no items.")


def _read_item(fields: Fields) -> Item:
    fields.only(("id", "prompt", "expected", "accept", "buckets"))
    accept: Any = fields.values.get("accept", [])
    if not isinstance(accept, list) or not all(isinstance(a, str) and a.strip() for a in accept):
        fields.fail("accept", "a list of answers that are not empty", "something else")
    buckets = fields.object("buckets")
    names = []
    for dimension, value in buckets.items():
        name = f"{dimension}.{value}"
        if "." in dimension or not isinstance(value, str) or not BUCKET_NAME.fullmatch(name):
            fields.fail("buckets", "dimension names without a dot and text values", repr(name))
        names.append(name)
    answers = (fields.text("expected"), *accept)
    for answer in answers:
        if not normalise(answer):
            fields.fail("expected", "an answer that is not just punctuation", repr(answer))
    return Item(fields.text("id"), fields.text("prompt"), answers, tuple(names))


_APOSTROPHES = str.maketrans(dict.fromkeys("\u2019\u2018\u02bc\uff07", "'"))


def normalise(answer: str) -> str:
    """An answer as it is compared: NFC, case folded, apostrophes straight, spaces collapsed
    and trimmed, one final full stop dropped."""
    folded = unicodedata.normalize("NFC", answer).casefold()
    text = " ".join(unicodedata.normalize("NFC", folded).translate(_APOSTROPHES).split())
    return text[:-1].rstrip() if text.endswith(".") else text
