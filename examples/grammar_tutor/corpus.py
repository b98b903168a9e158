"""Writes the eval set and the training corpus as JSON lines.

Guarantees the same bytes on every run and machine (no clock, no randomness, no hash order): one
compact ASCII object per line, with keys in a fixed order.
Leaves to others: the content of the rows (``sentences``, ``lessons``) and versioning the files
(DVC).
"""

import argparse
import json
from collections.abc import Iterable
from pathlib import Path

from examples.grammar_tutor.frames import Row
from examples.grammar_tutor.lessons import lesson_rows
from examples.grammar_tutor.sentences import eval_rows

EVAL_FILE = Path("eval/phase-20.jsonl")
TRAIN_FILE = Path("processed/train.jsonl")


def encode(rows: Iterable[Row]) -> bytes:
    """The rows as JSON lines."""
    lines = []
    for row in rows:
        fields: dict[str, object] = {"id": row.id, "prompt": row.prompt, "expected": row.expected}
        if row.accept:
            fields["accept"] = row.accept
        fields["buckets"] = {"tense": row.tense, "person": row.person, "verb": row.verb}
        lines.append(json.dumps(fields, separators=(",", ":")) + "\n")
    return "".join(lines).encode("ascii")


def write_corpus(data: Path) -> tuple[Path, Path]:
    """Write both files below ``data`` and return their paths, eval set first."""
    written = data / EVAL_FILE, data / TRAIN_FILE
    for path, rows in zip(written, (eval_rows(), lesson_rows()), strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(rows))
    return written


def main(arguments: list[str] | None = None) -> None:
    """``python -m examples.grammar_tutor.corpus --out data``"""
    parser = argparse.ArgumentParser(description="Write the eval set and the training corpus.")
    parser.add_argument("--out", type=Path, default=Path("data"), help="the data folder")
    for path in write_corpus(parser.parse_args(arguments).out):
        print(path)


if __name__ == "__main__":
    main()
