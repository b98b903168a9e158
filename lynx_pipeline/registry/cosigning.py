"""A witness: signs how far it has seen the ledger in ``prod``, never two ledgers that contradict
each other.

It remembers the last checkpoint that it signed, in ``LYNX_HOME/witness``, one for each key and
model. A ledger that does not extend it is not signed. The memory is written before anything is
signed, so that a witness that is killed in between signs nothing else later. It has no option that
overrides this. A witness that remembers nothing has to be told that it signs for the first time:
otherwise, one that lost its folder would sign whatever it sees.

It signs the entries up to the last one that counts. Those after it are ignored, and an
administrator may remove them.
"""

import time
from pathlib import Path

from lynx_pipeline.adapters.files import locked, read_bytes, write_atomic
from lynx_pipeline.adapters.ledgers import publish_checkpoint
from lynx_pipeline.adapters.witness_key import choose_key, cosign
from lynx_pipeline.config import Settings
from lynx_pipeline.domain.ledger.chain import Ledger
from lynx_pipeline.domain.ledger.state import replay
from lynx_pipeline.domain.ledger.tree_head import Cosigned, TreeHead, read_body, tree_head
from lynx_pipeline.domain.release.witnesses import WitnessKey
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.errors import BadInput, Refused
from lynx_pipeline.registry.registry import Registry

LOCK_SECONDS = 60.0


def witness(settings: Settings, *, first: bool = False) -> tuple[WitnessKey, Cosigned]:
    """Sign the ledger as it is now, and publish that. ``first``: this key has signed nothing yet.

    Returns:
        The witness's key, and what it signed.

    Raises:
        BadInput: the ledger does not extend what a witness signed before, or is damaged; the key is
            invalid; this is ``dev``; ``first`` is wrong.
        Refused: nothing was promoted yet.
        SystemFailed: git, the remote or the disk failed. What was remembered stays; run it again.
    """
    if settings.env is Env.DEV:
        raise BadInput("a witness signs the registry of prod. Set LYNX_ENV=prod.")
    key = choose_key(settings.witnesses)
    file = settings.home / "witness" / f"{settings.model}-{key.key_id.hex()}.checkpoint"
    busy = f"{file}: another process has signed for {LOCK_SECONDS:.0f} seconds. Run this again."
    with locked(file.with_suffix(".lock"), LOCK_SECONDS, busy):
        known = _read(file, first=first)
        registry = Registry.open(settings)
        ledger = registry.verify()
        head = _next(settings, ledger, known, file)
        state = replay(ledger, settings.env, settings.model, registry.unsigned(ledger))
        counting = 0 if state.since is None else state.since.seq
        if counting > head.size:
            head = tree_head(ledger, settings.model, counting)
        if not head.size:
            raise Refused("nothing was promoted in prod yet, so there is nothing to sign.")
        write_atomic(file, head.body.encode())
        made, signed = cosign(head, key, int(time.time()))
        publish_checkpoint(settings, key.name, made)
        return key, signed


def _next(settings: Settings, ledger: Ledger, known: TreeHead | None, file: Path) -> TreeHead:
    """What was signed last, which the ledger extends."""
    if known is None:
        return tree_head(ledger, settings.model, 0)
    if known.size <= len(ledger.entries):
        head = tree_head(ledger, settings.model, known.size)
        if head == known:
            return head
    raise BadInput(
        f"{settings.registry}: the ledger does not extend the first {known.size} entries, which "
        f"this witness has signed before. It was wound back, or this is another ledger; nothing "
        "was signed. Restore it. If an administrator has replaced it on purpose, make a new key: "
        f"see docs/signatures.md. The witness remembers what it signed in {file}."
    )


def _read(file: Path, *, first: bool) -> TreeHead | None:
    if not file.exists():
        if first:
            return None
        raise BadInput(
            f"there is no {file}, so this witness does not know what it has signed. If it signs "
            "with this key for the first time, add --first. Otherwise restore the file, or make a "
            "new key."
        )
    if first:
        raise BadInput(f"{file}: this witness has signed before. Leave out --first.")
    try:
        return read_body(read_bytes(file, "the witness's memory").decode())
    except (BadInput, UnicodeDecodeError):
        raise BadInput(
            f"{file}: expected the checkpoint that this witness signed last. Restore the file, or "
            "make a new key."
        ) from None
