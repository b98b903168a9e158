"""Where a promoted bundle can be fetched from: the bundle store, if there is one, and MLflow."""

import contextlib
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from lynx_pipeline.adapters import mlflow_models
from lynx_pipeline.adapters.bundle_files import read_bundle
from lynx_pipeline.adapters.bundle_store import open_bundle_store
from lynx_pipeline.adapters.ledgers.store import Store
from lynx_pipeline.config import Settings
from lynx_pipeline.domain.bundle import Bundle, differences
from lynx_pipeline.domain.ledger.facts import Promoted
from lynx_pipeline.errors import (
    BadInput,
    LynxError,
    NotFound,
    NotInstalled,
    Refused,
    SystemFailed,
    some_of,
)

STORE, MLFLOW = "the bundle store", "MLflow"


def keep(settings: Settings, folder: Path, bundle: Bundle) -> None:
    """Keep a bundle in the project's bundle store, if it has one.

    Raises:
        SystemFailed: the store failed.
    """
    store = open_bundle_store(settings)
    if store is not None:
        store.keep(folder, bundle)


def obtain(settings: Settings, ledger: Store, fact: Promoted, folder: Path) -> None:
    """Put the bundle into ``folder``, which must not exist yet, from the first place that has it.
    ``ledger`` may have the manifest, to name what differs.

    Raises:
        Refused: no place has the promoted bundle, or MLflow's location is not allowed.
        BadInput: a setting is invalid, or MLflow's package is missing.
        SystemFailed: a place or the disk failed.
    """
    failed: dict[str, LynxError] = {}
    for place in places(settings):
        try:
            obtain_from(place, settings, ledger, fact, folder)
        except LynxError as error:
            failed[place] = error
        else:
            return
    raise failure(fact, failed)


def places(settings: Settings) -> tuple[str, ...]:
    """The places that may have a bundle, in the order in which they are tried."""
    return (MLFLOW,) if settings.bundle_store is None else (STORE, MLFLOW)


def obtain_from(
    place: str, settings: Settings, ledger: Store, fact: Promoted, folder: Path
) -> None:
    """Like :func:`obtain`, from one place. Removes what an earlier attempt left in ``folder``."""
    remove(folder)
    store, mib = open_bundle_store(settings), settings.evaluation.limits.bundle_mib
    if place == STORE and store is not None:
        store.restore(str(fact.bundle_digest), folder, mib)
    else:
        _download(settings, fact, folder, mib)
    where = f"{place}'s copy of {fact.semver}"
    try:
        found = read_bundle(folder, mib)
    except BadInput as error:
        reason = str(error).removeprefix(f"{folder}: ")
        raise Refused(f"{where} is not the bundle that was promoted: {reason}") from None
    check(ledger, fact, found, where)


def failure(fact: Promoted, failed: Mapping[str, LynxError]) -> LynxError:
    """One error for all places that failed: a SystemFailed if a retry may work for one of them, and
    a BadInput if a setting is invalid. A bundle that is lost is a refusal, as a changed one is."""
    kinds = {Refused if isinstance(it, NotFound) else type(it) for it in failed.values()}
    kind = next((it for it in (SystemFailed, NotInstalled, BadInput) if it in kinds), Refused)
    reasons = " And: ".join(str(error) for error in failed.values())
    if len(failed) == 1:
        return kind(reasons)
    return kind(f"the bundle of {fact.semver} can't be fetched: {reasons}")


def check(ledger: Store, fact: Promoted, found: Bundle, where: str) -> None:
    """Check that ``found`` is the promoted bundle, to the byte.

    Raises:
        Refused: it is not; the message names what differs.
    """
    digest = str(fact.bundle_digest)
    if digest == found.digest:
        return
    listed = ["its manifest is not in the registry, so the differences are unknown"]
    with contextlib.suppress(BadInput):
        listed = differences(ledger.evidence(digest), found.manifest)
    modes = all(it.endswith("executable") for it in listed)
    advice = " The file system may not keep file modes: use another one." if modes else ""
    raise Refused(
        f"{where} is not the bundle that was promoted as {fact.semver}: {some_of(listed)}. Its "
        f"digest is {found.digest[:12]}, expected {digest[:12]}.{advice}"
    )


def check_fetchable(settings: Settings, ledger: Store, fact: Promoted) -> None:
    """Check that the bundle can still be fetched, by fetching it. Promotions from before bundle
    digests were recorded can't be checked.

    Raises:
        Refused: it can't.
        BadInput: a setting is invalid, or MLflow's package is missing.
        SystemFailed: it can't, but may be later.
    """
    if fact.bundle_digest is None:
        return
    with tempfile.TemporaryDirectory(prefix="lynx-fetchable-") as scratch:
        try:
            obtain(settings, ledger, fact, Path(scratch) / "bundle")
        except NotInstalled:
            raise
        except LynxError as error:
            raise type(error)(
                f"{fact.semver} can't become the latest version, because its bundle can't be "
                f"fetched: {error} 'registry doctor' lists the versions that can."
            ) from None


def remove(folder: Path) -> None:
    """Remove a folder, if it exists."""
    if folder.exists():
        shutil.rmtree(folder)


def _download(settings: Settings, fact: Promoted, folder: Path, mib: int) -> None:
    """From MLflow."""
    uri = settings.tracking_uri
    try:
        location = mlflow_models.locate(uri, fact.artifact_uri, settings.artifact_locations)
        mlflow_models.download(uri, location, folder, mib)
    except NotInstalled:
        raise NotInstalled(
            f"the bundle of {fact.semver} can only be read with the Python package 'mlflow', which "
            "is not installed: the tracking server does not serve it itself. Install it (pip "
            "install mlflow), or set 'bundle_store' in [tool.lynx_pipeline] to the folder where "
            "promotions keep bundles, if there is one."
        ) from None
