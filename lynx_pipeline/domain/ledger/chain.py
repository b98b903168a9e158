"""The ledger: what was registered, promoted and rolled back, as a chain of facts.

One canonical JSON object (RFC 8785) a line. ``seq`` counts from 1; ``prev`` is the hash of
the entry before (null for the first); ``hash`` is the SHA-256 of the entry's canonical JSON
without ``hash``. A line is committed by its newline: what follows the last newline was never
committed and may be dropped. Anything else that is off is damage, and refused by line.

Which entries count, and what holds now, :mod:`lynx_pipeline.domain.ledger.state` says. Reading and
writing files is the store's.

The files that a promotion's evidence consists of are kept beside the ledger under the digests
that the entry names: :func:`evidence_path`.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from lynx_pipeline.domain.strict_json import Fields, JsonObject, canonical, parse_object
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.errors import BadInput

REGISTERED = "registered"
PROMOTED = "promoted"
ROLLED_BACK = "rolled_back"
# What a promotion keeps beside the ledger; its evidence names each as ``<name>_sha256``.
EVIDENCE_FILES = ("baseline", "candidate_eval", "predictions")
DIGEST = re.compile(r"[0-9a-f]{64}")
TIME = "%Y-%m-%dT%H:%M:%SZ"
_TIME_FORM = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")

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

    def to_line(self) -> bytes:
        """Its canonical JSON, newline included."""
        return canonical({"size": self.size, "seq": self.seq, "hash": self.hash}) + b"\n"


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
        line = entry.to_line()[:-1]
        values = parse_object(line, "the new entry", number=float)
        if canonical(values) != line or _unverified(line, "the new entry") != entry:
            raise BadInput("the new entry would not read back as it is. Nothing was changed.")
        return entry

    def checkpoint(self) -> Checkpoint | None:
        """What to remember of this ledger; None while it is empty."""
        if not self.entries:
            return None
        return Checkpoint(self.size, len(self.entries), self.entries[-1].hash)


# What a store's append asks: given the ledger as it is, the fact to append, or the entry that
# already holds it.
Decision = Callable[[Ledger], Fact | Entry]


class Store(Protocol):
    """Where a ledger is kept. Both stores read, append and keep evidence alike."""

    def read(self) -> Ledger:
        """The verified ledger; empty if there is none yet."""

    def append(self, decide: Decision, evidence: Iterable[bytes] = ()) -> Entry:
        """Append what ``decide`` says of the ledger as it is then, and keep ``evidence``."""

    def evidence(self, sha256: str) -> bytes:
        """A piece of kept evidence, by its digest."""


def seal(seq: int, prev: str | None, fact: Fact) -> Entry:
    """The entry for ``fact`` at place ``seq`` after the entry with hash ``prev``."""
    return Entry(seq, prev, _hash(_unsealed(seq, prev, fact)), fact)


def read_checkpoint(raw: bytes, where: str) -> Checkpoint:
    """The checkpoint that ``raw`` holds.

    Raises:
        BadInput: it holds none.
    """
    fields = Fields(parse_object(raw, where), where)
    fields.only(("size", "seq", "hash"))
    size, seq = fields.count("size", least=1), fields.count("seq", least=1)
    return Checkpoint(size, seq, fields.text("hash"))


def check_digest(raw: bytes | None, sha256: str, where: str) -> bytes:
    """``raw``, if it is the piece of evidence with this digest.

    Raises:
        BadInput: it is None, or its digest is another.
    """
    if raw is None or hashlib.sha256(raw).hexdigest() != sha256:
        found = "is gone" if raw is None else "was changed"
        raise BadInput(f"{where}: the evidence {evidence_path(sha256)} {found}. {_ADVICE}")
    return raw


def evidence_path(sha256: str) -> str:
    """Where a piece of evidence is kept, relative to the ledger's folder.

    Raises:
        BadInput: ``sha256`` is no such digest, so it names no place.
    """
    if not DIGEST.fullmatch(sha256):
        raise BadInput(f"{sha256!r:.80} is not a SHA-256 in hex, so it names no evidence.")
    return f"evidence/{sha256[:2]}/{sha256}"


def parse_ledger(raw: bytes, where: str, remembered: Iterable[Checkpoint] = ()) -> Ledger:
    """Read and verify the whole chain, and that it extends all that is ``remembered`` of it.

    Raises:
        BadInput: a line is damaged, out of place, or cut off; the message names the line.
    """
    expected: dict[int, list[Checkpoint]] = {}
    for checkpoint in remembered:
        expected.setdefault(checkpoint.seq, []).append(checkpoint)
    *lines, tail = raw.split(b"\n")
    entries: list[Entry] = []
    size = 0
    head: str | None = None
    for number, line in enumerate(lines, start=1):
        here = f"{where}, line {number}"
        entry = read_entry(line, here)
        if entry.seq != number or entry.prev != head:
            raise BadInput(
                f"{here}: out of place: seq {entry.seq}, prev {entry.prev}; "
                f"expected seq {number}, prev {head}. {_ADVICE}"
            )
        entries.append(entry)
        head = entry.hash
        size += len(line) + 1
        for checkpoint in expected.get(number, ()):
            _same_as_remembered(entry, size, checkpoint, here)
    most = max(expected, default=0)
    if len(entries) < most:
        raise BadInput(
            f"{where}, line {len(entries) + 1}: cut off: the ledger once had {most} entries and "
            f"has {len(entries)}. {_ADVICE}"
        )
    return Ledger(tuple(entries), size, len(tail))


_ADVICE = "Restore the registry from a copy that verifies; nothing was changed."


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


def read_entry(line: bytes, here: str) -> Entry:
    try:
        entry = _unverified(line, here)
    except BadInput as error:
        raise BadInput(f"{error} {_ADVICE}") from None
    # Keys are sorted, so what was hashed is the line without its hash.
    member = b'"hash":"%b",' % entry.hash.encode()
    hashed = line.replace(member, b"", 1)
    if hashlib.sha256(hashed).hexdigest() != entry.hash:
        raise BadInput(f"{here}: its hash is not the hash of what it says. {_ADVICE}")
    return entry


def _unverified(line: bytes, here: str) -> Entry:
    values = parse_object(line, here, number=_number)
    fields = Fields(values, here)
    if values.keys() != _KEYS:
        fields.only(_KEYS)
        for key in _KEYS - values.keys():
            fields.fail(key, "a value or null", "nothing")
    fact = _read_fact(fields)
    prev = fields.optional_text("prev")
    entry = Entry(fields.count("seq", least=1), prev, fields.text("hash"), fact)
    if not _is_canonical(values, line):
        raise BadInput(f"{here}: not in canonical form: its bytes were changed.")
    return entry


_QUICK = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"))
_SHORT_EXPONENT = re.compile(r"e-0(?=[0-9])")  # 1e-07 is 1e-7 in RFC 8785


def _number(text: str) -> float:
    """A fraction in its one form. Python and RFC 8785 agree but for powers and whole numbers."""
    value = float(text)
    agree = text == repr(value) and "e" not in text and not text.endswith(".0")
    if not agree and canonical(value).decode() != text:
        raise ValueError(f"the number {text:.40} is not in canonical form")
    return value


def _is_canonical(values: JsonObject, line: bytes) -> bool:
    """Whether ``line``, whose numbers are, is the RFC 8785 form. For nearly all lines the standard
    library writes the same bytes, thirty times as fast; else the real form is worked out."""
    quick = _SHORT_EXPONENT.sub("e-", _QUICK.encode(values)).encode()
    return quick == line or canonical(values) == line


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
    time = fields.text("time")
    if not _is_time(time):
        fields.fail("time", "UTC as 2025-01-02T03:04:05Z", repr(time))
    return Fact(
        time=time,
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


def _is_time(text: str) -> bool:
    try:
        return bool(_TIME_FORM.fullmatch(text)) and datetime.fromisoformat(text) is not None
    except ValueError:
        return False


def _optional_object(fields: Fields, key: str) -> JsonObject | None:
    return None if fields.values[key] is None else fields.object(key)


def _same_as_remembered(entry: Entry, size: int, remembered: Checkpoint, here: str) -> None:
    if entry.hash != remembered.hash or size != remembered.size:
        raise BadInput(
            f"{here}: is not the entry that stood here: the checkpoint remembers hash "
            f"{remembered.hash} at byte {remembered.size}. {_ADVICE}"
        )
