"""MLflow: runs, the models they logged, and the alias that mirrors a promotion.

MLflow 3 keeps a logged model under the run's outputs, not its artifacts, so both are looked
at. The client adds a file to what it downloads; it is dropped, as it is not the model's. Where
artifacts lie is said by whoever made the experiment, and the client would take its token there:
from a server, artifacts are fetched that the server itself hands out, or that lie where the
settings say.
MLflow takes seconds to import and is imported when first used.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote, urlsplit

from lynx_pipeline.adapters.files import make_folder
from lynx_pipeline.config import Settings
from lynx_pipeline.errors import BadInput, LynxError, Refused, SystemFailed

if TYPE_CHECKING:
    from mlflow import MlflowClient

RUN_ID = re.compile(r"[0-9a-f]{32}")
_MODEL_ID = re.compile(r"m-[0-9a-f]{32}")
_ADDED_BY_CLIENT = "registered_model_meta"
_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}


class Model(NamedTuple):
    """A run's model: ``uri`` names it in MLflow, ``location`` is where its files lie."""

    uri: str
    location: str


def check_run_id(run_id: str) -> str:
    """``run_id``, if it has the form of one; it becomes a folder's name.

    Raises:
        BadInput: it has not.
    """
    if not RUN_ID.fullmatch(run_id):
        raise BadInput(f"{run_id!r} is not an MLflow run id: expected 32 hex digits.")
    return run_id


def run_tags(tracking_uri: str, run_id: str) -> dict[str, str]:
    """The run's tags.

    Raises:
        BadInput: there is no such run.
        SystemFailed: MLflow could not be asked.
    """
    check_run_id(run_id)
    with connected(tracking_uri) as client:
        return dict(client.get_run(run_id).data.tags)


@dataclass(frozen=True, slots=True)
class TaggedRun:
    """A run as a search finds it. ``status`` is MLflow's word, ``FINISHED`` if all went well."""

    run_id: str
    status: str
    tags: Mapping[str, str]


def tagged_runs(
    tracking_uri: str, key: str, value: str, page: str, limit: int
) -> tuple[list[TaggedRun], str]:
    """At most ``limit`` runs of any experiment that have this tag, oldest first, and where the
    next page starts. The empty page is the first, and as the next one: there are no more.

    Raises:
        SystemFailed: MLflow could not be asked.
    """
    with connected(tracking_uri) as client:
        experiments, more = [], None
        while more != "":
            some = client.search_experiments(max_results=1000, page_token=more)
            experiments += [experiment.experiment_id for experiment in some]
            more = some.token or ""
        found = client.search_runs(
            experiments,
            filter_string=f"tags.`{key}` = '{value}'",
            order_by=["attributes.start_time ASC"],
            max_results=limit,
            page_token=page or None,
        )
        runs = [TaggedRun(r.info.run_id, r.info.status, dict(r.data.tags)) for r in found]
        following = found.token or ""
        # Without a server in between it comes as bytes.
        return runs, following.decode() if isinstance(following, bytes) else following


def find_model(tracking_uri: str, run_id: str, locations: Sequence[str] = ()) -> Model:
    """The one model that the run holds. ``locations`` are the places besides the server that its
    files may lie in or below.

    Whoever writes to MLflow words all of this, and its client reads more into a URI than an id:
    what is not an id is refused, and what is fetched later is the location that was checked.

    Raises:
        BadInput: there is no such run, or it holds no model, or several.
        Refused: it lies elsewhere.
        SystemFailed: MLflow could not be asked.
    """
    check_run_id(run_id)
    with connected(tracking_uri) as client:
        run = client.get_run(run_id)
        check_location(tracking_uri, run.info.artifact_uri, locations)
        outputs = run.outputs.model_outputs if run.outputs else []
        root = run.info.artifact_uri
        found = [
            Model(f"runs:/{run_id}/{path}".rstrip("/"), f"{root}/{path}".rstrip("/"))
            for path in _models_in(client, run_id, "")
        ] or [Model(f"models:/{output.model_id}", "") for output in outputs]
        if len(found) != 1:
            listed = [file.path for file in client.list_artifacts(run_id)]
            named = ", ".join(model.uri for model in found) or "none"
            raise BadInput(
                f"run {run_id} at {without_secrets(tracking_uri)} has to hold one model and holds "
                f"{len(found)} ({named}). Its artifacts: {', '.join(listed) or 'none'}. Log one "
                "model in it, as mlflow.<flavor>.log_model does."
            )
        [model] = found
        if not model.location:
            model_id = model.uri.removeprefix("models:/")
            if not _MODEL_ID.fullmatch(model_id):
                raise BadInput(f"run {run_id}: {model_id!r:.80} is not the id of a logged model.")
            logged = client.get_logged_model(model_id)
            if logged.model_id != model_id:
                raise SystemFailed(f"MLflow gave another model than {model_id}.")
            model = Model(model.uri, logged.artifact_location)
        check_location(tracking_uri, model.location, locations)
        return model


def check_location(tracking_uri: str, location: str, locations: Sequence[str]) -> None:
    """That artifacts at ``location`` are fetched. A local store's are wherever they are.

    Raises:
        Refused: they are not.
    """
    if urlsplit(tracking_uri).scheme in ("", "file", "sqlite"):
        return
    parts = urlsplit(location)
    if ".." not in unquote(location).split("/"):
        if parts.scheme == "mlflow-artifacts" and not parts.netloc:
            return
        if any(f"{location}/".startswith(f"{base.rstrip('/')}/") for base in locations):
            return
    server, place = without_secrets(tracking_uri), without_secrets(location)[:200]
    raise Refused(
        f"MLflow at {server} keeps the model at {place!r}, which is "
        "neither its own artifact service nor in 'artifact_locations' of [tool.lynx_pipeline] in "
        "pyproject.toml. Add the place there if your team's artifacts lie in it."
    )


def download(tracking_uri: str, location: str, folder: Path) -> None:
    """Fetch the model at ``location`` into ``folder``, which must not exist yet.

    Raises:
        SystemFailed: MLflow could not deliver it.
    """
    with connected(tracking_uri):
        from mlflow.artifacts import download_artifacts

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
        (folder / _ADDED_BY_CLIENT).unlink(missing_ok=True)


def mirror_alias(
    tracking_uri: str, *, model: str, alias: str, uri: str, run_id: str, tags: Mapping[str, str]
) -> str:
    """Point ``alias`` of the registered model at the version with ``tags``; make what lacks.

    Running it again changes nothing. Returns the version's number.

    Raises:
        SystemFailed: MLflow could not be asked.
    """
    with connected(tracking_uri) as client:
        _register(client, model)
        version = next(
            (
                v
                for v in client.search_model_versions(f"name = '{model}'")
                if (v.run_id, v.source) == (run_id, uri)
                and all(v.tags.get(k) == t for k, t in tags.items())
            ),
            None,
        )
        if version is None:
            model_id = uri.removeprefix("models:/") if uri.startswith("models:/") else None
            version = client.create_model_version(
                model, uri, run_id=run_id, tags=dict(tags), model_id=model_id
            )
        if client.get_registered_model(model).aliases.get(alias) != version.version:
            client.set_registered_model_alias(model, alias, version.version)
        return str(version.version)


def _register(client: "MlflowClient", model: str) -> None:
    from mlflow.exceptions import MlflowException

    if client.search_registered_models(filter_string=f"name = '{model}'"):
        return
    try:
        client.create_registered_model(model)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":  # somebody else was faster
            raise


def artifact_root(settings: Settings) -> Path | None:
    """Where the default local store keeps artifacts; None where a server has its own place."""
    if settings.tracking_uri.startswith("sqlite:///"):
        return settings.home / "mlflow-artifacts"
    return None


def without_secrets(uri: str) -> str:
    """A text without the passwords and signatures that URIs in it may hold."""
    bare = re.sub(r"//[^/\s]*@", "//", uri)
    return re.sub(r"(://[^\s?'\"]*)\?[^\s'\"]+", r"\1?…", bare)


def run_page(tracking_uri: str, run_id: str) -> str | None:
    """The run's page in MLflow's UI; None where no server is. Nothing is asked, and nothing of the
    URI that may be a secret is in it."""
    parts = urlsplit(tracking_uri)
    if parts.scheme not in ("http", "https"):
        return None
    place = parts.netloc.rpartition("@")[2] + parts.path.rstrip("/")
    return f"{parts.scheme}://{place}/#/runs/{run_id}"


def _models_in(client: "MlflowClient", run_id: str, path: str) -> Iterator[str]:
    """Folders among the run's artifacts that hold an ``MLmodel``."""
    files = client.list_artifacts(run_id, path or None)
    if any(file.path.rpartition("/")[2] == "MLmodel" for file in files):
        yield path
        return
    for file in files:
        if file.is_dir:
            yield from _models_in(client, run_id, file.path)


@contextmanager
def _as_global(tracking_uri: str) -> Iterator[None]:
    """MLflow looks up ``models:/`` URIs at the process's global server, whatever server the
    client is for, so that one is set, and set back together with the variable it leaks into."""
    import mlflow

    before = mlflow.get_tracking_uri() if mlflow.tracking.is_tracking_uri_set() else None
    variable = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(tracking_uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        if variable is not None:
            os.environ["MLFLOW_TRACKING_URI"] = variable


@contextmanager
def _quiet() -> Iterator[None]:
    """No database migrations and no advice on standard error."""
    import logging
    import warnings

    loggers = [logging.getLogger(name) for name in ("mlflow", "alembic")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def connected(tracking_uri: str) -> Iterator["MlflowClient"]:
    """A client of that server, which is MLflow's global one too while the block runs.

    Raises:
        BadInput: the server does not have what was asked for.
        SystemFailed: anything else that MLflow or its stores raise.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    if tracking_uri.startswith("sqlite:///"):
        make_folder(Path(tracking_uri.removeprefix("sqlite:///")).parent)
    import mlflow
    from mlflow.exceptions import MlflowException

    server = without_secrets(tracking_uri)
    try:
        with _as_global(tracking_uri), _quiet():
            yield mlflow.MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)
    except LynxError:
        raise
    except MlflowException as error:
        message = without_secrets(" ".join(str(error.message).split()))
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            raise BadInput(
                f"MLflow at {server} does not have it: {message}. Check the run id and "
                "MLFLOW_TRACKING_URI."
            ) from None
        raise SystemFailed(f"MLflow at {server} failed: {message[:500]}") from None
    except Exception as error:  # its stores raise whatever their libraries do
        said = f"{type(error).__name__}: {without_secrets(str(error))[:500]}"
        raise SystemFailed(f"MLflow at {server} failed: {said}") from None


def tag_run(tracking_uri: str, run_id: str, key: str, value: str) -> None:
    """Set a tag on a run.

    Raises:
        BadInput: there is no such run.
        SystemFailed: MLflow could not be asked.
    """
    with connected(tracking_uri) as client:
        client.set_tag(run_id, key, value)
