"""The ledger in a folder: ``index.jsonl``, a checkpoint beside it, and a lock.

An append holds the lock, verifies the whole chain, keeps the evidence, writes one line, syncs
it, and then moves the checkpoint. The line's newline is the commit point: killed before it, the
ledger is the old one plus a torn tail that the next append drops; killed after it, the new one,
with a checkpoint that lags and is moved by the next append. The ledger has to extend the
checkpoint, so a cut-off tail does not go unseen.

A failed sync is never tried again, because the kernel may already have dropped the pages:
the line is taken back, and the error says so.
"""

import hashlib
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from lynx_pipeline.adapters.files import locked, sync, write_atomic
from lynx_pipeline.adapters.ledgers.store import Decision, Recorded
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


class DirectoryLedger:
    """The ledger under ``folder``. Reading needs no lock and creates nothing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "index.jsonl"
        self.checkpoint_file = folder / "index.checkpoint.json"

    def read(self) -> Ledger:
        """The verified ledger; empty if there is none yet.

        Raises:
            BadInput: the file is damaged or does not extend its checkpoint.
            SystemFailed: the disk failed.
        """
        # The checkpoint first: whatever is appended in between only extends it.
        remembered = self._read_checkpoint()
        raw = _read_if_there(self.file) or b""
        ledger = parse_ledger(raw, str(self.file), [remembered] if remembered else [])
        if remembered is None and len(ledger.entries) > 1 and self._read_checkpoint() is None:
            raise BadInput(
                f"{self.file}: has {len(ledger.entries)} entries but no checkpoint beside it "
                f"({self.checkpoint_file.name}). Restore it from a copy; nothing was changed."
            )
        return ledger

    def append(self, decide: Decision, evidence: Iterable[bytes] = ()) -> Recorded:
        """Append what ``decide`` says, having read the ledger under the lock, and keep
        ``evidence`` beside it.

        ``decide`` gets the ledger as it is now and returns the fact to append, or the entry
        that already holds it, or raises; then nothing is written.

        Raises:
            SystemFailed: the lock or the disk failed. The ledger is the old one, or, where
                only the checkpoint failed, the new one; running it again is right for both.
        """
        busy = (
            f"{self.folder}: another process has held the registry's lock for "
            f"{LOCK_SECONDS:.0f} seconds. Wait for it, then run this again."
        )
        with locked(self.folder / ".lock", LOCK_SECONDS, busy):
            ledger = self.read()
            decided = decide(ledger)
            self._catch_up(ledger)
            if isinstance(decided, Entry):
                return Recorded(decided, False)
            entry = ledger.next_entry(decided)
            line = entry.to_line()
            self._keep(evidence)
            self._write_line(line, ledger)
            self._remember(Checkpoint(ledger.size + len(line), entry.seq, entry.hash))
            return Recorded(entry, True)

    def evidence(self, sha256: str) -> bytes:
        """A piece of evidence, by the digest that an entry names.

        Raises:
            BadInput: it is not there, or its bytes have another digest.
        """
        raw = _read_if_there(self.folder / evidence_path(sha256))
        return check_digest(raw, sha256, str(self.folder))

    def _catch_up(self, ledger: Ledger) -> None:
        """Move a checkpoint that lags. The append that it missed may have been killed before its
        sync, so what is remembered from now on is synced first."""
        checkpoint = ledger.checkpoint()
        if checkpoint is None or checkpoint == self._read_checkpoint():
            return
        _sync(self.file, self.folder)
        self._remember(checkpoint)

    def _keep(self, evidence: Iterable[bytes]) -> None:
        """Keep the evidence and sync every name on the way to it: an append that failed can have
        left files and folders whose names are not on the disk yet."""
        folders = {self.folder, self.folder.parent}
        for raw in evidence:
            path = self.folder / evidence_path(hashlib.sha256(raw).hexdigest())
            if _read_if_there(path) != raw:
                write_atomic(path, raw)
            folders |= {path.parent, path.parent.parent}
        _sync(*sorted(folders, reverse=True))

    def _write_line(self, line: bytes, ledger: Ledger) -> None:
        try:
            handle = os.open(self.file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise SystemFailed(f"{self.file} can't be opened: {error.strerror}.") from None
        try:
            self._put(handle, line, ledger)
        except BaseException:
            with suppress(OSError):
                os.close(handle)
            raise
        try:
            os.close(handle)
        except OSError as error:
            raise SystemFailed(
                f"{self.file}: the entry is there, and the file could not be closed: "
                f"{error.strerror}. Mend the disk and run this again: it finds the entry."
            ) from None

    def _put(self, handle: int, line: bytes, ledger: Ledger) -> None:
        """Write the line and sync it, or take it back."""
        try:
            if ledger.torn:
                os.ftruncate(handle, ledger.size)
            try:
                if os.pwrite(handle, line, ledger.size) != len(line):
                    raise OSError(None, "the disk took only part of the line")
                os.fsync(handle)
                sync(self.folder)
            except BaseException:
                self._take_back(handle, ledger)
                raise
        except OSError as error:
            raise SystemFailed(
                f"{self.file}: the entry could not be written: {error.strerror}. The ledger is "
                "as it was. Mend the disk and run this again."
            ) from None

    def _take_back(self, handle: int, ledger: Ledger) -> None:
        try:
            os.ftruncate(handle, ledger.size)
        except OSError as error:
            raise SystemFailed(
                f"{self.file}: the entry could neither be written nor be taken back: "
                f"{error.strerror}. Mend the disk and run this again: it finds the entry, or "
                "writes it."
            ) from None

    def _remember(self, checkpoint: Checkpoint) -> None:
        write_atomic(self.checkpoint_file, checkpoint.to_line())

    def _read_checkpoint(self) -> Checkpoint | None:
        raw = _read_if_there(self.checkpoint_file)
        if raw is None:
            return None
        return read_checkpoint(raw, str(self.checkpoint_file))


def _sync(*paths: Path) -> None:
    for path in paths:
        try:
            sync(path)
        except OSError as error:
            raise SystemFailed(
                f"{path} can't be synced: {error.strerror}. No entry was added."
            ) from None


def _read_if_there(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SystemFailed(f"{path} can't be read: {error.strerror}.") from None
