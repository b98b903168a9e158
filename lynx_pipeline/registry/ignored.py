"""Entries that are ignored: which they are, and a warning if there are some after those that count.

Whoever can write to the registry's store can add an entry. Without a valid signature it is ignored
in ``prod``, and somebody should look at it.
"""

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING

from lynx_pipeline.domain.ledger.chain import Ledger
from lynx_pipeline.domain.ledger.state import RegistryState, broken_rules
from lynx_pipeline.domain.text import number_of, printable

if TYPE_CHECKING:
    from lynx_pipeline.registry.registry import Registry

_MOST = 3


class IgnoredEntries(UserWarning):
    """The registry has entries after the latest one that counts, and they are ignored. The command
    line always shows this warning."""


def ignored_entries(registry: "Registry", ledger: Ledger) -> Mapping[str, str]:
    """The ignored entries of the whole ledger, in order: their hashes, each with the reason.

    Raises:
        BadInput: the policy is invalid, or the ledger contradicts what was verified before.
    """
    return {entry.hash: reason for entry, reason in broken_rules(ledger, registry.unsigned(ledger))}


def warn_of_ignored(state: RegistryState) -> None:
    """Warn if there are ignored entries after the one that made the latest version so."""
    last = 0 if state.since is None else state.since.seq
    later = [(entry, reason) for entry, reason in state.ignored if entry.seq > last]
    if not later:
        return
    listed = "; ".join(
        f"line {entry.seq}, {entry.fact.event} {entry.fact.semver}: {reason.rstrip('.')}"
        for entry, reason in later[:_MOST]
    )
    more = f"; and {len(later) - _MOST} more" if len(later) > _MOST else ""
    warnings.warn(
        f"{number_of(len(later), 'entry', 'entries')} after the latest valid one "
        f"{'is' if len(later) == 1 else 'are'} ignored ({printable(listed)}{more}). Somebody else "
        "may have pushed there: run 'lynx-pipeline registry verify'.",
        IgnoredEntries,
        stacklevel=3,
    )
