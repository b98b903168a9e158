"""Repairing a damaged registry: what an administrator can do, and what would be lost.

A repair promotes nothing and makes no entry count. It needs write access to the store, and no
identity of a workflow. The rules are in :mod:`lynx_pipeline.domain.ledger.repair`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from lynx_pipeline.adapters.ledgers import directory_repair, git_repair
from lynx_pipeline.adapters.ledgers.directory import DirectoryLedger
from lynx_pipeline.adapters.ledgers.git import GitLedger
from lynx_pipeline.adapters.ledgers.repair import Repair
from lynx_pipeline.domain.ledger.chain import Entry, Ledger
from lynx_pipeline.domain.ledger.repair import Trust
from lynx_pipeline.domain.ledger.state import broken_rules
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.registry.memory import Memory
from lynx_pipeline.registry.registry import Registry


@contextmanager
def planned_repair(registry: Registry) -> Iterator[Repair]:
    """What a repair of the registry would change. It can be applied within the block.

    Raises:
        Refused: it would lose an entry.
        BadInput: nothing that verifies is left, no ledger extends what this reader remembers, or a
            setting or the memory is invalid.
        SystemFailed: the store failed.
    """

    def ignored(ledger: Ledger) -> Sequence[tuple[Entry, str]]:
        return broken_rules(ledger, registry.unsigned(ledger))

    settings = registry.settings
    in_prod = settings.env is Env.PROD
    known = Memory(settings).remembered() if in_prod else None
    trust = Trust(settings.signatures, ignored, in_prod, *(known or ()))
    store = registry.store
    if isinstance(store, GitLedger):
        with git_repair.planned(store, trust) as repair:
            yield repair
    else:
        assert isinstance(store, DirectoryLedger)
        yield directory_repair.plan(store, trust)
