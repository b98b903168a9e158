"""MLflow: finding the model of a run, and downloading it.

* MLflow 2 keeps a model among the run's artifacts, MLflow 3 as a logged model: an output of the
  run, or a model whose source is the run. All are counted, so none is preferred to another.
* A model is named by where it is, never by a ``runs:/`` URI: MLflow resolves that to whatever the
  run holds when somebody asks.
* A download holds exactly what is stored. The client adds a file only if it is asked for a version
  of a registered model, which never happens here.
* Whoever creates an experiment chooses its artifact location, and the client would send its token
  there. With a tracking server, only artifacts that the server itself serves, or that are in a
  location listed in the settings, are fetched.

MLflow takes seconds to import, so it is imported when first used.
"""

import posixpath
import re
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

from lynx_pipeline.adapters.mlflow_tracking import check_run_id, connected, without_secrets
from lynx_pipeline.domain.bundle import BUNDLE_MIB, MLMODEL, Tally
from lynx_pipeline.errors import BadInput, Refused, SystemFailed, some_of

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Run
    from mlflow.store.artifact.artifact_repo import ArtifactRepository

_MODEL_ID = re.compile(r"m-[0-9a-f]{32}")
# MLflow sets this tag on a model without files, which names a program elsewhere.
_EXTERNAL = "mlflow.model.isExternal"


class Model(NamedTuple):
    """A run's model. ``uri`` names it permanently: the id of a logged model, or the location of
    artifacts. ``location`` is where its files are."""

    uri: str
    location: str


def find_model(tracking_uri: str, run_id: str, locations: Sequence[str] = ()) -> Model:
    """The only model of a finished run. Its files must be served by the tracking server, or be in
    or below one of ``locations``.

    Anyone who can write to MLflow controls these values, and its client also resolves aliases and
    paths in a URI. So only plain ids are accepted, and callers fetch the location checked here.

    Raises:
        BadInput: there is no such run, it was deleted or is not finished, or it has no model, or
            several.
        Refused: the model is in another location, or the location contains a password.
        SystemFailed: MLflow failed.
    """
    check_run_id(run_id)
    server = without_secrets(tracking_uri)
    with connected(tracking_uri) as client:
        run = client.get_run(run_id)
        state = run.info.status if run.info.lifecycle_stage == "active" else "DELETED"
        if state != "FINISHED":
            raise BadInput(f"run {run_id} at {server} is {state}: expected FINISHED.")
        root = run.info.artifact_uri
        check_location(tracking_uri, root, locations)
        artifacts = _artifacts(tracking_uri, root)
        paths = [f"{root}/{path}".rstrip("/") for path in _models_in(artifacts)]
        logged = list(_logged_models(client, run))
        ready = [model for model in logged if model.status == "READY"]
        if len(paths) + len(ready) != 1:
            listed = [f"{without_secrets(path)!r} (an artifact)" for path in paths]
            listed += [_described(model) for model in logged]
            files = [repr(file.path) for file in artifacts.list_artifacts()]
            raise BadInput(
                f"run {run_id} at {server} has {len(paths) + len(ready)} models, expected exactly "
                f"one. Its models: {some_of(listed)}. Its artifacts: {some_of(files)}. Log one "
                "model in it with mlflow.<flavor>.log_model."
            )
        if paths:
            model = Model(paths[0], paths[0])
        else:
            model = Model(f"models:/{ready[0].model_id}", ready[0].artifact_location)
        check_location(tracking_uri, model.location, locations)
        return model


def _described(model: "LoggedModel") -> str:
    external = model.tags.get(_EXTERNAL) == "true"
    kind = "an external model" if external else "the logged model"
    return f"{model.model_id} ({kind} {model.name!r}, {model.status})"


def locate(tracking_uri: str, uri: str, locations: Sequence[str] = ()) -> str:
    """Where the files of a :class:`Model` with this ``uri`` are.

    Raises:
        BadInput: there is no such model, or the URI is of another kind.
        Refused: they are in a location that is not allowed, see :func:`check_location`.
        SystemFailed: MLflow failed.
    """
    location = uri
    if uri.startswith("models:/"):
        with connected(tracking_uri) as client:
            location = _get(client, uri.removeprefix("models:/")).artifact_location
    elif uri.startswith("runs:/"):
        raise BadInput(f"{uri!r:.200} does not identify one model permanently. Promote it again.")
    check_location(tracking_uri, location, locations)
    return location


def _get(client: "MlflowClient", model_id: str) -> "LoggedModel":
    model = client.get_logged_model(_check_model_id(model_id))
    if model.model_id != model_id:
        raise SystemFailed(
            f"MLflow returned the logged model {model.model_id!r:.80}, expected {model_id}. Check "
            "the server."
        )
    return model


def _logged_models(client: "MlflowClient", run: "Run") -> Iterator["LoggedModel"]:
    """The run's logged models, in any state except deleted: its outputs, and those of the same
    experiment whose source is the run."""
    from mlflow.exceptions import MlflowException

    run_id, known, token = run.info.run_id, set(), None
    try:
        while token != "":
            some = client.search_logged_models(
                [run.info.experiment_id],
                filter_string=f"source_run_id = '{run_id}'",
                page_token=token,
            )
            for model in some:
                known.add(_check_model_id(model.model_id))
                yield model
            token = some.token or ""
    except MlflowException as error:
        if error.error_code != "ENDPOINT_NOT_FOUND":  # MLflow 2 has no logged models
            raise
    outputs = run.outputs.model_outputs if run.outputs else []
    for model_id in dict.fromkeys(output.model_id for output in outputs):
        if model_id in known:
            continue
        try:
            yield _get(client, model_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":  # deleted
                raise


def _check_model_id(model_id: str) -> str:
    if not _MODEL_ID.fullmatch(model_id):
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
    server, place = without_secrets(tracking_uri), without_secrets(location)[:200]
    stored = f"MLflow at {server} stores the model at {place!r}"
    if "#" in location:
        raise BadInput(
            f"{stored}, and can't download from a name with '#'. Log the model again under another "
            "name."
        )
    try:
        parts = urlsplit(location)
    except ValueError:
        raise BadInput(f"{stored}, which is not a URI. Check the server.") from None
    if not _may_be_fetched(tracking_uri, location, parts, locations):
        raise Refused(
            f"{stored}, which is neither its own artifact service nor in 'artifact_locations' of "
            "[tool.lynx_pipeline] in pyproject.toml. If that is your team's artifact store, add it "
            "there."
        )
    if parts.scheme and (parts.password is not None or parts.query):
        raise Refused(
            f"{stored}, with a password or a query, and the registry would publish it. Give the "
            "credentials to the client instead, and log the model again."
        )


def _may_be_fetched(
    tracking_uri: str, location: str, parts: SplitResult, locations: Sequence[str]
) -> bool:
    if urlsplit(tracking_uri).scheme in ("", "file", "sqlite"):
        return True
    if ".." in unquote(location).split("/"):
        return False
    own = parts.scheme == "mlflow-artifacts" and not parts.netloc
    return own or any(f"{location}/".startswith(f"{base.rstrip('/')}/") for base in locations)


def download(tracking_uri: str, location: str, folder: Path, mib: int = BUNDLE_MIB) -> None:
    """Download the model at ``location`` into ``folder``, which must not exist yet. Names and sizes
    are listed first, and nothing is downloaded if one is beyond a limit, such as ``mib`` for the
    total. The store can change after that, so the caller has to check what arrived.

    Raises:
        BadInput: there is no such artifact, or it is beyond a limit.
        SystemFailed: MLflow failed.
    """
    with connected(tracking_uri):
        from mlflow.artifacts import download_artifacts

        place = f"the model at {without_secrets(location)!r:.200}"
        for _ in _walk(_artifacts(tracking_uri, location), place, Tally(mib)):
            pass
        folder.mkdir(parents=True)
        got = Path(
            download_artifacts(
                artifact_uri=location, dst_path=str(folder), tracking_uri=tracking_uri
            )
        )
        if got.resolve() != folder.resolve():  # some stores put the model one level down
            got.rename(folder.with_name(folder.name + ".got"))
            folder.rmdir()
            folder.with_name(folder.name + ".got").rename(folder)


def _artifacts(tracking_uri: str, root: str) -> "ArtifactRepository":
    """The run's artifacts alone: the client's ``list_artifacts`` mixes in logged models."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    return get_artifact_repository(root, tracking_uri=tracking_uri)


def _models_in(artifacts: "ArtifactRepository") -> Iterator[str]:
    """The folders that contain an ``MLmodel``, without those in another model."""
    any_size = Tally(2**63)  # nothing is downloaded here
    for folder, files, folders in _walk(artifacts, "the run's artifacts", any_size):
        if posixpath.join(folder, MLMODEL) in files:
            yield folder
            folders.clear()


def _walk(
    artifacts: "ArtifactRepository", what: str, tally: Tally
) -> Iterator[tuple[str, list[str], list[str]]]:
    """Each folder with the paths of its files and folders, breadth first, so that many folders are
    noticed before each is listed. The caller may remove folders, which are then not listed.

    Raises:
        BadInput: they are beyond a limit, or a name is not one.
    """
    waiting = deque([""])
    while waiting:
        folder = waiting.popleft()
        files, folders = list[str](), list[str]()
        try:
            for found in artifacts.list_artifacts(folder or None):
                _check_name(folder, found.path)
                if found.is_dir:
                    tally.add_folder(found.path)
                    folders.append(found.path)
                else:
                    # A server leaves out the size of an empty file.
                    tally.add_file(found.path, max(found.file_size or 0, 0))
                    files.append(found.path)
        except BadInput as error:
            raise BadInput(f"{what}: {error}") from None
        yield folder, files, folders
        waiting.extend(folders)


def _check_name(folder: str, path: str) -> None:
    parent, _, name = path.rpartition("/")
    if parent != folder or name in ("", ".", "..") or "\0" in name:
        raise BadInput(
            f"{path!r:.80} is listed in the folder {folder!r:.80}, and is no name of a file there. "
            "Check the store."
        )
