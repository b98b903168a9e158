"""A repair of a ledger's store that was planned, and what both stores say about it."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Repair:
    """What a repair would change, a line each; nothing if there is nothing to repair. ``notes`` say
    what no repair can change. ``apply`` changes it, all or nothing.

    ``apply`` raises SystemFailed if the store failed, or has changed since; then it is as it was.
    """

    changes: tuple[str, ...]
    notes: tuple[str, ...]
    apply: Callable[[], None]
