"""The ledger: what was registered, promoted and rolled back, as a chain of facts.

One canonical JSON object (RFC 8785) a line. ``seq`` counts from 1; ``prev`` is the hash of
the entry before (null for the first); ``hash`` is the SHA-256 of the entry's canonical JSON
without ``hash``. A line is committed by its newline: what follows the last newline was never
committed and may be dropped. Anything else that is off is damage, and refused by line.

State is a fold over the entries. Production sees only entries written in ``prod`` under a
production version, whatever else the file holds. Reading and writing files is the store's.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lynx_pipeline.domain.strict_json import Fields, JsonObject, canonical, parse_object
from lynx_pipeline.domain.versioning import Env, Version, check_semver
from lynx_pipeline.errors import BadInput, Refused

REGISTERED = "registered"
PROMOTED = "promoted"
ROLLED_BACK = "rolled_back"

_KEYS = frozenset(
    (
        *("seq", "prev", "hash", "time", "env", "event", "model", "mlflow_run_id"),
        *("artifact_uri", "canonical_sha", "parent_sha", "semver", "evidence", "cpqu", "actor"),
    )
)


@dataclass(frozen=True, slots=True)
class Fact:
    """What an entry says, before it has its place in the chain.

    ``evidence`` holds the digests a promotion rests on; None only on the dev escape hatch.
    ``actor`` holds the verified identity's claims; None where nobody was verified.
    """

    time: str
    env: Env
    event: str
    model: str
    mlflow_run_id: str | None
    artifact_uri: str | None
    canonical_sha: str
    parent_sha: str | None = None
    semver: str | None = None
    evidence: Mapping[str, Any] | None = None
    cpqu: float | str | None = None
    actor: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """A fact in its place: committed, with ``seq``, ``prev`` and ``hash``."""

    seq: int
    prev: str | None
    hash: str
    fact: Fact

    def to_json(self) -> JsonObject:
        """The entry's JSON value, every key present."""
        return {**_unsealed(self.seq, self.prev, self.fact), "hash": self.hash}

    def to_line(self) -> bytes:
        """The entry's line, newline included."""
        return canonical(self.to_json()) + b"\n"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far the ledger was once known to reach: bytes, entries, and the last hash."""

    size: int
    seq: int
    hash: str


@dataclass(frozen=True, slots=True)
class Ledger:
    """All committed entries, verified; ``size`` is their bytes, ``torn`` what follows them."""

    entries: tuple[Entry, ...] = ()
    size: int = 0
    torn: int = 0

    @property
    def head(self) -> str | None:
        """The last entry's hash."""
        return self.entries[-1].hash if self.entries else None

    def next_entry(self, fact: Fact) -> Entry:
        """``fact`` sealed as the entry that comes next.

        Raises:
            BadInput: it would not read back equal, and so damage the ledger.
        """
        entry = seal(len(self.entries) + 1, self.head, fact)
        if _unverified(entry.to_line()[:-1], "the new entry") != entry:
            raise BadInput("the new entry would not read back as it is. Nothing was changed.")
        return entry

    def checkpoint(self) -> Checkpoint | None:
        """What to remember of this ledger; None while it is empty."""
        if not self.entries:
            return None
        return Checkpoint(self.size, len(self.entries), self.entries[-1].hash)


def seal(seq: int, prev: str | None, fact: Fact) -> Entry:
    """The entry for ``fact`` at place ``seq`` after the entry with hash ``prev``."""
    return Entry(seq, prev, _hash(_unsealed(seq, prev, fact)), fact)


def parse_ledger(raw: bytes, where: str, remembered: Checkpoint | None = None) -> Ledger:
    """Read and verify the whole chain, and that it extends what was ``remembered``.

    Raises:
        BadInput: a line is damaged, out of place, or cut off; the message names the line.
    """
    *lines, tail = raw.split(b"\n")
    entries: list[Entry] = []
    size = 0
    head: str | None = None
    for number, line in enumerate(lines, start=1):
        here = f"{where}, line {number}"
        entry = _read_entry(line, here)
        if entry.seq != number or entry.prev != head:
            raise BadInput(
                f"{here}: out of place: seq {entry.seq}, prev {entry.prev}; "
                f"expected seq {number}, prev {head}. {_ADVICE}"
            )
        entries.append(entry)
        head = entry.hash
        size += len(line) + 1
        if remembered and entry.seq == remembered.seq:
            _same_as_remembered(entry, size, remembered, here)
    if remembered and len(entries) < remembered.seq:
        raise BadInput(
            f"{where}, line {len(entries) + 1}: cut off: the ledger once had {remembered.seq} "
            f"entries and has {len(entries)}. {_ADVICE}"
        )
    return Ledger(tuple(entries), size, len(tail))


@dataclass(frozen=True, slots=True)
class State:
    """What holds now in one environment: a fold over its entries.

    ``registered`` by canonical sha, ``promoted`` by semver, ``latest`` is what resolves.
    """

    registered: Mapping[str, Entry] = field(default_factory=dict)
    promoted: Mapping[str, Entry] = field(default_factory=dict)
    latest: Entry | None = None


def fold(ledger: Ledger, env: Env) -> State:
    """The state of ``env``. Entries of other environments, or whose semver can't count in
    ``env``, do not."""
    registered: dict[str, Entry] = {}
    promoted: dict[str, Entry] = {}
    latest: Entry | None = None
    for entry in ledger.entries:
        fact = entry.fact
        if fact.env is not env:
            continue
        if fact.event == REGISTERED:
            registered[fact.canonical_sha] = entry
        elif fact.semver is not None and _counts(fact.semver, env):
            if fact.event == PROMOTED:
                promoted[fact.semver] = latest = entry
            else:
                latest = promoted.get(fact.semver, latest)
    return State(registered, promoted, latest)


def check_promotion(ledger: Ledger, env: Env, canonical_sha: str, semver: str) -> Entry | None:
    """Whether ``semver`` may name ``canonical_sha`` now.

    Returns:
        The entry that already says so, or None if the promotion is new.

    Raises:
        BadInput: ``semver`` is none for this environment.
        Refused: it names another bundle, or is not greater than every production version.
    """
    version = check_semver(semver, env)
    for entry in ledger.entries:
        fact = entry.fact
        if fact.event == PROMOTED and fact.semver == semver:
            if fact.canonical_sha == canonical_sha and fact.env is env:
                return entry
            raise Refused(
                f"{semver} already names the bundle {fact.canonical_sha[:12]} "
                f"(entry {entry.seq}); a version is never reused. Choose a new one."
            )
    if env is Env.PROD:
        newest = max((_version(s, env) for s in fold(ledger, env).promoted), default=None)
        if newest is not None and version <= newest:
            raise Refused(
                f"{semver} is not greater than v{newest.major}.{newest.minor}.{newest.patch}, "
                "the newest version promoted in prod. Choose a greater one."
            )
    return None


_ADVICE = "Restore the registry from a copy that verifies; nothing was changed."


def _version(semver: str, env: Env) -> Version:
    return check_semver(semver, env)


def _counts(semver: str, env: Env) -> bool:
    try:
        check_semver(semver, env)
    except BadInput:
        return False
    return True


def _unsealed(seq: int, prev: str | None, fact: Fact) -> JsonObject:
    return {
        "seq": seq,
        "prev": prev,
        "time": fact.time,
        "env": fact.env.value,
        "event": fact.event,
        "model": fact.model,
        "mlflow_run_id": fact.mlflow_run_id,
        "artifact_uri": fact.artifact_uri,
        "canonical_sha": fact.canonical_sha,
        "parent_sha": fact.parent_sha,
        "semver": fact.semver,
        "evidence": None if fact.evidence is None else dict(fact.evidence),
        "cpqu": fact.cpqu,
        "actor": None if fact.actor is None else dict(fact.actor),
    }


def _hash(value: JsonObject) -> str:
    return hashlib.sha256(canonical(value)).hexdigest()


def _read_entry(line: bytes, here: str) -> Entry:
    try:
        entry = _unverified(line, here)
    except BadInput as error:
        raise BadInput(f"{error} {_ADVICE}") from None
    if _hash(_unsealed(entry.seq, entry.prev, entry.fact)) != entry.hash:
        raise BadInput(f"{here}: its hash is not the hash of what it says. {_ADVICE}")
    return entry


def _unverified(line: bytes, here: str) -> Entry:
    values = parse_object(line, here, number=float)
    fields = Fields(values, here)
    fields.only(_KEYS)
    for key in _KEYS - set(values):
        fields.fail(key, "a value or null", "nothing")
    fact = _read_fact(fields)
    prev = fields.optional_text("prev")
    entry = Entry(fields.count("seq", least=1), prev, fields.text("hash"), fact)
    if canonical(values) != line:
        raise BadInput(f"{here}: not in canonical form: its bytes were changed.")
    return entry


def _read_fact(fields: Fields) -> Fact:
    event = fields.text("event")
    if event not in (REGISTERED, PROMOTED, ROLLED_BACK):
        fields.fail("event", f"{REGISTERED}, {PROMOTED} or {ROLLED_BACK}", repr(event))
    env = fields.text("env")
    if env not in tuple(Env):
        fields.fail("env", "dev or prod", repr(env))
    cpqu = fields.values["cpqu"]
    if not isinstance(cpqu, float | int | str | None) or isinstance(cpqu, bool):
        fields.fail("cpqu", "a number, text or null", repr(cpqu))
    semver = fields.optional_text("semver")
    if (semver is None) is not (event == REGISTERED):
        fields.fail("semver", "a version exactly where something was promoted", repr(semver))
    return Fact(
        time=fields.text("time"),
        env=Env(env),
        event=event,
        model=fields.text("model"),
        mlflow_run_id=fields.optional_text("mlflow_run_id"),
        artifact_uri=fields.optional_text("artifact_uri"),
        canonical_sha=fields.text("canonical_sha"),
        parent_sha=fields.optional_text("parent_sha"),
        semver=semver,
        evidence=_optional_object(fields, "evidence"),
        cpqu=cpqu,
        actor=_optional_object(fields, "actor"),
    )


def _optional_object(fields: Fields, key: str) -> JsonObject | None:
    return None if fields.values[key] is None else fields.object(key)


def _same_as_remembered(entry: Entry, size: int, remembered: Checkpoint, here: str) -> None:
    if entry.hash != remembered.hash or size != remembered.size:
        raise BadInput(
            f"{here}: is not the entry that stood here: the checkpoint remembers hash "
            f"{remembered.hash} at byte {remembered.size}. {_ADVICE}"
        )
