"""Repairs a ledger in a folder: its lines, in their order, and its checkpoint.

What the files were is kept beside them first, as ``index.jsonl.before-repair-1``. Then the
checkpoint is written, then the ledger. A process that is killed in between leaves the old ledger,
with a checkpoint that it extends if it did before, and the same repair can run again. Signatures
and evidence are not touched. A reader that reads the old checkpoint and then the new ledger fails,
and succeeds when it tries again.
"""

from contextlib import suppress
from itertools import count
from pathlib import Path

from lynx_pipeline.adapters.files import locked, write_atomic
from lynx_pipeline.adapters.ledgers.directory import LOCK_SECONDS, DirectoryLedger, read_if_there
from lynx_pipeline.adapters.ledgers.repair import Repair
from lynx_pipeline.domain.ledger.chain import Checkpoint, parse_ledger, read_checkpoint
from lynx_pipeline.domain.ledger.repair import (
    Best,
    Pool,
    Trust,
    best_ledger,
    changed_lines,
    describe,
    remaining,
)
from lynx_pipeline.errors import BadInput, SystemFailed


def plan(store: DirectoryLedger, trust: Trust) -> Repair:
    """What a repair would change.

    Raises:
        Refused: it would lose an entry.
        BadInput: no ledger extends what this reader remembers, or the policy is invalid.
        SystemFailed: the disk failed.
    """
    before = _files(store)
    raw, checkpoint, signatures = (it or b"" for it in before)
    recorded: Checkpoint | None = None
    with suppress(BadInput):
        recorded = read_checkpoint(checkpoint, "the checkpoint")
    if not raw and not checkpoint:
        return Repair((), (), lambda: None)
    pool = Pool()
    pool.add(raw)
    pool.add(trust.line)
    records = {recorded.hash: "the checkpoint"} if recorded else {}
    best = best_ledger(pool, signatures, records, trust, orphans=_is_damaged(raw, recorded))
    changes, new = [], best.raw
    if raw[: raw.rfind(b"\n") + 1] != new:  # the next promotion removes a torn end itself
        changes += changed_lines(raw, best)
        changes += [f"keep the file as it is now as {_backup(store.file).name}"]
    changes += _checkpoint_change(recorded, best, has_file=bool(checkpoint))

    def apply() -> None:
        busy = (
            f"{store.folder}: another process has held the registry's lock for "
            f"{LOCK_SECONDS:.0f} seconds. Wait until it ends, then run this again."
        )
        with locked(store.folder / ".lock", LOCK_SECONDS, busy):
            if _files(store) != before:
                raise SystemFailed(
                    f"{store.folder}: the registry has changed while the repair was planned. "
                    "Nothing was repaired; run this again."
                )
            _write(store, best, raw, checkpoint)

    return Repair(tuple(changes), remaining(best, signatures, trust), apply)


def _files(store: DirectoryLedger) -> tuple[bytes | None, bytes | None, bytes | None]:
    files = (store.file, store.checkpoint_file, store.signatures_file)
    first, second, third = map(read_if_there, files)
    return first, second, third


def _is_damaged(raw: bytes, recorded: Checkpoint | None) -> bool:
    """Whether lines may be missing. Otherwise a signature without its entry is what a process left
    that was killed before it wrote the entry."""
    if recorded is None:
        return True
    try:
        parse_ledger(raw, "the ledger", [recorded])
    except BadInput:
        return True
    return False


def _checkpoint_change(recorded: Checkpoint | None, best: Best, *, has_file: bool) -> list[str]:
    """How the checkpoint changes. One that the ledger extends is right, and so is none beside a
    single entry."""
    new = best.ledger.checkpoint()
    if new is None:
        return ["remove the checkpoint: no entry is left"] if has_file else []
    if recorded is None and not has_file and new.seq == 1:
        return []
    sizes = {it.seq: it.hash for it in best.ledger.entries}
    if recorded is not None and sizes.get(recorded.seq) == recorded.hash:
        size = sum(len(line.raw) for line in best.lines[: recorded.seq])
        if size == recorded.size:
            return []
    was = "was damaged" if recorded is None and has_file else "was missing"
    because = was if recorded is None else f"named entry {recorded.seq}"
    return [f"write the checkpoint for {describe(best.lines[-1].entry)}: it {because}"]


def _write(store: DirectoryLedger, best: Best, raw: bytes, checkpoint: bytes) -> None:
    new = best.ledger.checkpoint()
    ledger_changes = raw[: raw.rfind(b"\n") + 1] != best.raw
    if ledger_changes:
        write_atomic(_backup(store.file), raw)
    if new is None:
        store.checkpoint_file.unlink(missing_ok=True)
    elif new.to_line() != checkpoint:
        if checkpoint:
            write_atomic(_backup(store.checkpoint_file), checkpoint)
        write_atomic(store.checkpoint_file, new.to_line())
    if ledger_changes:
        write_atomic(store.file, best.raw)


def _backup(file: Path) -> Path:
    """The first free name."""
    names = (file.with_name(f"{file.name}.before-repair-{number}") for number in count(1))
    return next(name for name in names if not name.exists())
