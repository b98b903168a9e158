"""Settings: ``[tool.lynx_pipeline]`` of the project's ``pyproject.toml``, and the environment.

Read once, typed, and strict: an unknown key or value is an error. The environment may say
where state lives (``LYNX_HOME``), which tracking server to ask (``MLFLOW_TRACKING_URI``), and
which environment this is (``LYNX_ENV``: ``dev`` when unset, or ``prod``). ``LYNX_REGISTRY``
counts in ``dev`` only: in ``prod`` the registry is what ``pyproject.toml`` says.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from math import isfinite
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lynx_pipeline.domain.release.identity import Policy
from lynx_pipeline.domain.scorers import EXACT, Scorer, scorer_named
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.errors import BadInput, SystemFailed

TABLE = "[tool.lynx_pipeline]"
# What MLflow's model registry, its filters and a git tag all take as it is.
_MODEL_NAME = re.compile(r"[A-Za-z0-9](?!.*\.(?:\.|lock\b))[A-Za-z0-9._-]*")
_BRANCH = re.compile(r"[A-Za-z0-9](?!.*(?:\.\.|//|/\.|\.lock\b))(?:[A-Za-z0-9._/-]*[A-Za-z0-9_-])?")
_LOCATION = re.compile(r"[a-z][a-z0-9+.-]*:/{0,3}[^\s/?#][^\s?#]*")
_DEFAULT_BRANCH = "lynx-registry"
LOCAL, RAY = ENGINES = ("local", "ray")
ENV_MANAGERS = (LOCAL, "uv")  # in MLflow's words


class NoProject(BadInput):
    """There is no ``pyproject.toml`` with our table here or above."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one evaluation may use: seconds of wall time; MiB of memory, and processes and threads,
    of one worker with all that it starts; MiB of its output while it loads or answers a batch."""

    batch_size: int = 64
    batch_seconds: float = 120.0
    load_seconds: float = 300.0
    total_seconds: float = 3600.0
    memory_mib: int = 8192
    processes: int = 1024
    output_mib: int = 64


@dataclass(frozen=True, slots=True)
class EvaluationSettings:
    """How candidates are asked. ``engine`` is where, one of :data:`ENGINES`; ``workers`` is how
    many processes may answer at once, 0 for one a core. ``environments`` is the folder of the
    candidates' own environments; None if they run in ours."""

    limits: Limits = field(default_factory=Limits)
    engine: str = LOCAL
    workers: int = 0
    environments: Path | None = None


@dataclass(frozen=True, slots=True)
class GitRemote:
    """A registry on a git branch: a URL that git understands, and the branch."""

    url: str
    branch: str

    def __str__(self) -> str:
        return f"{self.url}, branch {self.branch}"


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything the steps need to know. Paths are absolute."""

    root: Path
    home: Path
    env: Env
    model: str
    eval_set: Path
    baseline: Path
    registry: Path | GitRemote | None
    tracking_uri: str
    price_per_hour: float
    artifact_locations: tuple[str, ...] = ()
    scorer: Scorer = EXACT
    identity: Policy | None = None
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)

    @property
    def candidates(self) -> Path:
        """Where each candidate's bundle and evidence are kept, one folder a run."""
        return self.home / "candidates"


def read_env(environ: Mapping[str, str]) -> Env:
    """``LYNX_ENV``.

    Raises:
        BadInput: it is set to anything but ``dev`` or ``prod``.
    """
    value = environ.get("LYNX_ENV", Env.DEV.value)
    if value not in tuple(Env):
        raise BadInput(
            f"LYNX_ENV is {value!r}: expected dev or prod, exactly so. Unset it for dev."
        )
    return Env(value)


def load_settings(
    start: Path | None = None,
    environ: Mapping[str, str] | None = None,
    *,
    pyproject: bytes | None = None,
) -> Settings:
    """The settings of the project that ``start`` (default: the working folder) lies in, or, with
    ``pyproject``, of the project at ``start`` as it would be with this file.

    Raises:
        NoProject: there is no project at or above ``start``.
        BadInput: a setting is not what it has to be.
    """
    environ = os.environ if environ is None else environ
    env = read_env(environ)
    start = (start or Path.cwd()).absolute()
    if pyproject is None:
        root, table = _find_project(start)
    else:
        root, table = start, _our_table(pyproject, start / "pyproject.toml") or {}
    table = dict(table)
    where = f"{root / 'pyproject.toml'}, {TABLE}"

    model = _take(table, "model", str, where)
    if not _MODEL_NAME.fullmatch(model):
        raise BadInput(
            f"{where}: 'model': expected letters, digits, '.', '_' and '-', found {model!r}."
        )
    eval_set = _inside(root, _take(table, "eval_set", str, where), where)
    baseline = _inside(root, _take(table, "baseline", str, where), where)
    registry = _take(table, "registry", str, where, default="")
    scorer = scorer_named(_take(table, "scorer", str, where, default=EXACT.name), where)
    price = _take(table, "price_per_hour", float, where, default=0.05)
    locations = _take(table, "artifact_locations", list, where, default=[])
    identity = _take(table, "identity", dict, where, default={})
    evaluation = _take(table, "evaluation", dict, where, default={})
    if table:
        raise BadInput(f"{where}: unknown key {next(iter(table))!r}.")
    if not all(isinstance(it, str) and _LOCATION.fullmatch(it) for it in locations):
        raise BadInput(
            f"{where}: 'artifact_locations': expected URIs such as s3://bucket/folder, found "
            f"{locations!r}."
        )
    home = Path(_set_or(environ, "LYNX_HOME", str(root / ".lynx"))).absolute()
    options = _read_evaluation(evaluation, f"{where} evaluation", home)
    return Settings(
        root=root,
        home=home,
        env=env,
        model=model,
        eval_set=eval_set,
        baseline=baseline,
        registry=_registry(env, environ, root, home, registry),
        tracking_uri=_set_or(environ, "MLFLOW_TRACKING_URI", f"sqlite:///{home / 'mlflow.db'}"),
        price_per_hour=price,
        artifact_locations=tuple(locations),
        scorer=scorer,
        identity=_read_policy(identity, f"{where} identity") if identity else None,
        evaluation=options,
    )


def _registry(
    env: Env, environ: Mapping[str, str], root: Path, home: Path, configured: str
) -> Path | GitRemote | None:
    override = _set_or(environ, "LYNX_REGISTRY", "") if env is Env.DEV else ""
    place = override or configured
    if not place:
        return None if env is Env.PROD else home / "registry"
    if place.startswith("git+"):
        where = "LYNX_REGISTRY" if override else f"{root / 'pyproject.toml'}, {TABLE}: 'registry'"
        return _git_remote(place.removeprefix("git+"), where)
    return Path(override).absolute() if override else root / configured


def _git_remote(place: str, where: str) -> GitRemote:
    """``<url>#<branch>``, the branch being :data:`_DEFAULT_BRANCH` if it is left out."""
    url, _, branch = place.partition("#")
    try:
        parts = urlsplit(url)
        user, password = parts.username, parts.password
    except ValueError as error:
        raise BadInput(f"{where}: not a URL: {error}.") from None
    if parts.scheme not in ("file", "https", "ssh") or not parts.path.strip("/"):
        raise BadInput(
            f"{where}: expected git+file://, git+https:// or git+ssh:// and a repository, then "
            f"# and a branch, found {parts.scheme}://{parts.hostname or ''}{parts.path}."
        )
    if password is not None or (user is not None and parts.scheme == "https"):
        raise BadInput(f"{where}: holds a credential. Give it to git's credential helper instead.")
    branch = branch or _DEFAULT_BRANCH
    if not _BRANCH.fullmatch(branch):
        raise BadInput(f"{where}: {branch!r} is not a branch name that git takes.")
    return GitRemote(url, branch)


def _set_or(environ: Mapping[str, str], name: str, default: str) -> str:
    value = environ.get(name, default)
    if name in environ and not value.strip():
        raise BadInput(f"{name} is set but empty. Unset it, or give it a value.")
    if not value.isprintable():
        raise BadInput(f"{name} holds characters that can't be printed.")
    return value


def _find_project(start: Path) -> tuple[Path, dict[str, Any]]:
    for folder in (start, *start.parents):
        file = folder / "pyproject.toml"
        if not file.is_file():
            continue
        try:
            table = _our_table(file.read_bytes(), file)
        except OSError as error:
            raise SystemFailed(f"{file} can't be read: {error.strerror}.") from None
        if table is not None:
            return folder, table
    raise NoProject(
        f"no project here: neither {start} nor a folder above it has a pyproject.toml with a "
        f"{TABLE} table. Run this inside the project."
    )


def _our_table(raw: bytes, file: Path) -> dict[str, Any] | None:
    """Our table in the bytes of a ``pyproject.toml``; None if it has none."""
    try:
        tool = tomllib.loads(raw.decode("utf-8")).get("tool")
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{file}: not TOML: {error}.") from None
    table = tool.get("lynx_pipeline") if isinstance(tool, dict) else None
    if table is not None and not isinstance(table, dict):
        raise BadInput(f"{file}: expected {TABLE} to be a table, found {table!r}.")
    return table


def _inside(root: Path, name: str, where: str) -> Path:
    """A path below ``root``: it has to be the project's, so that git has it."""
    path = Path(name)
    if path.is_absolute() or ".." in path.parts:
        raise BadInput(f"{where}: {name!r}: expected a path below the project's folder.")
    return root / path


def _read_evaluation(table: dict[str, Any], where: str, home: Path) -> EvaluationSettings:
    table = dict(table)
    workers = _take(table, "workers", int, where, default=0)
    if workers < 0:
        raise BadInput(f"{where}: 'workers': expected 0 or more, found {workers}.")
    engine = _one_of(table, "engine", ENGINES, where)
    own = _one_of(table, "env_manager", ENV_MANAGERS, where) != LOCAL
    if own and engine == RAY:
        raise BadInput(
            f"{where}: 'env_manager': expected {LOCAL} with the engine {RAY}: its nodes have the "
            "software that they were set up with."
        )
    values = {
        f.name: _take(table, f.name, type(f.default), where, default=f.default)
        for f in fields(Limits)
    }
    if table:
        raise BadInput(f"{where}: unknown key {next(iter(table))!r}.")
    for name, value in values.items():
        if value <= 0:
            raise BadInput(f"{where}: {name!r}: expected more than 0, found {value}.")
    return EvaluationSettings(
        Limits(**values), engine, workers, home / "environments" if own else None
    )


def _one_of(table: dict[str, Any], key: str, words: tuple[str, ...], where: str) -> str:
    """One of ``words``, the first if it isn't said."""
    value: str = _take(table, key, str, where, default=words[0])
    if value not in words:
        raise BadInput(f"{where}: {key!r}: expected {' or '.join(words)}, found {value!r}.")
    return value


def _read_policy(table: dict[str, Any], where: str) -> Policy:
    table = dict(table)
    values = {
        f.name: _take(
            table, f.name, str, where, default=None if f.default is MISSING else f.default
        )
        for f in fields(Policy)
        if f.name != "events"
    }
    events = _take(table, "events", list, where)
    if table:
        raise BadInput(f"{where}: unknown key {next(iter(table))!r}.")
    if not events or not all(isinstance(event, str) and event for event in events):
        raise BadInput(f"{where}: 'events': expected names of events, found {events!r}.")
    for name, value in values.items():
        form, expected = _POLICY_FORMS.get(name, (r"\S(.*\S)?", "text"))
        if not re.fullmatch(form, value):
            raise BadInput(f"{where}: {name!r}: expected {expected}, found {value!r}.")
    return Policy(**values, events=tuple(events))


# Only an issuer on this machine, for trying things out, may do without TLS.
_POLICY_FORMS = {
    "issuer": (
        r"https://[^\s?#]*[^\s?#/]|http://127\.0\.0\.1:\d+",
        "an https:// URL without end slash",
    ),
    "repository_id": (r"[0-9]+", "digits"),
    "repository_owner_id": (r"[0-9]+", "digits"),
    "workflow": (r"\.github/workflows/[^\s/@]+\.ya?ml", ".github/workflows/<file>.yml"),
    "ref": (r"refs/heads/\S+", "refs/heads/<branch>"),
}


def _take(table: dict[str, Any], key: str, kind: type, where: str, default: Any = None) -> Any:
    """Take ``key`` out of ``table``, so that what is left at the end is unknown."""
    value = table.pop(key, default)
    if value is None:
        raise BadInput(f"{where}: {key!r} is missing.")
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    bad_text = isinstance(value, str) and not value.isprintable()
    if not isinstance(value, kind) or isinstance(value, bool) or _no_amount(value) or bad_text:
        raise BadInput(f"{where}: {key!r}: expected {kind.__name__}, found {value!r}.")
    return value


def _no_amount(value: Any) -> bool:
    return isinstance(value, float) and not (isfinite(value) and value >= 0)
