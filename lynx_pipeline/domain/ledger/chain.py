"""The chain: facts as hashed, numbered lines, so that any change to the file shows.

One canonical JSON object (RFC 8785) per line. ``seq`` counts from 1; ``prev`` is the hash of the
entry before (null for the first); ``hash`` is the SHA-256 of the entry's canonical JSON without
``hash``. The newline commits a line: whatever follows the last newline was never committed and
may be dropped. Anything else that does not fit is damage and is refused, with its line number.

What an entry records is in :mod:`lynx_pipeline.domain.ledger.facts`, which entries are valid in
:mod:`lynx_pipeline.domain.ledger.state`. Reading and writing files is the stores' job.

The files of a promotion's evidence are kept beside the ledger under the digests that the entry
names: :func:`evidence_path`.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from lynx_pipeline.domain.ledger.facts import DIGEST_KEY, KEYS, Fact, read_fact, to_json
from lynx_pipeline.domain.ledger.usual_form import read_usual
from lynx_pipeline.domain.strict_json import Fields, JsonObject, canonical, parse_object
from lynx_pipeline.errors import BadInput

_DIGEST = re.compile(r"[0-9a-f]{64}")
_OLD_ENTRY_KEYS = frozenset(("seq", "prev", "hash", *KEYS))
_ENTRY_KEYS = _OLD_ENTRY_KEYS | {DIGEST_KEY}

if TYPE_CHECKING:
    from typing_extensions import TypeVar as _TypeVar

    F = _TypeVar("F", bound=Fact, covariant=True, default=Fact)
else:  # the default is only for type checkers, and the package that has it imports slowly
    F = TypeVar("F", bound=Fact, covariant=True)


@dataclass(frozen=True, slots=True)
class Entry(Generic[F]):
    """A committed fact, with its place in the chain: ``seq``, ``prev`` and ``hash``."""

    seq: int
    prev: str | None
    hash: str
    fact: F

    def to_json(self) -> JsonObject:
        """The entry's JSON value, every key present."""
        return {**_unsealed(self.seq, self.prev, self.fact), "hash": self.hash}

    def to_line(self) -> bytes:
        """The entry's line, newline included."""
        return canonical(self.to_json()) + b"\n"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far the ledger reached at some point: bytes, entries, and the last hash."""

    size: int
    seq: int
    hash: str

    def to_line(self) -> bytes:
        """Its canonical JSON, newline included."""
        return canonical({"size": self.size, "seq": self.seq, "hash": self.hash}) + b"\n"


@dataclass(frozen=True, slots=True)
class Ledger:
    """All committed entries, verified; ``size`` is their bytes, ``torn`` what follows them.
    ``signatures`` are the lines kept beside them, and ``checkpoints`` what is in the places of the
    witnesses with these names, of which nothing is verified yet. ``strays`` are things that
    somebody else put in the ledger's place, and that change nothing. ``state`` differs after
    a change of the ledger's files, or of its branch and tags."""

    entries: tuple[Entry, ...] = ()
    size: int = 0
    torn: int = 0
    signatures: bytes = b""
    strays: tuple[str, ...] = ()
    checkpoints: tuple[tuple[str, bytes], ...] = ()
    state: str = field(default="", compare=False)

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
            raise BadInput("the new entry would not read back equal, so it was not written.")
        return entry

    def checkpoint(self) -> Checkpoint | None:
        """How far the ledger reaches; None while it is empty."""
        if not self.entries:
            return None
        return Checkpoint(self.size, len(self.entries), self.entries[-1].hash)


def seal(seq: int, prev: str | None, fact: Fact) -> Entry:
    """The entry for ``fact`` at place ``seq`` after the entry with hash ``prev``."""
    return Entry(seq, prev, _hash(_unsealed(seq, prev, fact)), fact)


def hashed_bytes(entry: Entry) -> bytes:
    """What the entry's hash is the SHA-256 of: its line without the hash itself."""
    return canonical(_unsealed(entry.seq, entry.prev, entry.fact))


def read_checkpoint(raw: bytes, where: str) -> Checkpoint:
    """The checkpoint in ``raw``.

    Raises:
        BadInput: ``raw`` is not a checkpoint.
    """
    fields = Fields(parse_object(raw, where), where)
    fields.refuse_unknown(("size", "seq", "hash"))
    size, seq = fields.count("size", least=1), fields.count("seq", least=1)
    return Checkpoint(size, seq, fields.text("hash"))


def check_digest(raw: bytes | None, sha256: str, where: str) -> bytes:
    """``raw``, checked to be the evidence with this digest.

    Raises:
        BadInput: ``raw`` is None or has a different digest.
    """
    if raw is None or hashlib.sha256(raw).hexdigest() != sha256:
        found = "is missing" if raw is None else "was changed"
        raise BadInput(f"{where}: the evidence {evidence_path(sha256)} {found}. {ADVICE}")
    return raw


def evidence_path(sha256: str) -> str:
    """Path of a piece of evidence, relative to the ledger's folder.

    Raises:
        BadInput: ``sha256`` is not a SHA-256 in hex.
    """
    if not _DIGEST.fullmatch(sha256):
        raise BadInput(f"{sha256!r:.80} is not a SHA-256 in hex, so it cannot name evidence.")
    return f"evidence/{sha256[:2]}/{sha256}"


def parse_ledger(raw: bytes, where: str, remembered: Iterable[Checkpoint] = ()) -> Ledger:
    """Read the whole chain and verify it, also against the ``remembered`` checkpoints.

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
                f"expected seq {number}, prev {head}. {ADVICE}"
            )
        entries.append(entry)
        head = entry.hash
        size += len(line) + 1
        for checkpoint in expected.get(number, ()):
            _check_remembered(entry, size, checkpoint, here)
    most = max(expected, default=0)
    if len(entries) < most:
        raise BadInput(
            f"{where}, line {len(entries) + 1}: cut off: the ledger had {most} entries and "
            f"now has {len(entries)}. {ADVICE}"
        )
    return Ledger(tuple(entries), size, len(tail))


ADVICE = "Restore the registry from a copy that verifies; nothing was changed."


def _unsealed(seq: int, prev: str | None, fact: Fact) -> JsonObject:
    return {"seq": seq, "prev": prev, **to_json(fact)}


def _hash(value: JsonObject) -> str:
    return hashlib.sha256(canonical(value)).hexdigest()


def read_entry(line: bytes, here: str) -> Entry:
    """The entry in ``line`` (without its newline), its hash verified. ``here`` names the place.

    Raises:
        BadInput: it is damaged.
    """
    try:
        entry = _unverified(line, here)
    except BadInput as error:
        raise BadInput(f"{error} {ADVICE}") from None
    # Keys are sorted, so what was hashed is the line without its hash.
    member = b'"hash":"%b",' % entry.hash.encode()
    hashed = line.replace(member, b"", 1)
    if hashlib.sha256(hashed).hexdigest() != entry.hash:
        raise BadInput(f"{here}: its hash does not match its content. {ADVICE}")
    return entry


def _unverified(line: bytes, here: str) -> Entry:
    if found := read_usual(line):
        return Entry(*found)
    values = _canonical_object(line, here)
    fields = Fields(values, here)
    if values.keys() not in (_ENTRY_KEYS, _OLD_ENTRY_KEYS):
        fields.refuse_unknown(_ENTRY_KEYS)
        for key in _OLD_ENTRY_KEYS - values.keys():
            fields.fail(key, "a value or null", "nothing")
    fact = read_fact(fields)
    prev = fields.optional_text("prev")
    return Entry(fields.count("seq", least=1), prev, fields.text("hash"), fact)


def _canonical_object(line: bytes, here: str) -> JsonObject:
    """The object in ``line``, whose bytes are its RFC 8785 form."""
    values = parse_object(line, here, number=_number)
    if canonical(values) != line:
        raise BadInput(f"{here}: not in canonical form, so its bytes were changed.")
    return values


def _number(text: str) -> float:
    """A fraction in its one form."""
    value = float(text)
    if canonical(value).decode() != text:
        raise ValueError(f"the number {text:.40} is not in canonical form")
    return value


def _check_remembered(entry: Entry, size: int, remembered: Checkpoint, here: str) -> None:
    if entry.hash != remembered.hash or size != remembered.size:
        raise BadInput(
            f"{here}: differs from the entry that was here before: the checkpoint has hash "
            f"{remembered.hash} at byte {remembered.size}. {ADVICE}"
        )
