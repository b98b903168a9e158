"""What a reader remembers of a registry in prod: how far it has verified the ledger, and which
version was the latest.

A ledger that does not extend what was verified is refused: somebody wound the branch back together
with its tags, or shows this reader another ledger than before. Signatures that were verified are
not verified again, as long as the settings trust the same keys. And while the registry can't be
verified, a reader can be told what was the latest version.

The memory is a file in ``LYNX_HOME``. A reader that can't write there, or starts with an empty
folder each time, remembers nothing.
"""

import hashlib
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

from lynx_pipeline.adapters.files import read_bytes, write_atomic
from lynx_pipeline.config import Settings
from lynx_pipeline.domain.ledger.chain import Entry, Ledger, read_entry
from lynx_pipeline.domain.ledger.facts import TIME, Promoted, is_time
from lynx_pipeline.domain.ledger.signatures import Verified, unsigned_entries
from lynx_pipeline.domain.release.signing import SigningPolicy
from lynx_pipeline.domain.strict_json import Fields, canonical, parse_object
from lynx_pipeline.errors import BadInput, SystemFailed

_KEYS = ("seq", "hash", "policy", "unsigned", "latest", "time")
# The file is written again when it is older, although nothing else has changed.
_FRESH = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class _Remembered:
    """The last entry that was verified, when, and the digest of the policy that the signatures up
    to it were verified with. ``unsigned`` are the hashes of those that did not count, ``latest`` is
    the line of the promotion that resolved as latest; "" if there was none."""

    seq: int
    hash: str
    policy: str
    unsigned: tuple[str, ...]
    latest: str
    time: str

    @property
    def age(self) -> timedelta:
        """How long ago it was verified."""
        return datetime.now(UTC) - datetime.strptime(self.time, TIME).replace(tzinfo=UTC)


class Memory:
    """The memory of one registry, model and ``LYNX_HOME``.

    Raises:
        BadInput: it is damaged.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        place = hashlib.sha256(str(settings.registry).encode()).hexdigest()[:16]
        self._file = settings.home / "verified" / f"{settings.model}-{place}.json"
        self._policy = _digest(settings.signatures)
        self._known = _read(self._file)

    def unsigned(self, ledger: Ledger) -> Mapping[str, str]:
        """The entries without a valid signature, as :func:`unsigned_entries` finds them.

        Raises:
            BadInput: the ledger does not extend what was verified before, or the policy is invalid.
        """
        known, verified = self._known, Verified()
        if known is not None:
            entries = ledger.entries
            if len(entries) < known.seq or entries[known.seq - 1].hash != known.hash:
                raise BadInput(
                    f"{self._settings.registry}: the ledger has {len(entries)} entries, and does "
                    f"not extend the {known.seq} that were verified here before, the last one with "
                    f"the hash {known.hash}. Somebody wound the registry back, or replaced it. "
                    "Restore it. If an administrator has replaced it on purpose, delete "
                    f"{self._file}."
                )
            if known.policy == self._policy:
                verified = Verified(known.seq, frozenset(known.unsigned))
        return unsigned_entries(ledger, self._settings.signatures, verified)

    def keep(
        self, ledger: Ledger, unsigned: Collection[str], latest: Entry[Promoted] | None
    ) -> None:
        """Remember that the ledger was verified, and what its latest promotion is."""
        if not ledger.entries:
            return
        last, now = ledger.entries[-1], datetime.now(UTC).strftime(TIME)
        line = latest.to_line().decode() if latest else ""
        new = _Remembered(last.seq, last.hash, self._policy, tuple(sorted(unsigned)), line, now)
        known = self._known
        if known is not None and known.age < _FRESH and new == replace(known, time=now):
            return
        with suppress(SystemFailed):  # see the module's docstring
            write_atomic(self._file, canonical(asdict(new)) + b"\n")
            self._known = new

    def last_known(self) -> tuple[Entry[Promoted], str] | None:
        """What was the latest promotion, and when that was verified; None if this is longer ago
        than the settings allow, other keys are trusted now, or nothing was promoted."""
        known = self._known
        if known is None or known.policy != self._policy or not known.latest:
            return None
        if not timedelta(0) <= known.age <= timedelta(hours=self._settings.stale_hours):
            return None
        entry = read_entry(known.latest.rstrip("\n").encode(), str(self._file))
        if not isinstance(entry.fact, Promoted):
            return None
        return cast("Entry[Promoted]", entry), known.time


def _digest(policy: SigningPolicy) -> str:
    return hashlib.sha256(canonical(asdict(policy))).hexdigest()


def _read(file: Path) -> _Remembered | None:
    if not file.exists():
        return None
    try:
        raw = read_bytes(file, "the memory of this registry")
        fields = Fields(parse_object(raw, str(file)), str(file))
        fields.refuse_unknown(_KEYS)
        unsigned, latest = fields.values["unsigned"], fields.values["latest"]
        texts = fields.texts(("hash", "policy", "time"))
        if (
            not isinstance(unsigned, list)
            or not isinstance(latest, str)
            or not is_time(texts["time"])
        ):
            raise KeyError
        return _Remembered(
            seq=fields.count("seq", least=1),
            unsigned=tuple(map(str, unsigned)),
            latest=latest,
            **texts,
        )
    except (BadInput, KeyError):
        raise BadInput(
            f"{file}: expected what an earlier 'lynx-pipeline registry verify' remembered. If you "
            "know that the registry is right, delete the file."
        ) from None
