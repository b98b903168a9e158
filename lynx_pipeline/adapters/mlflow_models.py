"""MLflow: where a model's files are, and downloading them.

* A model is named by where it is, never by a ``runs:/`` URI: MLflow resolves that to whatever the
  run holds when somebody asks.
* A download holds exactly what is stored. The client adds a file only if it is asked for a version
  of a registered model, which never happens here.
* Whoever creates an experiment chooses its artifact location, and the client would send its token
  there. With a tracking server, only artifacts that the server itself serves, or that are in a
  location listed in the settings, are fetched.

MLflow takes seconds to import, so it is imported when first used.
"""

import json
import posixpath
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from lynx_pipeline.adapters import mlflow_http, mlflow_server
from lynx_pipeline.adapters.mlflow_files import artifact_repository, download_files
from lynx_pipeline.adapters.mlflow_tracking import connected
from lynx_pipeline.domain.artifact_location import (
    InvalidLocation,
    SecretInLocation,
    artifact_root,
    parse_location,
)
from lynx_pipeline.domain.bundle import BUNDLE_MIB, MLMODEL, Tally
from lynx_pipeline.domain.candidate_key import is_model_id
from lynx_pipeline.domain.text import Say, printable, silent, without_secrets
from lynx_pipeline.errors import BadInput, Refused, SystemFailed

_LARGE = 16 << 20  # bytes; downloading less takes a few seconds

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import FileInfo, LoggedModel
    from mlflow.store.artifact.artifact_repo import ArtifactRepository


def locate(tracking_uri: str, uri: str, locations: Sequence[str] = ()) -> str:
    """Where the files of the model with this permanent ``uri`` are.

    Raises:
        BadInput: there is no such model, or see :func:`check_location`.
        Refused: the URI is of another kind, or the location is not allowed.
        SystemFailed: MLflow failed.
    """
    location = uri
    if uri.startswith("models:/"):
        model_id = check_model_id(uri.removeprefix("models:/"))
        if mlflow_http.can_connect(tracking_uri):
            location = mlflow_server.logged_model_location(tracking_uri, model_id)
        else:
            with connected(tracking_uri) as client:
                location = logged_model(client, model_id).artifact_location
    elif uri.startswith("runs:/"):
        raise Refused(f"{uri!r:.200} does not identify one model permanently. Promote it again.")
    check_location(tracking_uri, location, locations)
    return location


def logged_model(client: "MlflowClient", model_id: str) -> "LoggedModel":
    """The logged model with this id.

    Raises:
        BadInput: there is none, or see :func:`check_model_id`.
        SystemFailed: the server returned another model.
    """
    model = logged_model_if_any(client, model_id)
    if model is None:
        raise mlflow_server.no_logged_model(without_secrets(client.tracking_uri), model_id)
    return model


def logged_model_if_any(client: "MlflowClient", model_id: str) -> "LoggedModel | None":
    """Like :func:`logged_model`; None if there is none, or it was deleted."""
    from mlflow.exceptions import MlflowException

    try:
        model = client.get_logged_model(check_model_id(model_id))
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None
    if model.model_id != model_id:
        raise SystemFailed(
            f"MLflow returned the logged model {model.model_id!r:.80}, expected {model_id}. Check "
            "the server."
        )
    return model


def check_model_id(model_id: str) -> str:
    """``model_id``, if it is one. In anything else MLflow's client would resolve aliases and paths.

    Raises:
        BadInput: it is not.
    """
    if not is_model_id(model_id):
        raise BadInput(
            f"{model_id!r:.80} is not the id of a logged model: expected 'm-' and 32 hex digits. "
            "Log the model again."
        )
    return model_id


def check_location(tracking_uri: str, location: str, locations: Sequence[str]) -> None:
    """Check that artifacts may be fetched from ``location``, and that the registry may publish it.
    With a local store, they may be anywhere.

    Raises:
        BadInput: nothing can be downloaded from there.
        Refused: they may not.
    """
    shown = f"{printable(without_secrets(location)):.200}"
    stored = f"MLflow at {without_secrets(tracking_uri)} stores the model at {shown!r}"
    if "#" in location:
        raise BadInput(
            f"{stored}, and can't download from a name with '#'. Log the model again under another "
            "name."
        )
    local_store = urlsplit(tracking_uri).scheme in ("", "file", "sqlite")
    try:
        place = parse_location(location)
    except SecretInLocation:
        raise Refused(
            f"{stored}, with a password or a query, and the registry would publish it. Give the "
            "credentials to the client instead, and log the model again."
        ) from None
    except InvalidLocation as error:
        if local_store:
            return
        raise Refused(
            f"{stored}, which can't be fetched: {error}. Start the MLflow server with an absolute "
            "artifact root, and log the model again."
        ) from None
    own = place.scheme == "mlflow-artifacts" and not place.host
    if local_store or own or any(parse_location(base).contains(place) for base in locations):
        return
    allowed = json.dumps([*locations, artifact_root(location)], ensure_ascii=False)
    raise Refused(
        f"{stored}, which is neither its own artifact service nor in 'artifact_locations' of "
        "[tool.lynx_pipeline] in pyproject.toml. If that is your team's artifact store, write "
        f"there: artifact_locations = {allowed}"
    )


def download(
    tracking_uri: str, location: str, folder: Path, mib: int = BUNDLE_MIB, say: Say = silent
) -> None:
    """Download the model at ``location`` into ``folder``, which must not exist yet: from MLflow's
    server itself if possible, otherwise with MLflow's client. Names and sizes are listed first, and
    nothing is downloaded if one is beyond a limit, such as ``mib`` for the total. A file of another
    size than listed ends the download. Everything else can change after the listing, so the caller
    has to check what arrived. ``say`` is called with the size of a large model, and when it is
    there.

    Raises:
        BadInput: there is no such artifact, or it is beyond a limit.
        SystemFailed: MLflow failed.
    """
    start, large = time.monotonic(), False

    def listed(tally: Tally) -> None:
        nonlocal large
        large = tally.size >= _LARGE
        if large:
            files = tally.entries - tally.folders
            say(f"Downloading the model: {files:,} files, {tally.size >> 20:,} MiB.")

    if mlflow_server.serves(tracking_uri, location):
        mlflow_server.download(tracking_uri, location, folder, mib, listed)
    else:
        with_client(tracking_uri, location, folder, mib, listed)
    if large:
        say(f"Downloaded after {time.monotonic() - start:.0f} s. Computing its digests.")


def with_client(
    tracking_uri: str,
    location: str,
    folder: Path,
    mib: int = BUNDLE_MIB,
    listed: Callable[[Tally], None] = lambda _: None,
) -> None:
    """Like :func:`download`, with MLflow's client."""
    with connected(tracking_uri):
        store = artifact_repository(tracking_uri, location)
        what, tally = f"the model at {without_secrets(location)!r:.200}", Tally(mib)
        everything = list(_walk(store, what, tally))
        if not tally.entries:
            raise mlflow_server.no_files(without_secrets(tracking_uri), without_secrets(location))
        listed(tally)
        folder.mkdir(parents=True)
        sizes = dict[str, int]()
        for _, files, folders in everything:
            for path in folders:
                (folder / path).mkdir()
            sizes |= files
        download_files(store, tracking_uri, folder, sizes, what)


def is_model(artifacts: "ArtifactRepository", folder: str) -> bool:
    """Whether the folder contains an ``MLmodel``."""
    path = posixpath.join(folder, MLMODEL)
    return any(it.path == path and not it.is_dir for it in listing(artifacts, folder))


def listing(artifacts: "ArtifactRepository", folder: str = "") -> "list[FileInfo]":
    """What is in a folder of the artifacts.

    Raises:
        SystemFailed: the store has no such place. A folder that is missing in it is empty.
    """
    from mlflow.exceptions import MlflowException

    try:
        found: list[FileInfo] = artifacts.list_artifacts(folder or None)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        reason = without_secrets(" ".join(str(error.message).split()))[:500].rstrip(".")
        place = f"{without_secrets(artifacts.artifact_uri)!r:.200}"
        raise SystemFailed(
            f"MLflow's artifacts at {place} can't be listed: {reason}. Check that this place "
            "exists, and the credentials for it, then run this again."
        ) from None
    return found


def models_in(artifacts: "ArtifactRepository") -> Iterator[str]:
    """The folders that contain an ``MLmodel``, without those in another model."""
    for folder, files, folders in _walk(artifacts, "the run's artifacts"):
        if posixpath.join(folder, MLMODEL) in files:
            yield folder
            folders.clear()


def _walk(
    artifacts: "ArtifactRepository", what: str, sizes: Tally | None = None
) -> Iterator[tuple[str, dict[str, int], list[str]]]:
    """Each folder with the paths of its files, with their sizes, and of its folders. Breadth first,
    so that many folders are noticed before each is listed. The caller may remove folders, which are
    then not listed. ``sizes`` counts all of it; without, only the numbers of files and folders are
    checked.

    Raises:
        BadInput: they are beyond a limit, or a name is not one.
    """
    waiting, tally = deque([""]), sizes or Tally(0)
    while waiting:
        folder = waiting.popleft()
        files, folders = dict[str, int](), list[str]()
        try:
            for found in listing(artifacts, folder):
                _check_name(folder, found.path)
                if found.is_dir:
                    tally.add_folder(found.path)
                    folders.append(found.path)
                else:
                    # A server leaves out the size of an empty file.
                    files[found.path] = size = max(found.file_size or 0, 0)
                    tally.add_file(found.path, size if sizes else 0)
        except BadInput as error:
            raise BadInput(f"{what}: {error}") from None
        yield folder, files, folders
        waiting.extend(folders)


def _check_name(folder: str, path: str) -> None:
    parent, _, name = path.rpartition("/")
    if parent != folder or name in ("", ".", "..") or "\0" in name:
        raise BadInput(
            f"the store lists {path!r:.80} in the folder {folder!r:.80}, which is not a valid name "
            "there. Check the store."
        )
