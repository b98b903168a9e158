"""The answers of a candidate so far, so that a killed evaluation can resume.

One JSON object per line: first the key, which identifies the candidate and the eval set, then a
line for each answered batch. A line is valid once its newline is written; anything after the last
valid line is dropped. Lines are synced about once a second: a killed process loses nothing
that was written, a power cut at most the last second.
"""

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from lynx_pipeline.errors import SystemFailed
from lynx_pipeline.sandbox.engine import Answered

SYNC_SECONDS = 1.0


class Journal:
    """The answers to the items from 0 to ``size`` - 1, stored at ``path``. A journal with another
    ``key`` is overwritten. Use it in a ``with`` block.

    Raises:
        SystemFailed: another process is using it, or the disk failed.
    """

    def __init__(self, path: Path, key: Mapping[str, Any], size: int) -> None:
        self.path = path
        self.answered = bytearray(size)
        self.done = 0
        self._synced = time.monotonic()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a+b", buffering=0)
        except OSError as error:
            raise SystemFailed(f"{path} can't be opened: {error.strerror}.") from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._recover((json.dumps({"of": key}, sort_keys=True) + "\n").encode())
        except OSError as error:
            self._file.close()
            raise SystemFailed(
                f"{path}: another process is evaluating into it, or the disk failed: "
                f"{error.strerror}."
            ) from None

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        if self.done == 0:
            self.remove()
        self._file.close()

    def add(self, batch: Answered) -> None:
        """Append an answered batch.

        Raises:
            SystemFailed: the disk failed; running it again resumes after the last whole batch.
        """
        try:
            self._write((json.dumps(batch._asdict()) + "\n").encode())
            if time.monotonic() - self._synced > SYNC_SECONDS:
                os.fdatasync(self._file.fileno())
                self._synced = time.monotonic()
        except OSError as error:
            raise SystemFailed(f"{self.path} can't be written: {error.strerror}.") from None
        self._count(batch)

    def __iter__(self) -> Iterator[Answered]:
        """The answered batches, in the order they were added."""
        with self.path.open("rb") as file:
            next(file)
            for line in file:
                yield _read(line)

    def remove(self) -> None:
        """Delete it: the answers are stored elsewhere now."""
        self.path.unlink(missing_ok=True)

    def _recover(self, header: bytes) -> None:
        """Count the whole batches and cut off the rest; with another header, cut off everything."""
        valid_bytes = 0
        with self.path.open("rb") as file:
            if file.readline() == header:
                valid_bytes = len(header)
                for line in file:
                    try:
                        self._count(_read(line))
                    except (ValueError, TypeError, IndexError):
                        break
                    valid_bytes += len(line)
        self._file.truncate(valid_bytes)
        if valid_bytes == 0:
            self._write(header)

    def _count(self, batch: Answered) -> None:
        for row in batch.rows:
            self.answered[row] = 1
        self.done += len(batch.rows)

    def _write(self, line: bytes) -> None:
        end = self._file.seek(0, os.SEEK_END)
        try:
            if self._file.write(line) != len(line):
                raise OSError(None, "the disk took only part of a line")
        except OSError:
            with suppress(OSError):
                self._file.truncate(end)
            raise


def _read(line: bytes) -> Answered:
    values = json.loads(line)
    if not line.endswith(b"\n") or not isinstance(values, dict):
        raise ValueError("not a whole line")
    batch = Answered(**values)
    if len(batch.rows) != len(batch.answers) or min(batch.rows) < 0:
        raise ValueError("rows and answers do not match")
    return batch
