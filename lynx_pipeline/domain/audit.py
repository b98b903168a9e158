"""What an audit of a version says, and the part of it that the ledger alone answers."""

from dataclasses import dataclass

from lynx_pipeline.domain.gate import Verdict
from lynx_pipeline.domain.ledger import PROMOTED, Entry, Ledger


@dataclass(frozen=True, slots=True)
class Audit:
    """What is known about a version.

    ``entries`` are all that name it, ``promotion`` the one that counts. ``lineage`` are the
    promotions of its ancestors, nearest first, and ``oldest_parent`` the sha at which the
    registry knows no further. ``verdict`` is the one worked out again, None where that can't
    be. ``findings`` empty means that everything holds.
    """

    entries: tuple[Entry, ...]
    promotion: Entry | None
    is_latest: bool
    lineage: tuple[Entry, ...]
    oldest_parent: str | None
    verdict: Verdict | None
    findings: tuple[str, ...]


def lineage(
    ledger: Ledger, model: str, promotion: Entry | None
) -> tuple[tuple[Entry, ...], str | None]:
    """The ancestors' promotions over ``parent_sha``, and the sha where the chain leaves us."""
    by_sha: dict[str, Entry] = {}
    for entry in ledger.entries:
        if entry.fact.event == PROMOTED and entry.fact.model == model:
            by_sha.setdefault(entry.fact.canonical_sha, entry)
    chain: list[Entry] = []
    parent = promotion.fact.parent_sha if promotion else None
    while parent is not None and parent in by_sha and by_sha[parent] not in chain:
        chain.append(by_sha[parent])
        parent = chain[-1].fact.parent_sha
    return tuple(chain), parent
