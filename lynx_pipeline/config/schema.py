"""The tables of ``pyproject.toml`` that belong to us, as strict models.

Every field has a description and an :class:`Expected`. Both appear in ``docs/reference.md``, and
error messages say what was expected in the same words. The models check each table by itself;
resolving paths and applying the environment is left to :mod:`lynx_pipeline.config.load`.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from lynx_pipeline.config.settings import (
    BLOCKING,
    CORPUS_CHECKS,
    ENGINES,
    ENV_MANAGERS,
    LOCAL,
    RAY,
    TABLE,
    CorpusChecks,
    Engine,
    EnvManager,
    Limits,
)
from lynx_pipeline.domain.artifact_location import is_too_wide, parse_location
from lynx_pipeline.domain.scorers import EXACT, SCORERS
from lynx_pipeline.errors import BadInput

_LIMITS = Limits()
_SHOWN_PROBLEMS = 5
_CROSS_FIELD = "cross_field"


@dataclass(frozen=True)
class Expected:
    """The values a field accepts, in words."""

    text: str


def _check_printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("not printable")
    return text


def _check_inside_project(text: str) -> str:
    path = PurePath(text)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError("outside the project")
    return text


def _check_scorer(name: str) -> str:
    if name not in SCORERS:
        raise ValueError("unknown")
    return name


def _check_location(text: str) -> str:
    if is_too_wide(parse_location(text)):
        raise ValueError("too wide")
    return text


def _none_if_empty(table: object) -> object:
    return None if table == {} else table


_PRINTABLE = AfterValidator(_check_printable)
_Text = Annotated[
    str,
    Field(pattern=r"\A\S(.*\S)?\Z"),
    _PRINTABLE,
    Expected("text that does not start or end with a space"),
]
_Digits = Annotated[
    str, Field(pattern=r"\A[0-9]+\Z"), Expected('the number as text, such as "1234"')
]
# Git tracks these files, so they have to be in the project.
_ProjectPath = Annotated[
    str,
    _PRINTABLE,
    AfterValidator(_check_inside_project),
    Expected("a path relative to the project's folder and inside it"),
]
_Count = Annotated[int, Field(gt=0), Expected("a whole number greater than 0")]
_Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False), Expected("a number greater than 0")]


class _Table(BaseModel):
    # Two patterns need lookahead, which pydantic's default regex engine does not support.
    model_config = ConfigDict(
        strict=True,
        frozen=True,
        extra="forbid",
        regex_engine="python-re",
        hide_input_in_errors=True,
    )


class EvaluationTable(_Table):
    """How candidates are evaluated."""

    engine: Annotated[Engine, Expected(" or ".join(ENGINES))] = Field(
        default="local",
        description="Where candidates are evaluated: on this machine or on a Ray cluster.",
    )
    env_manager: Annotated[EnvManager, Expected(" or ".join(ENV_MANAGERS))] = Field(
        default="local",
        description="The candidate's Python environment: this one, or one that uv builds from the "
        "bundle's requirements.",
    )
    answer_column: Annotated[str, _PRINTABLE, Expected("the name of a column")] = Field(
        default="",
        description="The column with the answers, if a model returns several: of a data frame, or "
        "a key of a dictionary.",
    )
    workers: Annotated[int, Field(ge=0), Expected("a whole number, 0 or more")] = Field(
        default=0,
        description="Processes that answer at once. 0 means one per core if there is enough work.",
    )
    batch_size: _Count = Field(default=_LIMITS.batch_size, description="Prompts per batch.")
    batch_seconds: _Seconds = Field(
        default=_LIMITS.batch_seconds, description="Seconds to answer one batch."
    )
    load_seconds: _Seconds = Field(
        default=_LIMITS.load_seconds, description="Seconds to load the model."
    )
    total_seconds: _Seconds = Field(
        default=_LIMITS.total_seconds, description="Seconds for the whole evaluation."
    )
    memory_mib: _Count = Field(
        default=_LIMITS.memory_mib,
        description="MiB of memory for one worker and its child processes.",
    )
    processes: _Count = Field(
        default=_LIMITS.processes, description="Processes and threads of one worker."
    )
    output_mib: _Count = Field(
        default=_LIMITS.output_mib,
        description="MiB that a worker may write while it loads or answers one batch.",
    )
    bundle_mib: _Count = Field(
        default=_LIMITS.bundle_mib,
        description="MiB of all files of a bundle together. A larger one is not downloaded.",
    )

    @field_validator("env_manager")
    @classmethod
    def _check_engine(cls, env_manager: str, info: ValidationInfo) -> str:
        if env_manager != LOCAL and info.data.get("engine") == RAY:
            raise PydanticCustomError(
                _CROSS_FIELD, "local with the engine ray (Ray's nodes use their own software)"
            )
        return env_manager


class IdentityTable(_Table):
    """Whose CI workflow may change prod. Each value is compared with the claims of its token."""

    # Only an issuer on this machine, for trials, may do without TLS.
    issuer: Annotated[
        str,
        Field(pattern=r"\A(?:https://[^\s?#]*[^\s?#/]|http://127\.0\.0\.1:\d+)\Z"),
        _PRINTABLE,
        Expected("an https:// URL without a slash at the end"),
    ] = Field(description="The token's issuer.")
    audience: _Text = Field(description="The token's audience.")
    repository_id: _Digits = Field(description="The repository's id.")
    repository_owner_id: _Digits = Field(description="The id of the repository's owner.")
    workflow: Annotated[
        str,
        Field(pattern=r"\A\.github/workflows/[^\s/@]+\.ya?ml\Z"),
        _PRINTABLE,
        Expected(".github/workflows/FILE.yml"),
    ] = Field(description="The workflow's file in the repository.")
    environment: _Text = Field(description="The deployment environment of the workflow's job.")
    events: Annotated[
        tuple[Annotated[str, Field(min_length=1)], ...],
        Field(strict=False, min_length=1),  # TOML has lists only
        Expected("a list of event names, such as workflow_dispatch"),
    ] = Field(description="The events that may start the workflow.")
    ref: Annotated[
        str, Field(pattern=r"\Arefs/heads/\S+\Z"), _PRINTABLE, Expected("refs/heads/BRANCH")
    ] = Field(default="refs/heads/main", description="The branch that the workflow has to run on.")
    runner_environment: _Text = Field(default="github-hosted", description="The kind of runner.")


class ProjectTable(_Table):
    """The project's model, its inputs, and its registry."""

    # Valid as a name in MLflow's model registry, in its filters, and in a git tag.
    model: Annotated[
        str,
        Field(pattern=r"\A[A-Za-z0-9](?!.*\.(?:\.|lock\b))[A-Za-z0-9._-]*\Z"),
        Expected(
            "letters, digits, '.', '_' and '-', starting with a letter or digit, without '..' "
            "or '.lock'"
        ),
    ] = Field(description="The model's name, in MLflow's model registry and in git tags.")
    # A server that only fetches models has neither of these two.
    eval_set: _ProjectPath = Field(
        default="",
        description="The eval set: a JSONL file that DVC tracks. Required to evaluate and promote.",
    )
    baseline: _ProjectPath = Field(
        default="",
        description="The baseline: the file with each bucket's accuracy and the tolerance. "
        "Required to evaluate and promote.",
    )
    corpus: _ProjectPath = Field(
        default="",
        description="What the model was trained on or is asked in production: a JSONL file that "
        "DVC tracks. The eval set is compared with it.",
    )
    corpus_checks: Annotated[CorpusChecks, Expected(" or ".join(CORPUS_CHECKS))] = Field(
        default="warn",
        description="Whether the comparison with the corpus only warns, or blocks promotions.",
    )
    registry: Annotated[
        str,
        _PRINTABLE,
        Expected("a folder, or a git+https://, git+ssh:// or git+file:// URL with #BRANCH"),
    ] = Field(
        default="",
        description="Where the registry is kept. Required in prod; dev uses `registry/` in "
        "`LYNX_HOME` by default.",
    )
    scorer: Annotated[str, AfterValidator(_check_scorer), Expected(" or ".join(SCORERS))] = Field(
        default=EXACT.name, description="The rule that decides whether an answer is right."
    )
    price_per_hour: Annotated[
        float, Field(ge=0, allow_inf_nan=False), Expected("a number, 0 or more")
    ] = Field(
        default=0.05,
        description="US dollars per hour for the machine that serves the model, for CpQU.",
    )
    artifact_locations: Annotated[
        tuple[Annotated[str, AfterValidator(_check_location)], ...],
        Field(strict=False),  # TOML has lists only
        Expected("a list of folders and URIs, such as /mnt/mlruns or s3://bucket/folder"),
    ] = Field(
        default=(),
        description="Where an MLflow server may keep models besides its own artifact service.",
    )
    bundle_store: Annotated[
        str,
        _PRINTABLE,
        Expected("a folder, or a URL such as s3://bucket/folder or remote://NAME/folder"),
    ] = Field(
        default="",
        description="Where promoted bundles are kept, so that they outlive MLflow: a folder, or a "
        "URL of any storage that DVC supports.",
    )
    mlflow_ui: Annotated[
        str,
        Field(pattern=r"\A(?:https?://[^\s?#@]+)?\Z"),
        _PRINTABLE,
        Expected("an http:// or https:// URL without user name and query"),
    ] = Field(
        default="",
        description="Where people reach MLflow's UI, for the links to runs, if that is not "
        "`MLFLOW_TRACKING_URI`.",
    )
    archive_after_days: _Count = Field(
        default=90,
        description="The schedule `archive_daily`, which is off by default, archives a candidate "
        "that was promoted or refused when it had no run for so many days.",
    )
    evaluation: Annotated[EvaluationTable, Expected("a table")] = Field(
        default=EvaluationTable(), description=EvaluationTable.__doc__
    )
    identity: Annotated[
        IdentityTable | None, BeforeValidator(_none_if_empty), Expected("a table")
    ] = Field(default=None, description=IdentityTable.__doc__)

    @field_validator("corpus_checks")
    @classmethod
    def _check_corpus(cls, corpus_checks: str, info: ValidationInfo) -> str:
        if corpus_checks == BLOCKING and not info.data.get("corpus"):
            raise PydanticCustomError(_CROSS_FIELD, "warn, because no 'corpus' is set")
        return corpus_checks


SUBTABLES: Mapping[str, type[BaseModel]] = {
    "evaluation": EvaluationTable,
    "identity": IdentityTable,
}


def parse_table(table: dict[str, Any], file: str) -> ProjectTable:
    """The table of ``file``, checked.

    Raises:
        BadInput: the table has problems. The message names the first few.
    """
    try:
        return ProjectTable.model_validate(table)
    except ValidationError as error:
        # A list with a bad item can be reported twice; the first report is the precise one.
        problems: dict[tuple[str, str], ErrorDetails] = {}
        for details in error.errors(include_url=False):
            problems.setdefault(_place(details), details)
    shown = [_problem(*place, details) for place, details in problems.items()][:_SHOWN_PROBLEMS]
    more = len(problems) - len(shown)
    raise BadInput(f"{file}, {' '.join(shown)}" + (f" And {more} more problems." if more else ""))


def expected(table: type[BaseModel], key: str) -> str:
    """The values that ``key`` accepts, in words."""
    metadata = table.model_fields[key].metadata
    return next(it.text for it in metadata if isinstance(it, Expected))


def _place(details: ErrorDetails) -> tuple[str, str]:
    """The subtable ("" for the main table) and the key."""
    first, *rest = map(str, details["loc"])
    return (first, rest[0]) if first in SUBTABLES and rest else ("", first)


def _problem(subtable: str, key: str, details: ErrorDetails) -> str:
    table = SUBTABLES.get(subtable, ProjectTable)
    where = f"[{TABLE}.{subtable}]" if subtable else f"[{TABLE}]"
    if details["type"] == "extra_forbidden":
        return f"{where}: unknown key {_short(key)}{_suggestion(key, table)}."
    wanted = details["msg"] if details["type"] == _CROSS_FIELD else expected(table, key)
    if details["type"] == "missing":
        return f"{where}: {key!r} is missing: expected {wanted}."
    return f"{where}: {key!r}: expected {wanted}, found {_found(details['input'])}."


def _suggestion(key: str, table: type[BaseModel]) -> str:
    known = list(table.model_fields)
    near = difflib.get_close_matches(key[:80], known, n=1)
    return (f", did you mean {near[0]!r}?" if near else "") + f" (known keys: {', '.join(known)})"


def _found(value: object) -> str:
    """``value`` for an error message: short, and without credentials."""
    match value:
        case bool():
            return str(value).lower()
        case int() if abs(value) >= 2**63:
            return "a number that is too large"
        case int() | float():
            return repr(value)
        case str() if "@" in value or "?" in value:
            return "text with '@' or '?' in it (not shown, since it may contain a password)"
        case str():
            return _short(value)
        case list():
            return "a list"
        case dict():
            return "a table"
    return "a date or time"


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:77]}...")
