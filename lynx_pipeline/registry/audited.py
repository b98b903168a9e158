"""What an audit of a version says, and the part of it that the ledger alone answers."""

from collections.abc import Iterable
from dataclasses import dataclass

from lynx_pipeline.domain.gate.baseline import Baseline
from lynx_pipeline.domain.gate.rule import Verdict
from lynx_pipeline.domain.ledger.chain import Entry
from lynx_pipeline.domain.ledger.state import RegistryState


@dataclass(frozen=True, slots=True)
class Audit:
    """What is known about a version.

    ``entries`` are all that name it, ``promotion`` the one that counts. ``lineage`` are the
    promotions of its ancestors, nearest first, and ``oldest_parent`` the sha at which the
    registry knows no further. ``baseline`` holds the floors that counted, and ``verdict`` is the
    one worked out again; both are None where that can't be. ``findings`` empty means that
    everything holds; ``notes`` are other lines of the ledger that count for nothing.
    """

    entries: tuple[Entry, ...]
    promotion: Entry | None
    is_latest: bool
    lineage: tuple[Entry, ...]
    oldest_parent: str | None
    baseline: Baseline | None
    verdict: Verdict | None
    findings: tuple[str, ...]
    notes: tuple[str, ...]


def lineage(
    states: Iterable[RegistryState], promotion: Entry | None
) -> tuple[tuple[Entry, ...], str | None]:
    """The ancestors' promotions over ``parent_sha``, and the sha where the chain leaves us."""
    by_sha: dict[str, Entry] = {}
    for state in states:
        for entry in state.promoted.values():
            by_sha.setdefault(entry.fact.canonical_sha, entry)
    chain: dict[str, Entry] = {}
    parent = promotion.fact.parent_sha if promotion else None
    while parent is not None and parent in by_sha and parent not in chain:
        chain[parent] = by_sha[parent]
        parent = chain[parent].fact.parent_sha
    return tuple(chain.values()), parent
