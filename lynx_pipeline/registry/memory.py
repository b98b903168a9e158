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
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

from lynx_pipeline.adapters.files import locked, read_bytes, write_atomic
from lynx_pipeline.config import Settings
from lynx_pipeline.domain.ledger.chain import Entry, Ledger, read_entry
from lynx_pipeline.domain.ledger.facts import TIME, Promoted, is_time
from lynx_pipeline.domain.ledger.signatures import NOT_SIGNED, Verified, unsigned_entries
from lynx_pipeline.domain.ledger.state import RegistryState
from lynx_pipeline.domain.strict_json import Fields, canonical, parse_object
from lynx_pipeline.domain.text import number_of
from lynx_pipeline.errors import BadInput, LynxError

_KEYS = ("seq", "hash", "policy", "unsigned", "latest", "time", "state")
# The file is written again when it is older, although nothing else has changed.
_FRESH = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class _Remembered:
    """The last entry that counts, when it was verified, and the digest of the policy that the
    signatures up to it were verified with. ``unsigned`` are the hashes of those before it that did
    not count, ``latest`` is the line of the promotion that resolved as latest. ``state`` is the
    ledger's, or "" if there are entries after it that don't count, which readers are warned of.

    Entries after it are verified anew each time: whoever can push can add some that don't count,
    and an administrator may remove them."""

    seq: int
    hash: str
    policy: str
    unsigned: tuple[str, ...]
    latest: str
    time: str
    state: str

    @property
    def age(self) -> timedelta:
        """How long ago it was verified."""
        return datetime.now(UTC) - datetime.strptime(self.time, TIME).replace(tzinfo=UTC)


class Memory:
    """The memory of one registry, model and ``LYNX_HOME``. It has to be read before the registry
    is: otherwise another process may have verified a newer state in between.

    Raises:
        BadInput: it is damaged.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        place = hashlib.sha256(str(settings.registry).encode()).hexdigest()[:16]
        self._file = settings.home / "verified" / f"{settings.model}-{place}.json"
        self._policy = _digest(settings)
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
                    f"{self._settings.registry}: the ledger has "
                    f"{number_of(len(entries), 'entry', 'entries')}, and entry {known.seq} is not "
                    f"the one with the hash {known.hash} that was verified here before. The "
                    "registry was wound back, or replaced. Restore it. If an administrator has "
                    f"replaced it on purpose, delete {self._file}."
                )
            # With other keys, all are verified anew.
            seq = known.seq if known.policy == self._policy else 0
            verified = Verified(seq, frozenset(known.unsigned))
        found = unsigned_entries(ledger, self._settings.signatures, verified)
        if known is not None:
            self._check_not_stripped(ledger, known, found)
        return found

    def _check_not_stripped(
        self, ledger: Ledger, known: _Remembered, found: Mapping[str, str]
    ) -> None:
        """Check that no entry that counted has lost its signature. With other keys in the settings
        it would silently count no more."""
        for entry in ledger.entries[: known.seq]:
            if found.get(entry.hash) == NOT_SIGNED and entry.hash not in known.unsigned:
                raise BadInput(
                    f"{self._settings.registry}, line {entry.seq}: the entry counted before, and "
                    "its signature is gone. Restore it, or delete "
                    f"{self._file} if an administrator has removed it on purpose."
                )

    def keep(self, ledger: Ledger, unsigned: Collection[str], state: RegistryState) -> None:
        """Remember that the ledger was verified, and what its latest promotion is."""
        last, latest = state.since, state.latest
        if last is None or latest is None:
            return
        now, line = _now(), latest.to_line().decode()
        before = {entry.hash for entry in ledger.entries[: last.seq]} & set(unsigned)
        warned = any(entry.seq > last.seq for entry, _ in state.ignored)
        self._write(
            _Remembered(
                seq=last.seq,
                hash=last.hash,
                policy=self._policy,
                unsigned=tuple(sorted(before)),
                latest=line,
                time=now,
                state="" if warned else ledger.state,
            )
        )

    def unchanged(self, version: str, state: Callable[[], str]) -> Entry[Promoted] | None:
        """The latest promotion, if ``version`` names it and the registry, whose ``state`` this is,
        is as it was when that was verified with the same keys. None if it has to be verified."""
        known = self._known
        if known is None or not known.state or known.policy != self._policy:
            return None
        entry = self._promotion(known)
        if entry is None or version not in ("latest", entry.fact.semver) or state() != known.state:
            return None
        self._write(replace(known, time=_now()))
        return entry

    def _write(self, new: _Remembered) -> None:
        known = self._known
        if known is not None and known.age < _FRESH and new == replace(known, time=new.time):
            return
        with suppress(LynxError), locked(self._file.with_suffix(".lock"), 1.0, "in use"):
            # See the module's docstring. Another process may have verified a newer state.
            other = _read(self._file)
            if other is None or other.seq <= new.seq:
                write_atomic(self._file, canonical(asdict(new)) + b"\n")
                self._known = new

    def remembered(self) -> tuple[str, bytes] | None:
        """The hash of the last entry that counted, and the line of what was the latest promotion,
        however long ago; None if nothing is known."""
        return None if self._known is None else (self._known.hash, self._known.latest.encode())

    def last_known(self) -> tuple[Entry[Promoted], str] | None:
        """What was the latest promotion, and when that was verified; None if this is longer ago
        than the settings allow, other keys are trusted now, or nothing is known."""
        known = self._known
        if known is None or known.policy != self._policy:
            return None
        if not timedelta(0) <= known.age <= timedelta(hours=self._settings.stale_hours):
            return None
        entry = self._promotion(known)
        return None if entry is None else (entry, known.time)

    def _promotion(self, known: _Remembered) -> Entry[Promoted] | None:
        entry = read_entry(known.latest.rstrip("\n").encode(), str(self._file))
        return cast("Entry[Promoted]", entry) if isinstance(entry.fact, Promoted) else None


def _now() -> str:
    return datetime.now(UTC).strftime(TIME)


def _digest(settings: Settings) -> str:
    """Of whose signatures count, and of the witnesses."""
    policy, witnesses = asdict(settings.signatures), settings.witnesses
    if witnesses.keys:
        policy["witnesses"] = [witnesses.required, *map(str, witnesses.keys)]
    return hashlib.sha256(canonical(policy)).hexdigest()


def _read(file: Path) -> _Remembered | None:
    if not file.exists():
        return None
    try:
        raw = read_bytes(file, "the memory of this registry")
        fields = Fields(parse_object(raw, str(file)), str(file))
        fields.refuse_unknown(_KEYS)
        unsigned, latest = fields.values["unsigned"], fields.values["latest"]
        texts = fields.texts(("hash", "policy", "time"))
        state = fields.values.get("state", "")
        if (
            not isinstance(unsigned, list)
            or not isinstance(latest, str)
            or not isinstance(state, str)
            or not is_time(texts["time"])
        ):
            raise KeyError
        return _Remembered(
            seq=fields.count("seq", least=1),
            unsigned=tuple(map(str, unsigned)),
            latest=latest,
            state=state,
            **texts,
        )
    except (BadInput, KeyError):
        raise BadInput(
            f"{file}: expected what an earlier 'lynx-pipeline registry verify' remembered. If you "
            "know that the registry is right, delete the file."
        ) from None
