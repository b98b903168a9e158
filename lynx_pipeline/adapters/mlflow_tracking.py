"""MLflow: the connection, runs and their tags, and the alias that mirrors a promotion.

MLflow takes seconds to import, so it is imported when first used.
"""

import gc
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from lynx_pipeline.adapters.files import make_folder
from lynx_pipeline.config import Settings
from lynx_pipeline.domain.text import printable, without_secrets
from lynx_pipeline.errors import LynxError, NotFound, SystemFailed, missing_package

if TYPE_CHECKING:
    from mlflow import MlflowClient

_ADVICE = "Check the server and MLFLOW_TRACKING_URI, then run this again."
_LONGEST_NAME = 120
_NO_METRIC_NAME = re.compile(r"[^/\w.\- :]")
_METRICS_PER_REQUEST = 1000  # what MLflow accepts
_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}


@dataclass(frozen=True, slots=True)
class RunInfo:
    """What identifies a run for people: its name, its user, and its tags. Anybody who can write to
    MLflow controls them."""

    name: str
    author: str
    tags: Mapping[str, str]


def run_info(tracking_uri: str, run_id: str) -> RunInfo:
    """The run's name, user and tags. Name and user are printable and not long; "" if MLflow has
    none.

    Raises:
        BadInput: there is no such run.
        SystemFailed: MLflow failed.
    """
    with connected(tracking_uri) as client:
        run = client.get_run(run_id)
        tags = dict(run.data.tags)
    return RunInfo(
        _shown(run.info.run_name or ""), _shown(tags.get("mlflow.user") or run.info.user_id), tags
    )


def _shown(text: str | None) -> str:
    return printable((text or "")[:_LONGEST_NAME]).strip()


@dataclass(frozen=True, slots=True)
class TaggedRun:
    """A run as a search returns it. ``status`` is MLflow's, ``FINISHED`` for a successful run."""

    run_id: str
    status: str
    tags: Mapping[str, str]


def tagged_runs(
    tracking_uri: str, key: str, value: str, page: str, limit: int
) -> tuple[list[TaggedRun], str]:
    """At most ``limit`` runs with this tag from all experiments, oldest first, and the token of
    the next page. Pass the token as ``page``; "" is the first page. A returned "" means that there
    is no further page.

    Raises:
        SystemFailed: MLflow failed.
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
        # A local store returns the token as bytes.
        return runs, following.decode() if isinstance(following, bytes) else following


def mirror_alias(
    tracking_uri: str,
    *,
    model: str,
    alias: str,
    uri: str,
    run_id: str,
    tags: Mapping[str, str],
    about: Mapping[str, str],
    metrics: Mapping[str, float],
) -> str:
    """Point ``alias`` of the registered model at the version with this run, ``uri`` and ``tags``,
    which also gets the tags ``about``. If it is a logged model, that gets ``metrics``. Create the
    registered model and the version if they are missing. Idempotent.

    Returns the version's number.

    Raises:
        SystemFailed: MLflow failed.
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
        model_id = uri.removeprefix("models:/") if uri.startswith("models:/") else None
        if version is None:
            version = client.create_model_version(
                model, uri, run_id=run_id, tags={**tags, **about}, model_id=model_id
            )
        for key, value in about.items():
            if version.tags.get(key) != value:
                client.set_model_version_tag(model, version.version, key, value)
        if client.get_registered_model(model).aliases.get(alias) != version.version:
            client.set_registered_model_alias(model, alias, version.version)
        if model_id:
            _log_metrics(client, run_id, model_id, metrics)
        return str(version.version)


@dataclass(frozen=True, slots=True)
class AliasTarget:
    """The version of a registered model that an alias names. ``source`` is where its files are."""

    version: str
    run_id: str
    source: str


def alias_target(tracking_uri: str, model: str, alias: str) -> AliasTarget | None:
    """What ``alias`` of the registered model names; None if there is no such model or alias.

    Raises:
        SystemFailed: MLflow failed.
    """
    with connected(tracking_uri) as client:
        found = client.search_registered_models(filter_string=f"name = '{model}'")
        number = found[0].aliases.get(alias) if found else None
        if number is None:
            return None
        version = client.get_model_version(model, number)
        return AliasTarget(str(version.version), version.run_id or "", version.source or "")


def _log_metrics(
    client: "MlflowClient", run_id: str, model_id: str, metrics: Mapping[str, float]
) -> None:
    """Log those that the model does not have. If its run was deleted, MLflow takes none; the tags
    have the same numbers."""
    from mlflow.entities import Metric
    from mlflow.exceptions import MlflowException

    with suppress(MlflowException):
        known = {metric.key for metric in client.get_logged_model(model_id).metrics or ()}
        named = {_NO_METRIC_NAME.sub("_", key): value for key, value in metrics.items()}
        now = int(time.time() * 1000)
        missing = [
            Metric(key, value, now, 0, model_id=model_id)
            for key, value in named.items()
            if key not in known
        ]
        for start in range(0, len(missing), _METRICS_PER_REQUEST):
            client.log_batch(run_id, missing[start : start + _METRICS_PER_REQUEST])


def _register(client: "MlflowClient", model: str) -> None:
    from mlflow.exceptions import MlflowException

    if client.search_registered_models(filter_string=f"name = '{model}'"):
        return
    try:
        client.create_registered_model(model)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another process was faster
            raise


def artifact_root(settings: Settings) -> Path | None:
    """The artifact folder of the default local store. None with a server, which has its own."""
    if settings.tracking_uri.startswith("sqlite:///"):
        return settings.home / "mlflow-artifacts"
    return None


def run_page(tracking_uri: str, run_id: str) -> str | None:
    """The address of the run's page in MLflow's UI, without user, password, query and fragment of
    the tracking URI. None without a server. Sends no request."""
    parts = urlsplit(tracking_uri)
    if parts.scheme not in ("http", "https"):
        return None
    place = parts.netloc.rpartition("@")[2] + parts.path.rstrip("/")
    return f"{parts.scheme}://{place}/#/runs/{run_id}"


@contextmanager
def _as_global(tracking_uri: str) -> Iterator[None]:
    """Set the process's global tracking server while the block runs: MLflow resolves ``models:/``
    URIs there, whatever server a client uses. Afterwards restore it, and the environment variable
    that MLflow sets along with it."""
    import mlflow

    variable = os.environ.get("MLFLOW_TRACKING_URI")
    before = mlflow.get_tracking_uri() if mlflow.tracking.is_tracking_uri_set() else None
    if before == variable:
        before = None  # only the variable says so, and it must stay the only one
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
    """Keep migration logs and warnings off standard error."""
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
def _first_import() -> Iterator[None]:
    """Import without garbage collections: they would take a fifth of MLflow's import, and find next
    to nothing. What was imported stays, so later collections skip it."""
    if "mlflow" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@contextmanager
def connected(tracking_uri: str) -> Iterator["MlflowClient"]:
    """A client of that server, which is also MLflow's global one while the block runs.

    Raises:
        BadInput: the server does not have the requested resource, or MLflow is not installed.
        SystemFailed: MLflow or one of its stores raised anything else.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    if tracking_uri.startswith("sqlite:///"):
        make_folder(Path(tracking_uri.removeprefix("sqlite:///")).parent)
    try:
        with _first_import():
            import mlflow
            from mlflow.exceptions import MlflowException

            if tracking_uri.startswith("sqlite:"):
                import mlflow.store.tracking.sqlalchemy_store
    except ModuleNotFoundError as error:
        raise missing_package(error) or error from None

    server = without_secrets(tracking_uri)
    try:
        with _as_global(tracking_uri), _quiet():
            yield mlflow.MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)
    except LynxError:
        raise
    except MlflowException as error:
        message = without_secrets(" ".join(str(error.message).split()))
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            raise NotFound(
                f"not found in MLflow at {server}: {message.rstrip('.')}. Check the run id and "
                "MLFLOW_TRACKING_URI."
            ) from None
        message = message[:500].rstrip(".")
        raise SystemFailed(f"MLflow at {server} failed: {message}. {_ADVICE}") from None
    except Exception as error:  # its stores raise their libraries' own exceptions
        message = f"{type(error).__name__}: {without_secrets(str(error))[:500].rstrip('.')}"
        raise SystemFailed(f"MLflow at {server} failed: {message}. {_ADVICE}") from None


def tag_run(tracking_uri: str, run_id: str, key: str, value: str) -> None:
    """Set a tag on a run.

    Raises:
        BadInput: there is no such run.
        SystemFailed: MLflow failed.
    """
    with connected(tracking_uri) as client:
        client.set_tag(run_id, key, value)
