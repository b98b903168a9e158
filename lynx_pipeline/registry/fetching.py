"""Fetching the bundle of a promoted version: exactly the bytes that were promoted, or nothing."""

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from lynx_pipeline.adapters import files
from lynx_pipeline.adapters.bundle_files import read_bundle
from lynx_pipeline.domain.ledger.chain import Entry
from lynx_pipeline.domain.ledger.facts import Promoted
from lynx_pipeline.errors import BadInput, LynxError, Refused, SystemFailed
from lynx_pipeline.registry import bundles
from lynx_pipeline.registry.registry import Registry

_LOCK_SECONDS = 3600.0


class Fetched(NamedTuple):
    """A promotion, and whether this call put its bundle there; otherwise it was there before."""

    entry: Entry[Promoted]
    is_new: bool


def fetch(registry: Registry, version: str, to: Path) -> Fetched:
    """Put the bundle that ``version`` names into the folder ``to``: see :func:`fetch_promoted`.

    Raises:
        Refused: the version was not promoted, or without a bundle digest; the bundle in ``to`` is
            not the promoted one, and neither the bundle store nor MLflow has it any more.
        BadInput: the registry is damaged, a setting is invalid, or ``to`` can't be created.
        SystemFailed: MLflow, the store or the disk failed, or another process has been fetching for
            an hour.
    """
    return fetch_promoted(registry, registry.answer(version).entry, to)


def fetch_promoted(registry: Registry, entry: Entry[Promoted], to: Path) -> Fetched:
    """Put the promoted bundle into the folder ``to``. It appears there complete and verified, in
    one step. If it is there already, nothing changes. A folder holds one version. Raises like
    :func:`fetch`."""
    _check_digest(entry.fact)
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


class Availability(NamedTuple):
    """Where the bundle of a promotion can be fetched from: the problem of each place, None if it
    has the bundle. ``problem`` is set if it can't be fetched from any; ``failed`` then says that a
    place failed, so that it may be possible later."""

    entry: Entry[Promoted]
    places: Mapping[str, str | None]
    problem: str | None
    failed: bool = False


def availability(registry: Registry) -> Iterator[Availability]:
    """Each promoted version, oldest first. Each bundle is fetched from each place and compared.

    Raises:
        BadInput: the registry is damaged.
    """
    for entry in registry.promotions():
        try:
            _check_digest(entry.fact)
        except Refused as error:
            yield Availability(entry, {}, str(error))
            continue
        failed: dict[str, LynxError] = {}
        settings = registry.settings
        for place in bundles.places(settings):
            with tempfile.TemporaryDirectory(prefix="lynx-doctor-") as scratch:
                folder = Path(scratch) / "bundle"
                try:
                    bundles.obtain_from(place, settings, registry.store, entry.fact, folder)
                except LynxError as error:
                    failed[place] = error
        found = {it: str(failed[it]) if it in failed else None for it in bundles.places(settings)}
        if len(failed) < len(found):
            yield Availability(entry, found, None)
            continue
        reason = bundles.failure(entry.fact, failed)
        yield Availability(entry, found, str(reason), isinstance(reason, SystemFailed))


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
    bundles.check(registry.store, entry.fact, found, str(to))
    return True


def _check_digest(fact: Promoted) -> None:
    if fact.bundle_digest is None:
        raise Refused(
            f"{fact.semver} was promoted before the registry recorded bundle digests, so its "
            "bundle can't be verified. Evaluate and promote it again, under a new version."
        )


def _download(registry: Registry, entry: Entry[Promoted], to: Path) -> None:
    new = to.with_name(f".{to.name}.new")
    bundles.remove(new)  # of a process that was killed
    try:
        bundles.obtain(registry.settings, registry.store, entry.fact, new)
        for path in (*new.rglob("*"), new):
            files.sync(path)
        new.rename(to)
        files.sync(to.parent)
    finally:
        bundles.remove(new)


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
