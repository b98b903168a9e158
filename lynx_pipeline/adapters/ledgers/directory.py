"""The ledger in a folder: ``index.jsonl``, a checkpoint beside it, and a lock.

An append takes the lock, verifies the whole chain, stores the evidence and the signature, writes
one line, syncs it, and then updates the checkpoint. The line's newline is the commit point. If the
process is killed before it, the old ledger remains, plus a torn tail that the next append removes,
and perhaps the signature of an entry that never came to be. If it is killed after it, the new
ledger remains, with an outdated checkpoint that the next append updates. The ledger must extend the
checkpoint, so a truncated ledger is detected.

A failed sync is never retried, because the kernel may already have dropped the pages. The line is
removed again, and the error says so.
"""

import hashlib
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from lynx_pipeline.adapters.files import locked, sync, write_atomic
from lynx_pipeline.adapters.ledgers.store import Decision, Recorded, Sign, unsigned
from lynx_pipeline.domain.ledger.chain import (
    Checkpoint,
    Entry,
    Ledger,
    check_digest,
    evidence_path,
    parse_ledger,
    read_checkpoint,
)
from lynx_pipeline.errors import BadInput, SystemFailed

LOCK_SECONDS = 60.0
SIGNATURES = "index.intoto.jsonl"


class DirectoryLedger:
    """The ledger under ``folder``. Reading needs no lock and creates nothing. It also reads what
    the ``witnesses`` with these names have published about ``model``."""

    def __init__(self, folder: Path, model: str = "", witnesses: Iterable[str] = ()) -> None:
        self.folder = folder
        self.model = model
        self.witnesses = tuple(witnesses)
        self.file = folder / "index.jsonl"
        self.signatures_file = folder / SIGNATURES
        self.checkpoint_file = folder / "index.checkpoint.json"
        # As they are read: the signatures last, because an append in between only extends them.
        self._files = (self.checkpoint_file, self.file, self.signatures_file)

    def read(self) -> Ledger:
        """The verified ledger; empty if there is none yet.

        Raises:
            BadInput: the file is damaged or does not extend its checkpoint.
            SystemFailed: the disk failed.
        """
        published = ((name, read_if_there(self._published(name))) for name in self.witnesses)
        checkpoints = tuple((name, raw) for name, raw in published if raw is not None)
        checkpoint, index, signatures = map(_read, self._files)
        remembered = self._checkpoint(checkpoint.raw)
        ledger = parse_ledger(index.raw or b"", str(self.file), [remembered] if remembered else [])
        if remembered is None and len(ledger.entries) > 1 and self._read_checkpoint() is None:
            raise BadInput(
                f"{self.file} has {len(ledger.entries)} entries, but the checkpoint "
                f"{self.checkpoint_file.name} beside it is missing. Restore the checkpoint from a "
                "backup; nothing was changed."
            )
        return replace(
            ledger,
            signatures=signatures.raw or b"",
            checkpoints=checkpoints,
            state=_state(checkpoint, index, signatures),
        )

    def state(self) -> str:
        """The ``state`` that :meth:`read` would return now.

        Raises:
            SystemFailed: the disk failed.
        """
        return _state(*(_read(file, limit=0) for file in self._files))

    def append(
        self, decide: Decision, evidence: Iterable[bytes] = (), sign: Sign = unsigned
    ) -> Recorded:
        """Read the ledger under the lock, append what ``decide`` returns, and store ``evidence``
        and the signature beside it.

        ``decide`` gets the current ledger and returns the fact to append, or the entry that
        already records it; ``sign`` returns the new entry's signature. If one raises, nothing is
        written.

        Raises:
            SystemFailed: the lock or the disk failed. The ledger is the old one, or the new one
                if only the checkpoint failed. Running it again is safe in both cases.
        """
        busy = (
            f"{self.folder}: another process has held the registry's lock for "
            f"{LOCK_SECONDS:.0f} seconds. Wait until it ends, then run this again."
        )
        with locked(self.folder / ".lock", LOCK_SECONDS, busy):
            ledger = self.read()
            decided = decide(ledger)
            self._catch_up(ledger)
            if isinstance(decided, Entry):
                return Recorded(decided, False)
            entry = ledger.next_entry(decided)
            line, signature = entry.to_line(), sign(entry)
            self._keep(evidence)
            if signature is not None:
                kept = ledger.signatures
                kept += b"\n" if kept and not kept.endswith(b"\n") else b""
                write_atomic(self.signatures_file, kept + signature)
            self._write_line(line, ledger)
            self._remember(Checkpoint(ledger.size + len(line), entry.seq, entry.hash))
            return Recorded(entry, True)

    def evidence(self, sha256: str) -> bytes:
        """The piece of evidence with this digest, as an entry names it.

        Raises:
            BadInput: it is missing, or its bytes have another digest.
            SystemFailed: the disk failed.
        """
        raw = read_if_there(self.folder / evidence_path(sha256))
        return check_digest(raw, sha256, str(self.folder))

    def publish(self, witness: str, checkpoint: bytes) -> None:
        """Replace what this witness has published.

        Raises:
            SystemFailed: the disk failed.
        """
        write_atomic(self._published(witness), checkpoint)

    def _published(self, witness: str) -> Path:
        return self.folder / "witnesses" / self.model / f"{witness}.checkpoint"

    def _catch_up(self, ledger: Ledger) -> None:
        """Update an outdated checkpoint. The append that did not update it may have been killed
        before its sync, so sync the entries before the checkpoint vouches for them."""
        checkpoint = ledger.checkpoint()
        if checkpoint is None or checkpoint == self._read_checkpoint():
            return
        _sync(self.file, self.folder)
        self._remember(checkpoint)

    def _keep(self, evidence: Iterable[bytes]) -> None:
        """Store the evidence and sync every folder on its path: an earlier append that failed may
        have left files and folders whose names are not durable yet."""
        folders = {self.folder, self.folder.parent}
        for raw in evidence:
            path = self.folder / evidence_path(hashlib.sha256(raw).hexdigest())
            if read_if_there(path) != raw:
                write_atomic(path, raw)
            folders |= {path.parent, path.parent.parent}
        _sync(*sorted(folders, reverse=True))

    def _write_line(self, line: bytes, ledger: Ledger) -> None:
        try:
            handle = os.open(self.file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise SystemFailed(
                f"{self.file} can't be opened: {error.strerror}. No entry was added. Check its "
                "permissions and the disk, then run this again."
            ) from None
        try:
            self._write_and_sync(handle, line, ledger)
        except BaseException:
            with suppress(OSError):
                os.close(handle)
            raise
        try:
            os.close(handle)
        except OSError as error:
            raise SystemFailed(
                f"{self.file}: the entry was written, but the file could not be closed: "
                f"{error.strerror}. Fix the disk problem and run this again: it finds the entry."
            ) from None

    def _write_and_sync(self, handle: int, line: bytes, ledger: Ledger) -> None:
        """Write the line and sync it. Remove it again if that fails."""
        try:
            if ledger.torn:
                os.ftruncate(handle, ledger.size)
            try:
                if os.pwrite(handle, line, ledger.size) != len(line):
                    raise OSError(None, "only part of the line was written")
                os.fsync(handle)
                sync(self.folder)
            except BaseException:
                self._remove_line(handle, ledger)
                raise
        except OSError as error:
            raise SystemFailed(
                f"{self.file}: the entry could not be written: {error.strerror}. The ledger is "
                "as it was. Fix the disk problem and run this again."
            ) from None

    def _remove_line(self, handle: int, ledger: Ledger) -> None:
        try:
            os.ftruncate(handle, ledger.size)
        except OSError as error:
            raise SystemFailed(
                f"{self.file}: the entry could neither be written nor removed again: "
                f"{error.strerror}. Fix the disk problem and run this again: it finds the entry "
                "or writes it."
            ) from None

    def _remember(self, checkpoint: Checkpoint) -> None:
        write_atomic(self.checkpoint_file, checkpoint.to_line())

    def _read_checkpoint(self) -> Checkpoint | None:
        return self._checkpoint(read_if_there(self.checkpoint_file))

    def _checkpoint(self, raw: bytes | None) -> Checkpoint | None:
        return None if raw is None else read_checkpoint(raw, str(self.checkpoint_file))


def _sync(*paths: Path) -> None:
    for path in paths:
        try:
            sync(path)
        except OSError as error:
            raise SystemFailed(
                f"{path} can't be synced: {error.strerror}. No entry was added. Fix the disk "
                "problem and run this again."
            ) from None


class _Opened(NamedTuple):
    """A file's bytes, or None if there is no such file. An append changes the size in its
    ``version``. Any other change changes the time, except within one tick of the file system's
    clock or through a memory map; a reader then goes on with what it has verified."""

    raw: bytes | None
    version: tuple[int, ...]


def _state(*files: _Opened) -> str:
    return ";".join(",".join(map(str, file.version)) for file in files)


def read_if_there(path: Path) -> bytes | None:
    """The file's bytes; None if there is no such file."""
    return _read(path).raw


def _read(path: Path, limit: int = -1) -> _Opened:
    """The file's first ``limit`` bytes, by default all."""
    try:
        # Opened also for its version alone: a network file system then asks the server.
        with path.open("rb") as file:
            # Before the bytes: if they change in between, the version is outdated.
            at = os.fstat(file.fileno())
            version = (at.st_ino, at.st_size, at.st_mtime_ns, at.st_ctime_ns)
            return _Opened(file.read(limit), version)
    except FileNotFoundError:
        return _Opened(None, ())
    except OSError as error:
        raise SystemFailed(
            f"{path} can't be read: {error.strerror}. Check its permissions and the disk, then run "
            "this again."
        ) from None
