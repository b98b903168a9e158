"""What a damaged ledger can be repaired to: the longest chain that the reader's own trust vouches
for, put together from every line that still verifies.

A line proves itself by its hash, and names the entry before it. So lines that were moved, doubled
or inserted find their places again, and lines that are gone can come from older copies. What a
repair takes away from the end of a chain are entries that are ignored anyway. It never drops

- an entry that counts, or that later ones are chained to,
- an entry with a valid signature, or one that a checkpoint or a tag records, unless it is ignored,
- an entry that the settings name as a place in the chain.

If that is impossible, the repair is refused. Reading and writing the stores is theirs.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import NamedTuple

from lynx_pipeline.domain.ledger.chain import ADVICE, Entry, Ledger, read_entry
from lynx_pipeline.domain.ledger.signatures import (
    NO_KEY,
    NOT_SIGNED,
    OTHER_KEY,
    TABLE,
    signed_hashes,
    unsigned_entries,
)
from lynx_pipeline.domain.release.signing import SigningPolicy
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.errors import BadInput, Refused

_RESTORE = "Restore the registry from a copy that verifies."


class Line(NamedTuple):
    """A line that verifies, newline included."""

    entry: Entry
    raw: bytes


class Pool:
    """Every line that was found and verifies: ``lines`` by their entries' hashes. With ``model``,
    entries about other models are ``foreign``, by hash, each with the reason."""

    def __init__(self, model: str | None = None) -> None:
        self.lines: dict[str, Line] = {}
        self.foreign: dict[str, str] = {}
        self._model = model
        self._seen: set[bytes] = set()

    def add(self, raw: bytes) -> None:
        """Add the lines in ``raw`` that verify, wherever they are."""
        for line in raw.split(b"\n"):
            if line in self._seen:
                continue
            self._seen.add(line)
            with suppress(BadInput):
                entry = read_entry(line, "a line")
                if self._model in (None, entry.fact.model):
                    self.lines[entry.hash] = Line(entry, line + b"\n")
                else:
                    self.foreign[entry.hash] = f"it is about the model {entry.fact.model!r}"


@dataclass(frozen=True, slots=True)
class Trust:
    """What the repairing reader trusts: its ``policy``; ``ignored`` finds a ledger's ignored
    entries, each with the reason, and raises BadInput if the ledger contradicts what the reader
    remembers. Without ``judges_prod`` it remembers nothing of ``prod``, and no entry in ``prod`` is
    removed. ``remembered`` is the hash of the last entry that it remembers, ``line`` that of the
    latest promotion that it knows."""

    policy: SigningPolicy
    ignored: Callable[[Ledger], Sequence[tuple[Entry, str]]]
    judges_prod: bool = True
    remembered: str | None = None
    line: bytes = b""


@dataclass(frozen=True, slots=True)
class Best:
    """The ledger to repair to. ``reasons`` say why other entries are not part of it, by hash;
    ``ignored`` are those that are and stay ignored, because later ones are chained to them."""

    lines: tuple[Line, ...]
    reasons: dict[str, str]
    ignored: tuple[tuple[Entry, str], ...]

    @property
    def raw(self) -> bytes:
        """The bytes of the ledger."""
        return b"".join(line.raw for line in self.lines)

    @property
    def ledger(self) -> Ledger:
        """The ledger, without signatures."""
        return Ledger(tuple(it.entry for it in self.lines), len(self.raw))

    @property
    def hashes(self) -> frozenset[str]:
        """The hashes of its entries."""
        return frozenset(line.entry.hash for line in self.lines)


def best_ledger(
    pool: Pool, signatures: bytes, recorded: Mapping[str, str], trust: Trust, *, orphans: bool
) -> Best:
    """The best ledger that the lines in ``pool`` make. ``recorded`` are the hashes of the entries
    that checkpoints or tags name, each with who names it. ``orphans`` says whether a valid
    signature proves that its entry was once part of the ledger.

    Raises:
        Refused: it would lose an entry that a signature or a record vouches for.
        BadInput: no ledger extends what this reader remembers, or the policy is invalid.
    """
    signed = signed_hashes(signatures, trust.policy)
    vouched = {it: "a valid signature" for it in signed if orphans or it in pool.lines}
    vouched |= recorded
    if trust.remembered is not None:
        vouched[trust.remembered] = "what this reader remembers"
    chains = list(_chains(pool.lines.values()))
    best, most = None, (-1, -1)
    reasons = dict(pool.foreign)
    problem: BadInput | None = None
    for chain in chains:
        try:
            kept, ignored, dropped = _trimmed(chain, signatures, recorded, vouched, trust)
        except BadInput as error:
            problem = error
            continue
        reasons |= dropped
        worth = (sum(it.entry.hash in vouched for it in kept), len(kept))
        if worth > most:
            best, most = Best(kept, reasons, tuple(ignored)), worth
    if best is None:
        raise problem or BadInput(f"nothing that verifies is left of the ledger. {ADVICE}")
    if OTHER_KEY in reasons.values() and not signed & best.hashes:
        raise Refused(
            f"no entry has a signature by a key in {TABLE}, so all would be removed. Check the "
            "keys."
        )
    _check_records(pool, best, vouched)
    _explain_the_others(pool, best, chains, vouched)
    return best


def _chains(lines: Iterable[Line]) -> Iterator[tuple[Line, ...]]:
    """Every chain from a first entry to a last one."""
    followers: dict[tuple[int, str | None], list[Line]] = defaultdict(list)
    for line in lines:
        followers[line.entry.seq, line.entry.prev].append(line)
    open_chains: list[tuple[Line, ...]] = [(first,) for first in followers[1, None]]
    while open_chains:
        grown = list(open_chains.pop())
        while True:
            last = grown[-1].entry
            following = followers.get((last.seq + 1, last.hash), [])
            if not following:
                break
            open_chains += [(*grown, other) for other in following[1:]]
            grown.append(following[0])
        yield tuple(grown)


def _trimmed(
    chain: tuple[Line, ...],
    signatures: bytes,
    recorded: Collection[str],
    vouched: Collection[str],
    trust: Trust,
) -> tuple[tuple[Line, ...], list[tuple[Entry, str]], dict[str, str]]:
    """The chain without the ignored entries at its end, those that stay ignored in it, and why the
    others are gone. What nothing vouches for goes with an ignored entry that it is chained to."""
    size = sum(len(line.raw) for line in chain)
    ledger = Ledger(tuple(line.entry for line in chain), size, signatures=signatures)
    ignored = list(trust.ignored(ledger))
    why = {entry.hash: reason for entry, reason in ignored}
    places = {trust.policy.unsigned_until, *(key.until for key in trust.policy.keys)}

    def stays(entry: Entry) -> bool:
        if entry.hash in places or (entry.fact.env is Env.PROD and not trust.judges_prod):
            return True
        return why.get(entry.hash) == NO_KEY or (entry.hash in vouched and entry.hash not in why)

    is_recorded = any(line.entry.hash in recorded for line in chain)
    start = 0
    for number, line in enumerate(chain, start=1):
        # Without a record nothing says where the right ledger ends, so what is valid stays.
        if stays(line.entry) or not (is_recorded or line.entry.hash in why):
            start = number
    ends = (it for it in range(start, len(chain)) if chain[it].entry.hash in why)
    end = next(ends, len(chain))
    gone = {
        entry.hash: why.get(entry.hash, f"it is chained to entry {end + 1}, which is removed")
        for entry, _ in chain[end:]
    }
    return chain[:end], [pair for pair in ignored if pair[0].hash not in gone], gone


def _check_records(pool: Pool, best: Best, vouched: Mapping[str, str]) -> None:
    """Check that every entry that something vouches for is kept, or is ignored.

    Raises:
        Refused: one would be lost.
    """
    for hashed in sorted(vouched.keys() - best.hashes - best.reasons.keys()):
        line = pool.lines.get(hashed)
        if line is None:
            raise Refused(
                f"{vouched[hashed]} names an entry with the hash {hashed}, which can't be found "
                f"any more. {_RESTORE}"
            )
        raise Refused(
            f"{vouched[hashed]} names {describe(line.entry)}, and it can't be kept: an entry "
            f"before it can't be found any more, or there are two ledgers. {_RESTORE}"
        )


def _explain_the_others(
    pool: Pool, best: Best, chains: Iterable[tuple[Line, ...]], vouched: Collection[str]
) -> None:
    """Add the reasons why other lines that verify are not part of the ledger.

    Raises:
        Refused: nothing vouches for any entry of the ledger, so they may be what is left of the
            right one.
    """
    known = any(line.entry.hash in vouched for line in best.lines)
    places: dict[str, int] = {}
    for chain in chains:
        parts = (it for it, (a, b) in enumerate(zip(chain, best.lines, strict=False)) if a != b)
        place = next(parts, len(best.lines))
        places |= {line.entry.hash: place + 1 for line in chain[place:]}
    kept = best.hashes
    for hashed, (entry, _) in pool.lines.items():
        if hashed in kept or hashed in best.reasons:
            continue
        if not known:
            raise Refused(
                f"{describe(entry)} verifies, and can't be kept: an entry before it is missing, or "
                f"another one is in its place. {_RESTORE}"
            )
        place = places.get(hashed, entry.seq)
        best.reasons[hashed] = (
            f"entry {place} of this ledger has the hash {best.lines[place - 1].entry.hash}"
            if place <= len(best.lines)
            else "it is chained to an entry that is not here"
        )


def changed_lines(raw: bytes, best: Best) -> list[str]:
    """What a repair does to the lines of ``raw``, in order."""
    *lines, torn = raw.split(b"\n")
    kept = best.hashes
    changes: list[str] = []
    seen: dict[str, None] = {}
    for number, line in enumerate(lines, start=1):
        try:
            entry = read_entry(line, f"line {number}")
        except BadInput as error:
            changes.append(f"remove {str(error).removesuffix(ADVICE).rstrip(' .')}")
            continue
        if entry.hash not in kept:
            changes.append(f"remove line {number}, {describe(entry)}: {best.reasons[entry.hash]}")
        elif entry.hash in seen:
            changes.append(f"remove line {number}, {describe(entry)}: it is there twice")
        else:
            seen[entry.hash] = None
    missing = [line.entry for line in best.lines if line.entry.hash not in seen]
    changes += [f"restore {describe(entry)}" for entry in missing]
    if list(seen) != [line.entry.hash for line in best.lines if line.entry.hash in seen]:
        changes.append("put the lines back in order")
    if torn:
        changes.append(f"remove the incomplete line {len(lines) + 1}")
    return changes


def describe(entry: Entry) -> str:
    """The entry in a few words."""
    fact = entry.fact
    what = fact.semver or fact.canonical_sha[:12]
    return f"entry {entry.seq} ({fact.event} {what} in {fact.env})"


def remaining(best: Best, signatures: bytes, trust: Trust) -> tuple[str, ...]:
    """What a repair can't change, in words."""
    known = {entry.hash for entry, _ in best.ignored}
    ledger = replace(best.ledger, signatures=signatures)
    unsigned = unsigned_entries(ledger, trust.policy)
    return (
        *(f"{describe(entry)} stays, and is ignored: {reason}" for entry, reason in best.ignored),
        *(
            f"{describe(entry)} counts here only because it was verified before: {reason}. Restore "
            "its signature from a backup"
            for entry, _ in best.lines
            if entry.hash not in known
            for reason in [unsigned.get(entry.hash)]
            if reason == NOT_SIGNED
        ),
    )
