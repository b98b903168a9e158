"""What a reader remembers of a registry in prod: how far it has verified the ledger.

A ledger that does not extend what was verified is refused: somebody wound the branch back together
with its tags, or shows this reader another ledger than before. And signatures that were verified
are not verified again, as long as the settings trust the same keys.

The memory is a file in ``LYNX_HOME``. A reader that can't write there, or starts with an empty
folder each time, remembers nothing.
"""

import hashlib
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from lynx_pipeline.adapters.files import read_bytes, write_atomic
from lynx_pipeline.config import Settings
from lynx_pipeline.domain.ledger.chain import Ledger
from lynx_pipeline.domain.ledger.signatures import Verified, unsigned_entries
from lynx_pipeline.domain.release.signing import SigningPolicy
from lynx_pipeline.domain.strict_json import Fields, canonical, parse_object
from lynx_pipeline.errors import BadInput, SystemFailed

_KEYS = ("seq", "hash", "policy", "unsigned")


@dataclass(frozen=True, slots=True)
class _Remembered:
    """The last entry that was verified, and the digest of the policy that the signatures up to it
    were verified with. ``unsigned`` are the hashes of those that did not count."""

    seq: int
    hash: str
    policy: str
    unsigned: tuple[str, ...]


def unsigned_in_prod(settings: Settings, ledger: Ledger) -> Mapping[str, str]:
    """The entries without a valid signature, as :func:`unsigned_entries` finds them. What was
    verified is remembered.

    Raises:
        BadInput: the ledger does not extend what was verified before, or the memory or the policy
            is invalid.
    """
    file = _file(settings)
    known = _read(file)
    if known is not None and not _extends(ledger, known):
        raise BadInput(
            f"{settings.registry}: the ledger has {len(ledger.entries)} entries, and does not "
            f"extend the {known.seq} that were verified here before, the last one with the hash "
            f"{known.hash}. Somebody wound the registry back, or replaced it. Restore it. If an "
            f"administrator has replaced it on purpose, delete {file}."
        )
    policy, verified = _digest(settings.signatures), Verified()
    if known is not None and known.policy == policy:
        verified = Verified(known.seq, frozenset(known.unsigned))
    found = unsigned_entries(ledger, settings.signatures, verified)
    new = _remembered(ledger, policy, found)
    if new is not None and new != known:
        with suppress(SystemFailed):  # see the module's docstring
            write_atomic(file, canonical(asdict(new)) + b"\n")
    return found


def _remembered(ledger: Ledger, policy: str, unsigned: Collection[str]) -> _Remembered | None:
    if not ledger.entries:
        return None
    last = ledger.entries[-1]
    return _Remembered(last.seq, last.hash, policy, tuple(sorted(unsigned)))


def _extends(ledger: Ledger, known: _Remembered) -> bool:
    entries = ledger.entries
    return len(entries) >= known.seq and entries[known.seq - 1].hash == known.hash


def _file(settings: Settings) -> Path:
    place = hashlib.sha256(str(settings.registry).encode()).hexdigest()[:16]
    return settings.home / "verified" / f"{settings.model}-{place}.json"


def _digest(policy: SigningPolicy) -> str:
    return hashlib.sha256(canonical(asdict(policy))).hexdigest()


def _read(file: Path) -> _Remembered | None:
    if not file.exists():
        return None
    try:
        raw = read_bytes(file, "the memory of this registry")
        fields = Fields(parse_object(raw, str(file)), str(file))
        fields.refuse_unknown(_KEYS)
        unsigned = fields.values["unsigned"]
        if not isinstance(unsigned, list):
            raise KeyError
        return _Remembered(
            fields.count("seq", least=1),
            fields.text("hash"),
            fields.text("policy"),
            tuple(map(str, unsigned)),
        )
    except (BadInput, KeyError):
        raise BadInput(
            f"{file}: expected what an earlier 'lynx-pipeline registry verify' remembered. If you "
            "know that the registry is right, delete the file."
        ) from None
