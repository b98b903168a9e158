"""The stores of the ledger: a directory and a git branch, behind one port."""

from lynx_pipeline.adapters.ledgers.directory import DirectoryLedger
from lynx_pipeline.adapters.ledgers.store import Store
from lynx_pipeline.config import GitRemote, Settings
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.errors import BadInput


def open_store(settings: Settings) -> Store:
    """The store of this project's ledger.

    Raises:
        BadInput: this is ``prod`` and no registry is configured.
    """
    if settings.registry is None:
        raise BadInput(
            "prod has no registry: set 'registry' in [tool.lynx_pipeline] of "
            f"{settings.root / 'pyproject.toml'}. In prod the environment cannot name one."
        )
    if isinstance(settings.registry, GitRemote):
        from lynx_pipeline.adapters.ledgers.git import GitLedger

        return GitLedger(settings.registry, settings.model, pinned=settings.env is Env.PROD)
    return DirectoryLedger(settings.registry)
