"""Fetching the bundle of a promoted version: exactly the bytes that were promoted, or nothing."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from lynx_pipeline.adapters import files, mlflow_models
from lynx_pipeline.adapters.bundle_files import read_bundle
from lynx_pipeline.domain.bundle import Bundle, differences
from lynx_pipeline.domain.ledger.chain import Entry
from lynx_pipeline.domain.ledger.facts import Promoted
from lynx_pipeline.errors import BadInput, Refused, SystemFailed, some_of
from lynx_pipeline.registry.registry import Registry

_LOCK_SECONDS = 3600.0


class Fetched(NamedTuple):
    """A promotion, and whether this call put its bundle there; otherwise it was there before."""

    entry: Entry[Promoted]
    is_new: bool


def fetch(registry: Registry, version: str, to: Path) -> Fetched:
    """Put the bundle that ``version`` names into the folder ``to``. It appears there complete and
    verified, in one step. If it is there already, nothing changes. A folder holds one version.

    Raises:
        Refused: the version was not promoted, or without a bundle digest; the bundle in MLflow or
            in ``to`` is not the promoted one.
        BadInput: the registry is damaged, ``to`` can't be created, or MLflow does not have the
            bundle any more.
        SystemFailed: MLflow or the disk failed, or another process has been fetching for an hour.
    """
    entry = registry.promoted(version)
    if entry.fact.bundle_digest is None:
        raise Refused(
            f"{entry.fact.semver} was promoted before the registry recorded bundle digests, so its "
            "bundle can't be verified. Evaluate and promote it again, under a new version."
        )
    to = to.absolute()
    busy = f"another process has been fetching into {to} for an hour. End it, then run this again."
    with _disk(to):
        if _is_there(registry, entry, to):
            return Fetched(entry, is_new=False)
        if to.is_mount():
            raise BadInput(f"{to} is a mount point. Name a folder in it.")
        files.make_folder(to.parent)
        with files.locked(to.with_name(f".{to.name}.lock"), _LOCK_SECONDS, busy):
            if _is_there(registry, entry, to):  # another process was faster
                return Fetched(entry, is_new=False)
            _download(registry, entry, to)
    return Fetched(entry, is_new=True)


def unfetchable(registry: Registry) -> Iterator[tuple[Entry[Promoted], str | None]]:
    """Each promoted version, oldest first, and why its bundle can't be fetched now; None if it can.
    Each bundle is downloaded and compared.

    Raises:
        BadInput: the registry is damaged.
        SystemFailed: MLflow or the disk failed.
    """
    for entry in registry.promotions():
        with tempfile.TemporaryDirectory(prefix="lynx-doctor-") as scratch:
            try:
                fetch(registry, entry.fact.semver, Path(scratch) / "bundle")
            except (BadInput, Refused) as error:
                yield entry, str(error)
            else:
                yield entry, None


def _is_there(registry: Registry, entry: Entry[Promoted], to: Path) -> bool:
    """Whether the bundle is in ``to``. Anything else there but an empty folder is an error."""
    if not to.is_symlink() and (not to.exists() or (to.is_dir() and not any(to.iterdir()))):
        return False
    found = read_bundle(to, registry.settings.evaluation.limits.bundle_mib)
    if found.digest != entry.fact.bundle_digest:
        for other in registry.history(registry.settings.env):
            if isinstance(other.fact, Promoted) and other.fact.bundle_digest == found.digest:
                raise Refused(
                    f"{to} has {other.fact.semver}, and {entry.fact.semver} was requested. Use "
                    "another folder for each version."
                )
    _check(registry, entry, found, str(to))
    return True


def _download(registry: Registry, entry: Entry[Promoted], to: Path) -> None:
    settings, fact = registry.settings, entry.fact
    mib = settings.evaluation.limits.bundle_mib
    location = mlflow_models.locate(
        settings.tracking_uri, fact.artifact_uri, settings.artifact_locations
    )
    new = to.with_name(f".{to.name}.new")
    _remove(new)  # of a process that was killed
    try:
        mlflow_models.download(settings.tracking_uri, location, new, mib)
        _check(registry, entry, read_bundle(new, mib), f"MLflow's copy of {fact.semver}")
        for path in (*new.rglob("*"), new):
            files.sync(path)
        new.rename(to)
        files.sync(to.parent)
    finally:
        _remove(new)


def _check(registry: Registry, entry: Entry[Promoted], found: Bundle, where: str) -> None:
    digest = str(entry.fact.bundle_digest)
    if digest == found.digest:
        return
    listed = ["its manifest is not in the registry, so the differences are unknown"]
    with contextlib.suppress(BadInput):
        listed = differences(registry.store.evidence(digest), found.manifest)
    modes = all(it.endswith("executable") for it in listed)
    advice = " The file system may not keep file modes: use another one." if modes else ""
    raise Refused(
        f"{where} is not the bundle that was promoted as {entry.fact.semver}: "
        f"{some_of(listed)}. Its digest is {found.digest[:12]}, expected "
        f"{digest[:12]}.{advice}"
    )


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


@contextlib.contextmanager
def _disk(to: Path) -> Iterator[None]:
    """Turn errors of the disk into ours."""
    try:
        yield
    except OSError as error:
        raise SystemFailed(
            f"{to} can't be written: {error.strerror}. Check its permissions and the disk, then "
            "run this again."
        ) from None
