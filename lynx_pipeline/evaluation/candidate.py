"""A candidate: the model of one MLflow run, its folder here, and its bundle."""

import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from lynx_pipeline.adapters import files, mlflow_tracking
from lynx_pipeline.adapters.bundle_files import read_bundle
from lynx_pipeline.config import Settings
from lynx_pipeline.domain.bundle import Bundle
from lynx_pipeline.errors import BadInput

# What an MLflow run, and the Dagster run for it, may be tagged with: the version that is asked for,
# and the address of the pull request that asks.
SEMVER_TAG, PULL_REQUEST_TAG = "lynx.semver", "lynx.pull_request"

_LOCK_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """A run's folder under the state folder. No two runs share one."""

    run_id: str
    folder: Path

    @property
    def bundle(self) -> Path:
        """The downloaded bundle."""
        return self.folder / "bundle"

    @property
    def evidence(self) -> Path:
        """The evaluation's evidence."""
        return self.folder / "evidence"


def candidate(settings: Settings, run_id: str) -> Candidate:
    """The candidate of ``run_id``; nothing is fetched.

    Raises:
        BadInput: ``run_id`` has not the form of one.
    """
    run_id = mlflow_tracking.check_run_id(run_id)
    return Candidate(run_id, settings.candidates / run_id)


def fetch(settings: Settings, run_id: str) -> Bundle:
    """Download the candidate's bundle into its folder, in place of an earlier download.

    Raises:
        BadInput: the run does not exist or does not hold one model, or that is no bundle.
        SystemFailed: MLflow could not deliver it.
    """
    here = candidate(settings, run_id)
    with fresh_bundle(settings, run_id) as (folder, bundle, _), locked(here):
        old = folder.with_name("old")
        if here.bundle.exists():
            here.bundle.rename(old)
        folder.rename(here.bundle)
    return bundle


def tagged_semver(settings: Settings, run_id: str) -> str:
    """The version that the run's tag asks for.

    Raises:
        BadInput: the run does not exist or has no such tag.
    """
    semver = mlflow_tracking.run_tags(settings.tracking_uri, run_id).get(SEMVER_TAG, "")
    if not semver:
        raise BadInput(
            f"no version was given for run {run_id}: set semver in the run config of "
            f"promotion_decision, or the tag {SEMVER_TAG} on the MLflow run."
        )
    return semver


@contextmanager
def fresh_bundle(settings: Settings, run_id: str) -> Iterator[tuple[Path, Bundle, str]]:
    """A fresh download, for as long as the block runs: its folder, identity and artifact URI."""
    here = candidate(settings, run_id)
    model = mlflow_tracking.find_model(settings.tracking_uri, run_id, settings.artifact_locations)
    files.make_folder(here.folder)
    with tempfile.TemporaryDirectory(prefix=".download-", dir=here.folder) as scratch:
        folder = Path(scratch) / "bundle"
        mlflow_tracking.download(settings.tracking_uri, model.location, folder)
        yield folder, read_bundle(folder), model.uri


def locked(here: Candidate) -> AbstractContextManager[None]:
    """One process at a time works on a candidate's folder."""
    return files.locked(
        here.folder / ".lock",
        _LOCK_SECONDS,
        f"another process has worked on candidate {here.run_id} for an hour. End it, then run "
        "this again.",
    )
