"""The registry: the only place where production changes.

:class:`Registry` is opened once per process. The functions below open it for one call.
"""

from collections.abc import Iterator
from pathlib import Path

from lynx_pipeline.adapters.ledgers.store import Recorded
from lynx_pipeline.domain.ledger.chain import Entry, Ledger
from lynx_pipeline.domain.ledger.facts import Promoted, Registered, RolledBack
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.registry import fetching
from lynx_pipeline.registry.answers import Resolved, Stale
from lynx_pipeline.registry.fetching import Fetched
from lynx_pipeline.registry.ignored import IgnoredEntries
from lynx_pipeline.registry.registry import NotTheCIPath, Registry

__all__ = [
    "Fetched",
    "IgnoredEntries",
    "NotTheCIPath",
    "Recorded",
    "Registry",
    "Resolved",
    "Stale",
    "fetch",
    "history",
    "promote",
    "register_pending",
    "resolve",
    "rollback",
    "verify",
]


def register_pending(run_id: str, name: str | None = None) -> Recorded[Registered]:
    """See :meth:`Registry.register_pending`."""
    return Registry.open().register_pending(run_id, name)


def promote(
    canonical_sha: str, semver: str, *, evidence: Path | None = None, candidate: str | None = None
) -> Recorded[Promoted]:
    """See :meth:`Registry.promote`."""
    return Registry.open().promote(canonical_sha, semver, evidence=evidence, candidate=candidate)


def rollback(semver: str) -> Recorded[Promoted | RolledBack]:
    """See :meth:`Registry.rollback`."""
    return Registry.open().rollback(semver)


def resolve(version: str = "latest") -> Resolved:
    """See :meth:`Registry.resolve`."""
    return Registry.open().resolve(version)


def fetch(version: str, to: Path) -> Fetched:
    """See :func:`lynx_pipeline.registry.fetching.fetch`."""
    return fetching.fetch(Registry.open(), version, to)


def history(env: Env | None = None) -> Iterator[Entry]:
    """See :meth:`Registry.history`."""
    return Registry.open().history(env)


def verify() -> Ledger:
    """See :meth:`Registry.verify`."""
    return Registry.open().verify()
