"""The stores of the ledger: a directory and a git branch, behind one port."""

from pathlib import Path

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
    place, in_prod = _place(settings), settings.env is Env.PROD
    witnesses = tuple(key.name for key in settings.witnesses.keys) if in_prod else ()
    if isinstance(place, GitRemote):
        from lynx_pipeline.adapters.ledgers.git import GitLedger

        return GitLedger(place, settings.model, pinned=in_prod, witnessed=bool(witnesses))
    return DirectoryLedger(place, settings.model, witnesses)


def publish_checkpoint(settings: Settings, name: str, checkpoint: bytes) -> None:
    """Publish what the witness ``name`` signed beside the ledger, instead of what it signed before.

    Raises:
        BadInput: as :func:`open_store`.
        Refused: git's configuration redirects to another remote.
        SystemFailed: git, the remote or the disk failed.
    """
    place = _place(settings)
    if isinstance(place, GitRemote):
        from lynx_pipeline.adapters.ledgers.git_checkpoint import publish

        publish(place, settings.model, name, checkpoint)
    else:
        DirectoryLedger(place, settings.model).publish(name, checkpoint)


def _place(settings: Settings) -> Path | GitRemote:
    if settings.registry is None:
        raise BadInput(
            "prod has no registry: set 'registry' in [tool.lynx_pipeline] of "
            f"{settings.root / 'pyproject.toml'}. In prod the environment cannot name one."
        )
    return settings.registry
