"""MLflow: which model a candidate is.

* MLflow 2 keeps a model among the run's artifacts, MLflow 3 as a logged model: an output of the
  run, or a model whose source is the run. All are counted, so none is preferred to another.
* A user may also name one of a run's models, or a version of a registered model. That name is
  resolved to a key, and from there on only the key is used.
* Deleted models are left out. A model counts if MLflow calls it READY, and its run is finished and
  not deleted.
"""

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from lynx_pipeline.adapters.mlflow_files import artifact_repository
from lynx_pipeline.adapters.mlflow_models import (
    check_location,
    check_model_id,
    is_model,
    listing,
    logged_model,
    logged_model_if_any,
    models_in,
)
from lynx_pipeline.adapters.mlflow_tracking import connected
from lynx_pipeline.domain.candidate_key import CandidateKey, is_model_id, is_run_id, parse_key
from lynx_pipeline.domain.text import without_secrets
from lynx_pipeline.errors import BadInput, some_of

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Run

# MLflow sets this tag on a model without files, which names a program elsewhere.
_EXTERNAL = "mlflow.model.isExternal"
_ROOT = "."
# A version of a registered model: its name, and a number or an alias.
_VERSION = re.compile(r"([^/:@]{1,256})(?:/([0-9]{1,9})|@([A-Za-z0-9_-]{1,256}))")


class Model(NamedTuple):
    """A candidate's model, and the run that made it. ``uri`` names the model permanently: the id of
    a logged model, or the location of artifacts. ``location`` is where its files are."""

    key: CandidateKey
    run_id: str
    uri: str
    location: str


class _Listed(NamedTuple):
    """One of a run's models: its key, how a user may name it, and how a message describes it."""

    model: Model
    names: frozenset[str]
    text: str
    ready: bool = True


class _Server(NamedTuple):
    """A connection to MLflow, and where its models may be."""

    client: "MlflowClient"
    tracking_uri: str
    locations: Sequence[str]

    @property
    def name(self) -> str:
        """Its address, for messages."""
        return without_secrets(self.tracking_uri)

    def check_location(self, location: str) -> None:
        """See :func:`~lynx_pipeline.adapters.mlflow_models.check_location`."""
        check_location(self.tracking_uri, location, self.locations)


def find_model(tracking_uri: str, candidate: str, locations: Sequence[str] = ()) -> Model:
    """The model of a candidate, given by its key. Its files must be served by the tracking server,
    or be in or below one of ``locations``.

    Anyone who can write to MLflow controls these values, and its client also resolves aliases and
    paths in a URI. So only keys are accepted, and callers fetch the location checked here.

    Raises:
        BadInput: there is no such run or model, the run was deleted or is not finished, the model
            is not READY, or the key is a run's and it has no model, or several.
        Refused: the model is in another location, or the location contains a password.
        SystemFailed: MLflow failed.
    """
    key = parse_key(candidate)
    with connected(tracking_uri) as client:
        return _find(_Server(client, tracking_uri, locations), key, None)


def choose_model(
    tracking_uri: str, reference: str, name: str | None = None, locations: Sequence[str] = ()
) -> Model:
    """The model that a user asks for; its key is the candidate's.

    ``reference`` is a key, or ``models:/NAME/VERSION``, ``models:/NAME@ALIAS`` or
    ``models:/MODEL_ID``. ``name`` chooses one of a run's models: the name of a logged model,
    ``NAME@STEP`` for a checkpoint, a model id, or a path among the artifacts.

    Raises:
        BadInput, Refused, SystemFailed: see :func:`find_model`; or no model, or more than one, has
            this name.
    """
    given = None if reference.startswith("models:/") else parse_key(reference)
    with connected(tracking_uri) as client:
        key = given or _registered(client, reference)
        if name is not None and (key.model_id or key.path):
            raise BadInput(
                f"{reference!r:.200} already names one model, so it can't be combined with the "
                f"name {name!r:.200}. Leave the name out."
            )
        return _find(_Server(client, tracking_uri, locations), key, name)


def _find(server: _Server, key: CandidateKey, name: str | None) -> Model:
    if key.model_id is None:
        found = _model_of_run(server, key, name)
        if name is None or found.key.model_id is None:
            return found
        key = found.key  # its run may be another one
    model = logged_model(server.client, str(key.model_id))
    if model.status != "READY" or not model.source_run_id:
        raise BadInput(
            f"the logged model {key} has the status {model.status} and the source run "
            f"{model.source_run_id or 'none'}: expected READY and a source run. Log the model "
            "again inside a run."
        )
    _finished_run(server, model.source_run_id)
    server.check_location(model.artifact_location)
    return _logged(model).model


def _model_of_run(server: _Server, key: CandidateKey, name: str | None) -> Model:
    """The run's model at the key's path, or with this name, or else its only one."""
    run = _finished_run(server, str(key.run_id))
    root = run.info.artifact_uri
    server.check_location(root)
    artifacts = artifact_repository(server.tracking_uri, root)
    if key.path is not None and is_model(artifacts, "" if key.path == _ROOT else key.path):
        paths = [key.path]  # the other artifacts don't matter
    else:
        paths = [path or _ROOT for path in models_in(artifacts)]
    models = [_artifact(run, path) for path in paths]
    models += _logged_models(server.client, run)
    ready = [one for one in models if one.ready]
    if key.path is not None:
        found, named = [one for one in ready if one.model.key == key], f" at {key.path!r:.200}"
    elif name is not None:
        found, named = [one for one in ready if name in one.names], f" named {name!r:.200}"
    else:
        found, named = ready, ""
    if len(found) != 1:
        files = [repr(file.path) for file in listing(artifacts)]
        advice = (
            "Name one of them by its name, NAME@STEP, its id or its path"
            if ready
            else "Log a model in it with mlflow.<flavor>.log_model"
        )
        raise BadInput(
            f"run {key.run_id} at {server.name} has {len(found)} models{named}, "
            f"expected exactly one. Its models: {some_of([one.text for one in models])}. Its "
            f"artifacts: {some_of(files)}. {advice}."
        )
    model = found[0].model
    server.check_location(model.location)
    return model if named else model._replace(key=key, run_id=run.info.run_id)


def _finished_run(server: _Server, run_id: str) -> "Run":
    if not is_run_id(run_id):
        raise BadInput(f"MLflow returned {run_id!r:.80}, which is not a run id. Check the server.")
    run = server.client.get_run(run_id)
    state = run.info.status if run.info.lifecycle_stage == "active" else "DELETED"
    if state != "FINISHED":
        raise BadInput(f"run {run_id} at {server.name} is {state}: expected FINISHED.")
    return run


def _registered(client: "MlflowClient", uri: str) -> CandidateKey:
    """The model behind a version of a registered model, now."""
    name = uri.removeprefix("models:/")
    if is_model_id(name):
        return CandidateKey(None, model_id=name)
    match = _VERSION.fullmatch(name)
    if match is None or not name.isprintable():
        raise BadInput(
            f"{uri!r:.200}: expected models:/NAME/VERSION with a number, models:/NAME@ALIAS or "
            "models:/MODEL_ID. A stage or 'latest' does not name one model."
        )
    registered, number, alias = match.groups()
    if number:
        version = client.get_model_version(registered, number)
    else:
        version = client.get_model_version_by_alias(registered, alias)
    if version.status != "READY":
        raise BadInput(f"{uri!r:.200} is {version.status}: expected READY.")
    model_id = version.model_id or version.source.removeprefix("models:/")
    if is_model_id(model_id):
        return CandidateKey(None, model_id=model_id)
    if version.run_id and is_run_id(version.run_id):
        root = client.get_run(version.run_id).info.artifact_uri
        for base in (root, f"runs:/{version.run_id}"):
            if f"{version.source}/".startswith(f"{base}/"):
                path = version.source.removeprefix(base).strip("/") or _ROOT
                return parse_key(str(CandidateKey(version.run_id, path=path)))
    raise BadInput(
        f"{uri!r:.200} has the source {without_secrets(version.source)!r:.200}: expected a logged "
        "model, or an artifact of a run. Register the model from its run."
    )


def _artifact(run: "Run", path: str) -> _Listed:
    run_id, root = run.info.run_id, run.info.artifact_uri
    location = root if path == _ROOT else f"{root}/{path}"
    model = Model(CandidateKey(run_id, path=path), run_id, location, location)
    return _Listed(model, frozenset({path}), f"{without_secrets(location)!r} (an artifact)")


def _logged(model: "LoggedModel", step: int | None = None) -> _Listed:
    kind = "an external model" if model.tags.get(_EXTERNAL) == "true" else "the logged model"
    uri, location = f"models:/{model.model_id}", model.artifact_location
    names, at = {model.model_id, model.name}, ""
    if step is not None:
        names, at = names | {f"{model.name}@{step}"}, f", step {step}" if step else ""
    key = CandidateKey(None, model_id=model.model_id)
    return _Listed(
        Model(key, model.source_run_id, uri, location),
        frozenset(names),
        f"{model.model_id} ({kind} {model.name!r}{at}, {model.status})",
        model.status == "READY",
    )


def _logged_models(client: "MlflowClient", run: "Run") -> Iterator[_Listed]:
    """The run's logged models, in any state except deleted: its outputs, and those of the same
    experiment whose source is the run."""
    from mlflow.exceptions import MlflowException

    run_id, known, token = run.info.run_id, set(), None
    outputs = run.outputs.model_outputs if run.outputs else []
    steps = {output.model_id: output.step for output in outputs}
    try:
        while token != "":
            some = client.search_logged_models(
                [run.info.experiment_id],
                filter_string=f"source_run_id = '{run_id}'",
                page_token=token,
            )
            for model in some:
                known.add(check_model_id(model.model_id))
                yield _logged(model, steps.get(model.model_id))
            token = some.token or ""
    except MlflowException as error:
        if error.error_code != "ENDPOINT_NOT_FOUND":  # MLflow 2 has no logged models
            raise
    for model_id, step in steps.items():
        model = None if model_id in known else logged_model_if_any(client, model_id)
        if model is not None:
            yield _logged(model, step)
