"""What only the directory store has: a lock, a checkpoint, disk failures and damaged files."""

import errno
import os
import resource
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lynx_pipeline.adapters.ledgers import directory as directory_ledger
from lynx_pipeline.adapters.ledgers.directory import SIGNATURES, DirectoryLedger
from lynx_pipeline.domain.ledger.chain import Ledger, evidence_path
from lynx_pipeline.domain.ledger.facts import Fact
from lynx_pipeline.errors import BadInput, LynxError, SystemFailed
from lynx_pipeline_tests.simulators.faults.disk import FOLDER_STATES, KILLED, Disk, several
from lynx_pipeline_tests.simulators.faults.trial import forked
from lynx_pipeline_tests.support.builders import sha256
from lynx_pipeline_tests.support.places import InFolder, facts, promote, version

Bytes = dict[str, bytes]


def must_not_be_called(_: Ledger) -> Fact:
    """A decision that must not be called."""
    raise AssertionError


@pytest.fixture
def place(tmp_path: Path) -> InFolder:
    """A folder that does not exist yet."""
    return InFolder(tmp_path / "registry")


@pytest.fixture
def store(place: InFolder) -> DirectoryLedger:
    """The store in the folder ``place``."""
    return place.store


def test_a_lock_that_is_held_too_long_is_a_system_failure(
    store: DirectoryLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message says that another process holds it."""
    monkeypatch.setattr(directory_ledger, "LOCK_SECONDS", 0.1)

    def decide(_: Ledger) -> Fact:
        with pytest.raises(SystemFailed, match="another process has held"):
            DirectoryLedger(store.folder).append(must_not_be_called)
        return version(1)

    store.append(decide)
    assert facts(store) == [version(1)]


# ----- the disk ----------------------------------------------------------------------------


def failing_for(file: Path, tried: list[Path]) -> Callable[[int], None]:
    """An ``fsync`` that fails for ``file`` and records all its calls in ``tried``."""
    real = os.fsync

    def fsync(handle: int) -> None:
        tried.append(Path(f"/proc/self/fd/{handle}").readlink())
        if tried[-1] == file:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(handle)

    return fsync


def test_a_failed_sync_is_not_retried(
    place: InFolder, store: DirectoryLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel may have dropped the pages and would report success the second time. What remains
    is the signature of an entry that never came to be."""
    several(place)
    before = place.all()
    tried: list[Path] = []
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing_for(store.file, tried))
        with pytest.raises(SystemFailed, match="The ledger is as it was"):
            promote(store, 9)
    assert tried.count(store.file) == 1
    assert tried[-1] == store.file
    after = place.all()
    assert after.pop(SIGNATURES).startswith(before.pop(SIGNATURES))
    assert after == before


def test_a_failed_close_does_not_lose_the_entry(
    store: DirectoryLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The entry was synced before the close."""
    real = os.close

    def close(handle: int) -> None:
        path = Path(f"/proc/self/fd/{handle}").readlink()
        real(handle)
        if path == store.file:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "close", close)
        with pytest.raises(SystemFailed, match=r"the entry was written, .* it finds the entry"):
            promote(store, 9)
    assert facts(store) == [version(9)]
    promote(store, 9)
    assert facts(store) == [version(9)]


def test_a_disk_error_in_a_decision_is_passed_through(store: DirectoryLedger) -> None:
    """A decision runs git and reads files; its errors are not reported as errors of the lock."""

    def decide(_: Ledger) -> Fact:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match="No space left"):
        store.append(decide)
    promote(store, 9)


def test_an_entry_that_cannot_be_removed_again_is_not_reported_as_removed(
    place: InFolder, store: DirectoryLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sync and truncation both fail, so the entry's state is unknown until the disk works again."""
    several(place)

    def broken(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing_for(store.file, []))
        patch.setattr(os, "ftruncate", broken)
        with pytest.raises(SystemFailed, match="neither be written nor removed again"):
            promote(store, 9)
    promote(store, 9)
    assert facts(store)[-1] == version(9)
    assert len(facts(store)) == 4


@pytest.mark.parametrize("room", [0, 1, 50, 300, -1], ids=lambda room: f"room {room}")
@pytest.mark.parametrize("state", FOLDER_STATES, ids=lambda state: state.__name__)
def test_a_full_disk_leaves_the_old_ledger(
    place: InFolder, store: DirectoryLedger, state: Callable[[InFolder], None], room: int
) -> None:
    """The file can grow by only ``room`` bytes (-1: by all but the last byte of the line)."""
    state(place)
    old = facts(store)
    line = store.read().next_entry(version(9)).to_line()
    limit = store.read().size + (room if room >= 0 else len(line) - 1)

    def work(_: list[str]) -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        promote(store, 9)

    assert forked(work).error == "SystemFailed"
    assert facts(store) == old
    promote(store, 9)
    assert facts(store) == [*old, version(9)]


@pytest.mark.parametrize(
    ("make", "error"),
    [
        pytest.param(lambda s: s.folder.write_text("x"), SystemFailed, id="a file, not a folder"),
        pytest.param(lambda s: s.file.mkdir(parents=True), SystemFailed, id="index is a folder"),
        pytest.param(
            lambda s: s.checkpoint_file.mkdir(parents=True),
            SystemFailed,
            id="checkpoint is a folder",
        ),
    ],
)
def test_a_path_that_cannot_hold_a_ledger_is_a_system_failure(
    store: DirectoryLedger, make: Callable[[DirectoryLedger], object], error: type[LynxError]
) -> None:
    """A file where a folder is expected, or the other way round."""
    make(store)
    with pytest.raises(error):
        store.append(lambda _: version(1))


# ----- damage -------------------------------------------------------------------------------

DAMAGE: list[Any] = [
    pytest.param(lambda s: s.file.unlink(), id="index missing"),
    pytest.param(lambda s: s.file.write_bytes(b""), id="index empty"),
    pytest.param(lambda s: s.checkpoint_file.unlink(), id="checkpoint missing"),
    pytest.param(lambda s: s.checkpoint_file.write_bytes(b""), id="checkpoint empty"),
    pytest.param(lambda s: s.checkpoint_file.write_bytes(b"{}"), id="checkpoint without keys"),
    pytest.param(
        lambda s: s.checkpoint_file.write_bytes(b'{"hash":"x","seq":3,"size":1,"skip":true}'),
        id="checkpoint with an extra key",
    ),
    pytest.param(
        lambda s: s.file.write_bytes(b"".join(s.file.read_bytes().splitlines(True)[:2])),
        id="truncated",
    ),
    pytest.param(lambda s: s.file.write_bytes(s.file.read_bytes()[:-1]), id="last newline missing"),
    pytest.param(lambda s: s.file.write_bytes(s.file.read_bytes() + b"\n"), id="blank line"),
    pytest.param(lambda s: s.file.write_bytes(s.file.read_bytes() * 2), id="doubled"),
]


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_detected_and_not_overwritten(
    place: InFolder, store: DirectoryLedger, damage: Callable[[DirectoryLedger], object]
) -> None:
    """Reading and appending both fail, and the damaged files are left for investigation."""
    several(place)
    damage(store)
    before = place.all()
    with pytest.raises(BadInput):
        store.read()
    with pytest.raises(BadInput):
        store.append(must_not_be_called)
    assert place.all() == before


# ----- durability ---------------------------------------------------------------------------


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files and folders that were synced, in order."""
    paths: list[Path] = []
    real = os.fsync

    def fsync(handle: int) -> None:
        real(handle)
        paths.append(Path(f"/proc/self/fd/{handle}").readlink())

    monkeypatch.setattr(os, "fsync", fsync)
    return paths


def test_evidence_is_durable_before_its_entry_and_the_entry_before_its_checkpoint(
    place: InFolder, synced: list[Path]
) -> None:
    """Each file is synced, then every folder on its path."""
    promote(place.store, 1, (b"evidence",))
    kept = place.folder / evidence_path(sha256(b"evidence"))
    names = [path.name if path.name.startswith(".") else path for path in synced]
    assert str(names[0]).startswith(f".{kept.name}.")
    line, checkpoint = names.index(place.store.file), len(names) - 2
    (signatures,) = (it for it in names[1:line] if str(it).startswith(".index.intoto.jsonl."))
    folders = {kept.parent, kept.parents[1], place.folder, place.folder.parent}
    assert set(names[1:line]) == {*folders, signatures}
    assert names[line + 1] == place.folder
    assert str(names[checkpoint]).startswith(".index.checkpoint.json.")
    assert names[checkpoint + 1 :] == [place.folder]


def test_a_new_folder_is_synced_in_its_parent(place: InFolder, synced: list[Path]) -> None:
    """Otherwise a power cut could lose the folder, and the evidence in it."""
    promote(place.store, 1, (b"evidence",))
    before_the_entry = synced[: synced.index(place.store.file)]
    assert place.folder / "evidence" in before_the_entry
    assert place.folder.parent in before_the_entry


@pytest.mark.parametrize("again", [9, 10])
def test_an_entry_found_after_a_kill_is_synced_before_anything_relies_on_it(
    place: InFolder, synced: list[Path], again: int
) -> None:
    """After a kill between write and sync, the line is in the ledger but may not be on the disk.
    It must be on the disk before a caller or the checkpoint relies on it."""
    several(place)

    def work(trace: list[str]) -> None:
        with Disk(place.folder, at, KILLED, trace).in_place():
            promote(place.store, 9)

    at = _calls(place).index("sync index") + 1
    assert forked(work).code == -signal.SIGKILL
    assert facts(place.store)[-1] == version(9)
    synced.clear()
    promote(place.store, again)
    first = next(k for k, path in enumerate(synced) if path.name.startswith(".index.checkpoint"))
    assert place.store.file in synced[:first]


def test_evidence_found_after_a_failure_is_synced_before_its_entry(
    place: InFolder, synced: list[Path]
) -> None:
    """The folder's sync failed, so a power cut could lose the file's name."""
    several(place)

    def work(trace: list[str]) -> None:
        with Disk(place.folder, at, "EIO", trace).in_place():
            promote(place.store, 9, (b"new evidence",))

    at = _calls(place, (b"new evidence",)).index("sync evidence folder") + 1
    assert forked(work).error == "SystemFailed"
    synced.clear()
    promote(place.store, 9, (b"new evidence",))
    kept = place.folder / evidence_path(sha256(b"new evidence"))
    assert kept.parent in synced[: synced.index(place.store.file)]


def _calls(place: InFolder, evidence: tuple[bytes, ...] = ()) -> tuple[str, ...]:
    """The system calls of a promotion in a copy of the folder."""
    copied = InFolder(place.folder.with_name("copy"))
    shutil.copytree(place.folder, copied.folder)

    def work(trace: list[str]) -> None:
        with Disk(copied.folder, trace=trace).in_place():
            promote(copied.store, 9, evidence)

    return forked(work).trace


def test_a_failed_close_is_reported_and_the_entry_is_kept(place: InFolder) -> None:
    """In a forked process: the message quotes the operating system's error."""
    several(place)
    at = _calls(place).index("close index") + 1

    def work(trace: list[str]) -> None:
        with Disk(place.folder, at, "EIO", trace).in_place():
            promote(place.store, 9)

    outcome = forked(work)
    assert outcome.error == "SystemFailed"
    assert "Input/output error" in outcome.message
    assert facts(place.store)[-1] == version(9)
