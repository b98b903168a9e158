"""A candidate: the model of one MLflow run, its folder on this machine, and its bundle."""

import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from lynx_pipeline.adapters import files, mlflow_models, mlflow_tracking
from lynx_pipeline.adapters.bundle_files import read_bundle
from lynx_pipeline.config import Settings
from lynx_pipeline.domain.bundle import Bundle
from lynx_pipeline.errors import BadInput

# Tags of an MLflow run and of its Dagster run: the requested version, and the URL of the pull
# request that requests it.
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
    """The candidate of ``run_id``. Nothing is downloaded.

    Raises:
        BadInput: ``run_id`` is not a valid run id.
    """
    run_id = mlflow_tracking.check_run_id(run_id)
    return Candidate(run_id, settings.candidates / run_id)


def fetch(settings: Settings, run_id: str) -> Bundle:
    """Download the candidate's bundle into its folder, replacing an earlier download.

    Raises:
        BadInput: the run does not exist or does not contain exactly one model, or the model is not
            a valid bundle.
        SystemFailed: MLflow could not deliver it.
    """
    target = candidate(settings, run_id)
    with fresh_bundle(settings, run_id) as (download, bundle, _), locked(target):
        if target.bundle.exists():
            # Beside the download, so that it is deleted with it.
            target.bundle.rename(download.with_name("old"))
        download.rename(target.bundle)
    return bundle


def downloaded(settings: Settings, run_id: str) -> Bundle:
    """The identities of the candidate's bundle, as an earlier download left it.

    Raises:
        BadInput: there is none, or it is not a valid bundle.
    """
    folder = candidate(settings, run_id).bundle
    return read_bundle(folder, settings.evaluation.limits.bundle_mib)


def tagged_semver(settings: Settings, run_id: str) -> str:
    """The version that the run's tag requests.

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
    """A new download that exists while the block runs: its folder, identity and artifact URI."""
    parent = candidate(settings, run_id).folder
    model = mlflow_models.find_model(settings.tracking_uri, run_id, settings.artifact_locations)
    files.make_folder(parent)
    with tempfile.TemporaryDirectory(prefix=".download-", dir=parent) as scratch:
        folder = Path(scratch) / "bundle"
        mib = settings.evaluation.limits.bundle_mib
        mlflow_models.download(settings.tracking_uri, model.location, folder, mib)
        yield folder, read_bundle(folder, mib), model.uri


def locked(candidate: Candidate) -> AbstractContextManager[None]:
    """Let only one process at a time work on a candidate's folder."""
    return files.locked(
        candidate.folder / ".lock",
        _LOCK_SECONDS,
        f"another process has been working on candidate {candidate.run_id} for an hour. End it, "
        "then run this again.",
    )
