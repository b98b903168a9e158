"""Reads the settings: finds the project's table, checks it, and applies the environment.

The environment sets where state is kept (``LYNX_HOME``), the tracking server
(``MLFLOW_TRACKING_URI``), and which environment this is (``LYNX_ENV``: ``dev`` when unset, or
``prod``). ``LYNX_REGISTRY`` is ignored in ``prod``: there the registry comes from
``pyproject.toml``. ``LYNX_GATE`` names the model, if the project has several.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from lynx_pipeline.config.models import gate_name, own_place
from lynx_pipeline.config.models import tables as tables_of
from lynx_pipeline.config.settings import (
    DEFAULT_BRANCH,
    LOCAL,
    TABLE,
    EvaluationSettings,
    GitRemote,
    Limits,
    Settings,
)
from lynx_pipeline.domain.file_kinds import recognise
from lynx_pipeline.domain.release.identity import Policy
from lynx_pipeline.domain.release.signing import SigningPolicy
from lynx_pipeline.domain.release.witnesses import WitnessPolicy
from lynx_pipeline.domain.scorers import SCORERS
from lynx_pipeline.domain.text import GATE_VARIABLE
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.errors import BadInput, SystemFailed

if TYPE_CHECKING:
    from lynx_pipeline.config.schema import EvaluationTable, ProjectTable

_BRANCH = re.compile(r"[A-Za-z0-9](?!.*(?:\.\.|//|/\.|\.lock\b))(?:[A-Za-z0-9._/-]*[A-Za-z0-9_-])?")
_WEB = ("http", "https", "webdav", "webdavs")


class NoProject(BadInput):
    """No ``pyproject.toml`` with our table in this folder or above it."""


def read_env(environ: Mapping[str, str]) -> Env:
    """``LYNX_ENV``.

    Raises:
        BadInput: it is set to something other than ``dev`` or ``prod``.
    """
    value = environ.get("LYNX_ENV", Env.DEV.value)
    if value not in tuple(Env):
        raise BadInput(
            f"LYNX_ENV is {value!r}: expected exactly 'dev' or 'prod'. Unset it for dev."
        )
    return Env(value)


@dataclass(frozen=True, slots=True)
class Project:
    """A project's settings before one of its models is chosen. ``tables`` are by the model's name,
    or by "" if there is only one model."""

    root: Path
    home: Path
    env: Env
    tables: Mapping[str, "ProjectTable"]

    @property
    def models(self) -> tuple[str, ...]:
        """The names of the models, if there are several; otherwise none."""
        return tuple(name for name in self.tables if name)


def load_project(
    start: Path | None = None,
    environ: Mapping[str, str] | None = None,
    *,
    pyproject: bytes | None = None,
) -> Project:
    """The project that contains ``start``. Takes and raises what :func:`load_settings` does."""
    from lynx_pipeline.config.parse import parse_table  # some commands never read the file

    environ = os.environ if environ is None else environ
    env = read_env(environ)
    start = (start or Path.cwd()).absolute()
    if pyproject is None:
        root, found = _find_project(start)
    else:
        root, found = start, _our_table(pyproject, start / "pyproject.toml") or {}
    file = str(root / "pyproject.toml")
    home = Path(_variable(environ, "LYNX_HOME", str(root / ".lynx"))).absolute()
    tables = {
        name: parse_table(it, f"{file}, model {name!r}" if name else file)
        for name, it in tables_of(found, file).items()
    }
    return Project(root, home, env, tables)


def load_settings(
    start: Path | None = None,
    environ: Mapping[str, str] | None = None,
    *,
    pyproject: bytes | None = None,
) -> Settings:
    """The settings of the project that contains ``start`` (default: the working folder), for the
    model that ``LYNX_GATE`` names, if the project has several.

    With ``pyproject``: the settings that the project at ``start`` would have with this content of
    its ``pyproject.toml``.

    Raises:
        NoProject: there is no project at ``start`` or above it.
        BadInput: a setting is invalid, or it is not clear which model is meant.
    """
    environ = os.environ if environ is None else environ
    project = load_project(start, environ, pyproject=pyproject)
    # A workflow sets a variable without a value to the empty text.
    return _settings(project, _chosen(project, environ.get(GATE_VARIABLE, "")), environ)


def load_each(environ: Mapping[str, str] | None = None) -> list[Settings]:
    """The settings of the model that ``LYNX_GATE`` names, or otherwise of each model of the project
    that contains the working folder. Raises what :func:`load_settings` does."""
    environ = os.environ if environ is None else environ
    project = load_project(None, environ)
    named = environ.get(GATE_VARIABLE, "")
    chosen = [_chosen(project, named)] if named else project.tables
    return [_settings(project, name, environ) for name in chosen]


def load_model(name: str) -> Settings:
    """The settings of this model of the project that contains the working folder. Raises what
    :func:`load_settings` does."""
    return load_settings(None, {**os.environ, GATE_VARIABLE: name})


def load_committed(settings: Settings, pyproject: bytes) -> Settings:
    """The settings of the same model with another content of ``pyproject.toml``, whatever the
    environment says. Raises what :func:`load_settings` does."""
    environ = {"LYNX_ENV": settings.env.value}
    project = load_project(settings.root, environ, pyproject=pyproject)
    # The project may have had only one model then, or several.
    named = settings.model if settings.gate or settings.model in project.models else ""
    return _settings(project, _chosen(project, named), environ)


def load_each_committed(settings: Settings, pyproject: bytes) -> list[Settings]:
    """The settings of each model of the same project with another content of ``pyproject.toml``.
    Otherwise like :func:`load_committed`."""
    environ = {"LYNX_ENV": settings.env.value}
    project = load_project(settings.root, environ, pyproject=pyproject)
    return [_settings(project, name, environ) for name in project.tables]


def _chosen(project: Project, named: str) -> str:
    """The name of the model that is meant, as a key of the project's tables."""
    models = project.models
    if models:
        if named in models:
            return named
        listed = ", ".join(models)
        if not named:
            raise BadInput(
                f"{project.root / 'pyproject.toml'} has {len(models)} models: {listed}. Name one: "
                f"--gate {models[0]}, {GATE_VARIABLE}={models[0]}, gate={models[0]} in a comment, "
                "or 'project_model' in defs.yaml."
            )
        raise BadInput(
            f"--gate or {GATE_VARIABLE}: expected one of the project's models ({listed}), found "
            f"{named!r:.80}."
        )
    only = project.tables[""].model
    if named not in ("", only):
        raise BadInput(
            f"--gate or {GATE_VARIABLE}: the project's only model is {only!r}, found {named!r:.80}."
        )
    return ""


def _settings(project: Project, name: str, environ: Mapping[str, str]) -> Settings:
    root, home, env, table = project.root, project.home, project.env, project.tables[name]
    state = home / name if name else home
    return Settings(
        root=root,
        home=home,
        env=env,
        model=table.model,
        eval_set_or_none=root / table.eval_set if table.eval_set else None,
        baseline_or_none=root / table.baseline if table.baseline else None,
        registry=_registry(project, name, environ, state / "registry"),
        tracking_uri=_variable(environ, "MLFLOW_TRACKING_URI", f"sqlite:///{home / 'mlflow.db'}"),
        price_per_hour=table.price_per_hour,
        artifact_locations=table.artifact_locations,
        bundle_store=_bundle_store(root, table.bundle_store),
        corpus=root / table.corpus if table.corpus else None,
        corpus_checks=table.corpus_checks,
        scorer=SCORERS[table.scorer],
        identity=Policy(**asdict(table.identity)) if table.identity else None,
        signatures=SigningPolicy(
            keys=table.signatures.keys,
            unsigned_until=table.signatures.unsigned_until or None,
            repository_id=table.identity.repository_id if table.identity else None,
        ),
        witnesses=WitnessPolicy(**vars(table.witnesses)) if table.witnesses else WitnessPolicy(),
        evaluation=_evaluation(table.evaluation, home),
        archive_after_days=table.archive_after_days,
        mlflow_ui=table.mlflow_ui,
        pull_request_shows=table.pull_request_shows,
        judges=table.judges,
        requests_per_day=table.requests_per_day,
        stale_hours=table.stale_hours,
        alias=table.aliases.prod if env is Env.PROD else table.aliases.dev,
        gto_stage=table.gto_stage if env is Env.PROD else "",
        gate=gate_name(name),
    )


def find_settings() -> Settings | None:
    """The settings of the project that contains the working folder; None outside a project.

    Raises:
        BadInput: a setting is invalid.
    """
    try:
        return load_settings()
    except NoProject:
        return None


def _evaluation(table: "EvaluationTable", home: Path) -> EvaluationSettings:
    return EvaluationSettings(
        Limits(**{it.name: getattr(table, it.name) for it in fields(Limits)}),
        table.engine,
        table.workers,
        None if table.env_manager == LOCAL else home / "environments",
        table.answer_column or None,
    )


def _registry(
    project: Project, name: str, environ: Mapping[str, str], default: Path
) -> Path | GitRemote | None:
    root, env, configured = project.root, project.env, project.tables[name].registry
    override = _variable(environ, "LYNX_REGISTRY", "") if env is Env.DEV else ""
    if override and name:
        override = own_place(override, name)
    place = override or configured
    if not place:
        return None if env is Env.PROD else default
    if place.startswith("git+"):
        where = "LYNX_REGISTRY" if override else f"{root / 'pyproject.toml'}, [{TABLE}]: 'registry'"
        return _git_remote(place.removeprefix("git+"), where)
    return Path(override).absolute() if override else root / configured


def _bundle_store(root: Path, configured: str) -> Path | str | None:
    """A folder, or a URL without a password. The message does not show the URL."""
    if "://" not in configured:
        return root / configured if configured else None
    where = f"{root / 'pyproject.toml'}, [{TABLE}]: 'bundle_store'"
    try:
        parts = urlsplit(configured)
        secret = parts.password is not None or (parts.username and parts.scheme in _WEB)
    except ValueError:
        raise BadInput(f"{where}: expected a folder or a URL, found an invalid one.") from None
    if parts.scheme in ("", "file"):
        raise BadInput(f"{where}: expected a folder or a URL. Write a folder without 'file://'.")
    if secret or parts.query or parts.fragment:
        raise BadInput(
            f"{where}: the URL contains a user name, a password or a query. Add a DVC remote with "
            "the credentials ('dvc remote add', 'dvc remote modify --local'), and name it: "
            "remote://NAME/folder."
        )
    return configured


def _git_remote(place: str, where: str) -> GitRemote:
    """``<url>#<branch>``; without a branch, :data:`DEFAULT_BRANCH`.

    The messages don't show the URL, because it may contain a password.
    """
    url, _, branch = place.partition("#")
    try:
        parts = urlsplit(url)
        user, password = parts.username, parts.password
    except ValueError:
        raise BadInput(f"{where}: expected a URL after git+, found an invalid one.") from None
    if parts.scheme not in ("file", "https", "ssh") or not parts.path.strip("/"):
        raise BadInput(
            f"{where}: expected the URL of a repository that starts with git+file://, git+https:// "
            "or git+ssh://, then # and a branch."
        )
    if password is not None or (user is not None and parts.scheme == "https"):
        raise BadInput(
            f"{where}: the URL contains a user name or password. Give it to git's credential "
            "helper instead."
        )
    branch = branch or DEFAULT_BRANCH
    if not _BRANCH.fullmatch(branch):
        raise BadInput(f"{where}: expected a git branch after #, found {branch!r}.")
    return GitRemote(url, branch)


def _variable(environ: Mapping[str, str], name: str, default: str) -> str:
    """The environment variable ``name``, or ``default`` if it is not set."""
    value = environ.get(name, default)
    if name in environ and not value.strip():
        raise BadInput(f"{name} is set but empty. Unset it, or give it a value.")
    if not value.isprintable():
        raise BadInput(f"{name} contains characters that can't be printed. Remove them.")
    return value


def _find_project(start: Path) -> tuple[Path, dict[str, Any]]:
    for folder in (start, *start.parents):
        file = folder / "pyproject.toml"
        if not file.is_file():
            continue
        try:
            table = _our_table(file.read_bytes(), file)
        except OSError as error:
            raise SystemFailed(
                f"{file} can't be read: {error.strerror}. Check its permissions."
            ) from None
        if table is not None:
            return folder, table
    raise NoProject(
        f"no project here: neither {start} nor a folder above it has a pyproject.toml with a "
        f"[{TABLE}] table. Run this inside the project."
    )


def _our_table(raw: bytes, file: Path) -> dict[str, Any] | None:
    """Our table in the bytes of a ``pyproject.toml``; None if there is none."""
    import tomllib

    try:
        tool = tomllib.loads(raw.decode("utf-8")).get("tool")
    except (ValueError, RecursionError) as error:
        if kind := recognise(raw):
            raise BadInput(f"{file}: not TOML in UTF-8: {kind.sentence_for(str(file))}") from None
        raise BadInput(f"{file}: not valid TOML: {error}.") from None
    table = tool.get("lynx_pipeline") if isinstance(tool, dict) else None
    if table is not None and not isinstance(table, dict):
        raise BadInput(f"{file}: expected [{TABLE}] to be a table, found another value.")
    return table
