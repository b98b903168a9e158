"""The directory store: lets each of its system calls fail."""

import errno
import io
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

from lynx_pipeline_tests.simulators.faults.trial import (
    EVIDENCE,
    ChildResult,
    Table,
    check_recovery,
    forked,
    kill_self,
)
from lynx_pipeline_tests.support.builders import sha256
from lynx_pipeline_tests.support.places import InFolder, facts, promote

KILLED, HALFWAY, LAST_BYTE = "killed before", "killed halfway", "killed at the last byte"
SHORT = "short write"
_ROLES = {
    "lock": "lock",
    "index.jsonl": "index",
    "index.intoto": "signatures",
    "index.checkpoint": "checkpoint",
}
KILLS = (KILLED, HALFWAY, LAST_BYTE)
DISK_FAULTS = (*KILLS, "EIO", "ENOSPC", SHORT)


def parts_below(folder: Path, path: object) -> tuple[str, ...] | None:
    """The parts of ``path`` below ``folder``; None if it is elsewhere, or no path."""
    place = Path(os.fsdecode(path)) if isinstance(path, str | Path) else None
    if place is None or not place.is_relative_to(folder):
        return None
    return place.relative_to(folder).parts


def failpoints(trace: Iterable[str], fault: str) -> Iterator[tuple[int, str]]:
    """The calls of ``trace`` at which this fault can happen, each with its number."""
    for number, name in enumerate(trace, start=1):
        op = name.split()[0]
        if fault in (HALFWAY, LAST_BYTE, SHORT) and op != "write":
            continue
        if fault == "ENOSPC" and op == "read":
            continue
        yield number, name


@dataclass
class Disk:
    """Intercepts the system calls of the store under ``folder``, numbers and names them, and
    injects ``fault`` at the call numbered ``number``."""

    folder: Path
    number: int = 0
    fault: str = ""
    trace: list[str] = field(default_factory=list)
    handles: dict[int, str] = field(default_factory=dict)
    failed_syncs: set[str] = field(default_factory=set)

    def role(self, path: object) -> str | None:
        """The path's role in the store; None if it is outside the store."""
        parts = parts_below(self.folder.parent, path)
        if parts is None:
            return None
        inside = parts[1:]
        if not inside:
            return "folder"
        if inside[0] == "evidence":
            return "evidence" if len(inside) > 2 else "evidence folder"
        # A temporary file's name is a dot, the real one's and random digits.
        name = inside[0].removeprefix(".")
        return next(what for start, what in _ROLES.items() if name.startswith(start))

    def call(self, op: str, what: str, real: Callable[[], Any]) -> Any:
        """A call that either happens or fails."""
        self.trace.append(f"{op} {what}")
        if len(self.trace) != self.number:
            return real()
        if self.fault in KILLS:
            kill_self()
        if op == "close":  # a failed close releases the handle too
            real()
        code = getattr(errno, self.fault)
        raise OSError(code, os.strerror(code))

    def write(self, what: str, data: bytes, real: Callable[[bytes], int]) -> int:
        """A write, which can also happen in part."""
        if len(self.trace) + 1 != self.number or self.fault not in (HALFWAY, LAST_BYTE, SHORT):
            result: int = self.call("write", what, lambda: real(data))
            return result
        self.trace.append(f"write {what}")
        part = data[:-1] if self.fault == LAST_BYTE else data[: len(data) // 2]
        written = real(part)
        if self.fault != SHORT:
            kill_self()
        return written

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Intercept the store's calls."""
        disk = self

        class Raw(io.FileIO):
            """A file that Python's own buffering writes to."""

            def __init__(self, path: Path, mode: str, what: str) -> None:
                self.what = what
                super().__init__(path, mode)
                disk.handles[self.fileno()] = what

            def write(self, data: Any, /) -> int:
                return disk.write(self.what, bytes(data), super().write)

            def close(self) -> None:
                if self.closed:
                    return
                handle = self.fileno()
                disk.call("close", self.what, super().close)
                disk.handles.pop(handle, None)

        def opened(path: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
            what = disk.role(path)
            if what is None:
                return real["io"](path, mode, *args, **kwargs)
            if mode == "xb":
                raw = disk.call("open", what, lambda: Raw(path, mode, what))
                return io.BufferedWriter(raw)
            return disk.call("read", what, lambda: real["io"](path, mode, *args, **kwargs))

        def os_open(path: Any, *args: Any, **kwargs: Any) -> int:
            what = disk.role(path)
            if what is None:
                return int(real["open"](path, *args, **kwargs))
            handle: int = disk.call("open", what, lambda: real["open"](path, *args, **kwargs))
            disk.handles[handle] = what
            return handle

        def os_close(handle: int) -> None:
            what = disk.handles.pop(handle, None)
            if what is None:
                real["close"](handle)
            else:
                disk.call("close", what, lambda: real["close"](handle))

        def fsync(handle: int) -> None:
            what = disk.handles[handle]
            assert what not in disk.failed_syncs, f"{what} was synced again after a failed sync"
            failing = len(disk.trace) + 1 == disk.number
            if failing:
                disk.failed_syncs.add(what)
            disk.call("sync", what, lambda: real["fsync"](handle))

        def named(op: str, name: str, target: int) -> Callable[..., Any]:
            def wrapper(*args: Any, **kwargs: Any) -> Any:
                what = disk.role(args[target])
                if what is None:
                    return real[name](*args, **kwargs)
                return disk.call(op, what, lambda: real[name](*args, **kwargs))

            return wrapper

        def pwrite(handle: int, data: bytes, offset: int) -> int:
            what = disk.handles[handle]
            return disk.write(what, data, lambda part: real["pwrite"](handle, part, offset))

        def ftruncate(handle: int, size: int) -> None:
            if handle not in disk.handles:
                real["ftruncate"](handle, size)
                return
            what = disk.handles[handle]
            disk.call("truncate", what, lambda: real["ftruncate"](handle, size))

        ours: dict[str, Callable[..., Any]] = {
            "open": os_open,
            "close": os_close,
            "fsync": fsync,
            "pwrite": pwrite,
            "ftruncate": ftruncate,
            "mkdir": named("mkdir", "mkdir", 0),
            "replace": named("rename", "replace", 1),
        }
        real: dict[str, Callable[..., Any]] = {name: getattr(os, name) for name in ours}
        real["io"] = io.open
        with ExitStack() as stack:
            stack.enter_context(patch.object(io, "open", opened))
            for name, function in ours.items():
                stack.enter_context(patch.object(os, name, function))
            yield


def empty(place: InFolder) -> None:
    """No folder yet."""


def one(place: InFolder) -> None:
    """One entry."""
    promote(place.store, 1)


def several(place: InFolder) -> None:
    """Three entries; one piece of evidence is intact, the other is damaged."""
    for number in (1, 2, 3):
        promote(place.store, number, EVIDENCE)
    sha = sha256(EVIDENCE[1])
    (place.folder / "evidence" / sha[:2] / sha).write_bytes(b"damaged")


def torn(place: InFolder) -> None:
    """Two entries and a torn third one that is longer than the next line."""
    promote(place.store, 1)
    promote(place.store, 2)
    with place.store.file.open("ab") as file:
        file.write(b'{"actor":' + b"x" * 2000)


def only_torn(place: InFolder) -> None:
    """A first entry that was never committed."""
    place.folder.mkdir()
    place.store.file.write_bytes(b'{"actor":')


def lagging(place: InFolder) -> None:
    """Two entries with the checkpoint of the first."""
    promote(place.store, 1)
    before = place.store.checkpoint_file.read_bytes()
    promote(place.store, 2)
    place.store.checkpoint_file.write_bytes(before)


def no_checkpoint(place: InFolder) -> None:
    """One entry whose checkpoint was never written."""
    promote(place.store, 1)
    place.store.checkpoint_file.unlink()


FOLDER_STATES = (empty, several, torn, lagging, one, only_torn, no_checkpoint)


def disk_fails(tmp: Path, fault: str) -> Table:
    """Inject ``fault`` at every system call of a promotion, from every state of a folder."""
    table: Table = {}
    for state in FOLDER_STATES[: 4 if fault == "ENOSPC" else None]:
        start = InFolder(tmp / state.__name__ / "start")
        start.folder.parent.mkdir(parents=True)
        state(start)
        old = facts(start.store)
        for number, name in failpoints(_calls(start, tmp), fault):
            result, place = _promote_on(
                start, Disk(tmp / f"{state.__name__}{number}", number, fault)
            )
            result.check_end(fault in KILLS, name)
            outcome = check_recovery(place, old)
            result.check_outcome(outcome)
            checkpoint = place.store.read().checkpoint()
            assert checkpoint
            assert place.store.checkpoint_file.read_bytes() == checkpoint.to_line()
            table.setdefault((name, fault), set()).add(outcome)
            shutil.rmtree(place.folder)
    return table


def _promote_on(start: InFolder, disk: Disk) -> tuple[ChildResult, InFolder]:
    """Promote in a copy of ``start``."""
    place = InFolder(disk.folder)
    if start.folder.exists():
        shutil.copytree(start.folder, place.folder)

    def work(trace: list[str]) -> None:
        disk.trace = trace
        with disk.in_place():
            promote(place.store, 9, EVIDENCE)

    return forked(work), place


def _calls(start: InFolder, tmp: Path) -> tuple[str, ...]:
    """The system calls of a promotion without a fault."""
    result, place = _promote_on(start, Disk(tmp / f"{start.folder.parent.name}0"))
    assert (result.code, result.error) == (0, ""), result
    shutil.rmtree(place.folder)
    return result.trace
