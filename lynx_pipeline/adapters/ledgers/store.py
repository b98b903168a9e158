"""The port that both ledger stores implement."""

from collections.abc import Callable, Iterable
from typing import Generic, NamedTuple, Protocol

from lynx_pipeline.domain.ledger.chain import Entry, F, Ledger
from lynx_pipeline.domain.ledger.facts import Fact

# Given the ledger as it is: the fact to append, or the entry that already records it.
Decision = Callable[[Ledger], Fact | Entry]
# The lines of the signatures for a new entry, its own last; None if it needs none.
Sign = Callable[[Entry], bytes | None]


def unsigned(entry: Entry) -> None:
    """Signs nothing: dev's entries need no signature."""


class Recorded(NamedTuple, Generic[F]):
    """An entry, and whether this call appended it; otherwise it was there before."""

    entry: Entry[F]
    is_new: bool


class Store(Protocol):
    """Where a ledger is kept."""

    def read(self) -> Ledger:
        """The verified ledger; empty if there is none yet."""

    def state(self) -> str:
        """The ``state`` that :meth:`read` would return now, without verifying anything."""

    def append(
        self, decide: Decision, evidence: Iterable[bytes] = (), sign: Sign = unsigned
    ) -> Recorded:
        """Append the fact that ``decide`` returns for the current ledger, and keep ``evidence`` and
        the entry's signature.

        ``decide`` and ``sign`` may raise; then nothing is written. They are called again if another
        process was faster.
        """

    def evidence(self, sha256: str) -> bytes:
        """A piece of kept evidence, by its digest."""
