"""A candidate: one model of an MLflow run, its folder on this machine, and its bundle."""

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from lynx_pipeline.adapters import files, mlflow_models, mlflow_tracking
from lynx_pipeline.adapters.bundle_files import read_bundle, restore_modes
from lynx_pipeline.adapters.mlflow_candidates import Model, choose_model, find_model
from lynx_pipeline.adapters.mlflow_tracking import RunInfo
from lynx_pipeline.config import Settings
from lynx_pipeline.domain.bundle import Bundle, differences
from lynx_pipeline.domain.candidate_key import parse_key
from lynx_pipeline.domain.manifest import LONGEST_MANIFEST
from lynx_pipeline.domain.text import Say, silent
from lynx_pipeline.errors import BadInput, some_of

# Tags of an MLflow run: the requested version, the name of one of its models, and the URL of the
# pull request that requests it. The Dagster run gets the first and the last.
SEMVER_TAG, MODEL_TAG, PULL_REQUEST_TAG = "lynx.semver", "lynx.model", "lynx.pull_request"

_LOCK_SECONDS = 3600.0
# GitHub's upload refuses files with one of these in their names.
_NOT_IN_ARTIFACTS = frozenset('":<>|*?\r\n')
_BUNDLE, _MANIFEST = "bundle", "manifest.json"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A candidate's folder under the state folder. No two candidates share one. ``key`` is the
    text of a :class:`~lynx_pipeline.domain.candidate_key.CandidateKey`."""

    key: str
    folder: Path

    @property
    def bundle(self) -> Path:
        """The downloaded bundle."""
        return self.folder / _BUNDLE

    @property
    def evidence(self) -> Path:
        """The evaluation's evidence."""
        return self.folder / "evidence"


def candidate(settings: Settings, key: str) -> Candidate:
    """The candidate with this key. Nothing is downloaded.

    Raises:
        BadInput: it is not a key.
    """
    return Candidate(key, settings.candidates / parse_key(key).folder)


def choose(settings: Settings, reference: str, name: str | None = None) -> Model:
    """The model that a user asks for; its key is the candidate's. See
    :func:`~lynx_pipeline.adapters.mlflow_candidates.choose_model`."""
    return choose_model(settings.tracking_uri, reference, name, settings.artifact_locations)


def fetch(settings: Settings, key: str, say: Say = silent) -> Bundle:
    """Download the candidate's bundle into its folder, replacing an earlier download. ``say`` is
    called before a long download.

    Raises:
        BadInput: the key does not name exactly one model, or the model is not a valid bundle.
        SystemFailed: MLflow could not deliver it.
    """
    target = candidate(settings, key)
    with fresh_bundle(settings, key, say) as (download, bundle, _), locked(target):
        if target.bundle.exists():
            # Beside the download, so that it is deleted with it.
            target.bundle.rename(download.with_name("old"))
        download.rename(target.bundle)
    return bundle


def downloaded(settings: Settings, key: str) -> Bundle:
    """The identities of the candidate's bundle, as an earlier download left it.

    Raises:
        BadInput: there is none, or it is not a valid bundle.
    """
    folder = candidate(settings, key).bundle
    return read_bundle(folder, settings.evaluation.limits.bundle_mib)


def hand_over(settings: Settings, key: str, to: Path, say: Say = silent) -> Bundle:
    """Download the candidate for another machine: its bundle and the manifest, in the new folder
    ``to``.

    Raises:
        BadInput: see :func:`fetch`; or ``to`` is not empty.
        SystemFailed: MLflow could not deliver it, or the disk failed.
    """
    if to.exists() and any(to.iterdir()):
        raise BadInput(f"{to} is not empty. Name a new folder.")
    with fresh_bundle(settings, key, say) as (download, bundle, _):
        for path in download.rglob("*"):
            if bad := _NOT_IN_ARTIFACTS & {*path.name}:
                raise BadInput(
                    f"the bundle has the name {path.name!r:.100}, and GitHub's artifacts can't "
                    f"contain {' '.join(sorted(map(repr, bad)))}. Log the model again under other "
                    "names."
                )
        files.make_folder(to)
        shutil.move(download, to / _BUNDLE)
        files.write_atomic(to / _MANIFEST, bundle.manifest)
    return bundle


def take_over(settings: Settings, key: str, folder: Path, digest: str) -> None:
    """Move the bundle in ``folder``, which :func:`hand_over` wrote, into the candidate's folder. On
    the way it may have lost what GitHub's artifacts don't keep: empty folders and file modes. Every
    other difference from ``digest`` is an error.

    Raises:
        BadInput: it is not exactly the bundle with this digest.
        SystemFailed: the disk failed.
    """
    target, bundle = candidate(settings, key), folder / _BUNDLE
    manifest = files.read_bytes(
        folder / _MANIFEST, "the candidate was not handed over", LONGEST_MANIFEST
    )
    where = f"{folder}: the candidate changed in transit"
    if hashlib.sha256(manifest).hexdigest() != digest:
        raise BadInput(f"{where}: its manifest is not the requested one. Start a new workflow run.")
    restore_modes(bundle, manifest)
    found = read_bundle(bundle, settings.evaluation.limits.bundle_mib)
    if found.digest != digest:
        changes = some_of(differences(manifest, found.manifest))
        raise BadInput(f"{where}: {changes}. Start a new workflow run.")
    with locked(target):
        if target.bundle.exists():
            shutil.rmtree(target.bundle)
        shutil.move(bundle, target.bundle)


def about(settings: Settings, key: str) -> RunInfo:
    """The name, author and tags of the candidate's run.

    Raises:
        BadInput: the run does not exist.
        SystemFailed: MLflow failed.
    """
    return mlflow_tracking.run_info(settings.tracking_uri, _run_id(settings, key))


def tagged_semver(settings: Settings, key: str) -> str:
    """The version that the tag of the candidate's run requests.

    Raises:
        BadInput: the run does not exist or has no such tag.
    """
    run = about(settings, key)
    semver = run.tags.get(SEMVER_TAG, "")
    if not semver:
        raise BadInput(
            f"no version was given for candidate {described(key, run.name, run.author)}: set "
            f"semver in the run config of promotion_decision, or the tag {SEMVER_TAG} on the "
            "MLflow run."
        )
    return semver


def described(key: str, name: str, author: str) -> str:
    """A candidate's key together with what people know it by."""
    known = name and f" ({name} by {author})" if author else name and f" ({name})"
    return f"{key}{known}"


def _run_id(settings: Settings, key: str) -> str:
    """The candidate's run. Only MLflow knows the run of a logged model."""
    run_id = parse_key(key).run_id
    if run_id is None:
        return find_model(settings.tracking_uri, key, settings.artifact_locations).run_id
    return run_id


@contextmanager
def fresh_bundle(
    settings: Settings, key: str, say: Say = silent
) -> Iterator[tuple[Path, Bundle, Model]]:
    """A new download of the candidate that exists while the block runs: its folder and identity,
    and where it is in MLflow."""
    parent = candidate(settings, key).folder
    model = find_model(settings.tracking_uri, key, settings.artifact_locations)
    files.make_folder(parent)
    with tempfile.TemporaryDirectory(prefix=".download-", dir=parent) as scratch:
        folder = Path(scratch) / "bundle"
        mib = settings.evaluation.limits.bundle_mib
        mlflow_models.download(settings.tracking_uri, model.location, folder, mib, say)
        yield folder, read_bundle(folder, mib), model


def locked(candidate: Candidate) -> AbstractContextManager[None]:
    """Let only one process at a time work on a candidate's folder."""
    return files.locked(
        candidate.folder / ".lock",
        _LOCK_SECONDS,
        f"another process has been working on candidate {candidate.key} for an hour. End it, then "
        "run this again.",
    )
