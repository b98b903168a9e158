"""Fetching the bundle of a promoted version: exactly the bytes that were promoted, or nothing."""

import contextlib
import tempfile
from pathlib import Path
from typing import NamedTuple

from lynx_pipeline.adapters import files, mlflow_models
from lynx_pipeline.adapters.bundle_files import read_bundle
from lynx_pipeline.domain.bundle import Bundle, differences
from lynx_pipeline.domain.ledger.chain import Entry
from lynx_pipeline.domain.ledger.facts import Promoted
from lynx_pipeline.errors import BadInput, Refused, SystemFailed
from lynx_pipeline.registry.registry import Registry

_LISTED = 10


class Fetched(NamedTuple):
    """A promotion, and whether this call put its bundle there; otherwise it was there before."""

    entry: Entry[Promoted]
    is_new: bool


def fetch(registry: Registry, version: str, to: Path) -> Fetched:
    """Put the bundle that ``version`` names into the folder ``to``. It appears there complete and
    verified, in one step. If it is there already, nothing changes.

    Raises:
        Refused: the version was not promoted, or without a bundle digest; the bundle in MLflow or
            in ``to`` is not the promoted one.
        BadInput: the registry is damaged, or MLflow does not have the bundle any more.
        SystemFailed: MLflow or the disk failed.
    """
    entry = registry.promoted(version)
    fact, settings = entry.fact, registry.settings
    if fact.bundle_digest is None:
        raise Refused(
            f"{fact.semver} was promoted before the registry recorded bundle digests, so its "
            "bundle can't be verified. Evaluate and promote it again, under a new version."
        )
    to = to.absolute()
    if _is_there(to):
        _check(registry, entry, read_bundle(to), str(to))
        return Fetched(entry, is_new=False)
    location = mlflow_models.locate(
        settings.tracking_uri, fact.artifact_uri, settings.artifact_locations
    )
    files.make_folder(to.parent)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=to.parent) as scratch:
        folder = Path(scratch) / "bundle"
        mlflow_models.download(settings.tracking_uri, location, folder)
        _check(registry, entry, read_bundle(folder), f"MLflow's copy of {fact.semver}")
        try:
            for path in (*folder.rglob("*"), folder):
                files.sync(path)
            folder.rename(to)
            files.sync(to.parent)
        except OSError as error:
            if _is_there(to):  # another process was faster
                _check(registry, entry, read_bundle(to), str(to))
                return Fetched(entry, is_new=False)
            raise SystemFailed(
                f"{to} can't be written: {error.strerror}. Check its permissions and the disk, "
                "then run this again."
            ) from None
    return Fetched(entry, is_new=True)


def _is_there(to: Path) -> bool:
    """Whether there is anything but an empty folder."""
    return to.is_symlink() or (to.exists() and not (to.is_dir() and not any(to.iterdir())))


def _check(registry: Registry, entry: Entry[Promoted], found: Bundle, where: str) -> None:
    digest = entry.fact.bundle_digest
    if digest == found.digest:
        return
    listed = ["its manifest is not in the registry, so the differences are unknown"]
    with contextlib.suppress(BadInput):
        listed = differences(registry.store.evidence(str(digest)), found.manifest)
    more = f" and {len(listed) - _LISTED} more" if len(listed) > _LISTED else ""
    raise Refused(
        f"{where} is not the bundle that was promoted as {entry.fact.semver}: "
        f"{', '.join(listed[:_LISTED])}{more}. Its digest is {found.digest[:12]}, expected "
        f"{str(digest)[:12]}. Nothing was changed."
    )
