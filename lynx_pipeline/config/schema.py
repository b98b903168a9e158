"""Our tables of ``pyproject.toml``: their keys, and the values that each accepts.

Every key has a description and the values it accepts, in words. Both appear in
``docs/reference.md``, and error messages use the same words. Reading a table and reporting what is
wrong with it is left to :mod:`lynx_pipeline.config.parse`. A server that fetches models reads these
tables beside packages that its model needs, so this module needs none: see
docs/adr/0024-a-light-client.md.
"""

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from lynx_pipeline.config.checks import (
    entry_hash,
    event_names,
    list_of,
    location,
    number,
    one_of,
    positive,
    project_path,
    repository_path,
    text,
    trusted_key,
    whole_number,
    witness_keys,
)
from lynx_pipeline.config.settings import (
    CORPUS_CHECKS,
    ENGINES,
    ENV_MANAGERS,
    LOCAL,
    WARN,
    Limits,
)
from lynx_pipeline.domain.release.providers import GITHUB, PROVIDERS
from lynx_pipeline.domain.release.signing import TrustedKey
from lynx_pipeline.domain.release.witnesses import NAME_FORM, WitnessKey
from lynx_pipeline.domain.scorers import EXACT, SCORERS
from lynx_pipeline.domain.text import PROMPTS, SHOWN

GTO_NAME = "[A-Za-z0-9](?:[A-Za-z0-9_-]*[A-Za-z0-9])?"
_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Key:
    """What a key means, and what it accepts: in words, and as a function that returns the value to
    use and raises :class:`ValueError` for one that is not accepted. Only of a list is its text
    shown; it must not contain the value, which may be a password."""

    description: str
    expected: str
    check: Callable[[Any], Any]


def key(
    description: str, expected: str, check: Callable[[Any], Any], default: Any = MISSING
) -> Any:
    """A field of a table. Without ``default`` it is required."""
    return field(default=default, metadata={Key: Key(description, expected, check)})


def keys(table: type) -> Mapping[str, Key]:
    """The keys of ``table``, without its subtables."""
    return {it.name: it.metadata[Key] for it in fields(table) if Key in it.metadata}


_TEXT = ("text that does not start or end with a space", text(r"\S(.*\S)?"))
_DIGITS = ('the number as text, such as "1234"', text("[0-9]+"))
_PATH = ("a path relative to the project's folder and inside it", project_path)
_COUNT = ("a whole number greater than 0", whole_number(1))
_SECONDS = ("a number greater than 0", positive)


def _choice(names: tuple[str, ...]) -> tuple[str, Callable[[Any], str]]:
    return (" or ".join(names), one_of(*names))


@dataclass(frozen=True, kw_only=True)
class EvaluationTable:
    """How candidates are evaluated."""

    engine: str = key(
        "Where candidates are evaluated: on this machine or on a Ray cluster.",
        *_choice(ENGINES),
        LOCAL,
    )
    env_manager: str = key(
        "The candidate's Python environment: this one, or one that uv builds from the bundle's "
        "requirements.",
        *_choice(ENV_MANAGERS),
        LOCAL,
    )
    answer_column: str = key(
        "The column with the answers, if a model returns several: of a data frame, or a key of a "
        "dictionary.",
        "the name of a column",
        text(),
        "",
    )
    workers: int = key(
        "Processes that answer at once. 0 means one per core if there is enough work.",
        "a whole number, 0 or more",
        whole_number(0),
        0,
    )
    batch_size: int = key("Prompts per batch.", *_COUNT, _LIMITS.batch_size)
    batch_seconds: float = key("Seconds to answer one batch.", *_SECONDS, _LIMITS.batch_seconds)
    load_seconds: float = key("Seconds to load the model.", *_SECONDS, _LIMITS.load_seconds)
    total_seconds: float = key(
        "Seconds for the whole evaluation.", *_SECONDS, _LIMITS.total_seconds
    )
    memory_mib: int = key(
        "MiB of memory for one worker and its child processes.", *_COUNT, _LIMITS.memory_mib
    )
    processes: int = key("Processes and threads of one worker.", *_COUNT, _LIMITS.processes)
    output_mib: int = key(
        "MiB that a worker may write while it loads or answers one batch.",
        *_COUNT,
        _LIMITS.output_mib,
    )
    bundle_mib: int = key(
        "MiB of all files of a bundle together. A larger one is not downloaded.",
        *_COUNT,
        _LIMITS.bundle_mib,
    )


@dataclass(frozen=True, kw_only=True)
class IdentityTable:
    """Whose CI workflow may change prod. Each value is compared with the claims of its token."""

    provider: str = key("The CI system.", *_choice(tuple(PROVIDERS)), GITHUB)
    # Only an issuer on this machine, for trials, may do without TLS.
    issuer: str = key(
        "The token's issuer.",
        "an https:// URL without a slash at the end",
        text(r"https://[^\s?#]*[^\s?#/]|http://127\.0\.0\.1:\d+"),
    )
    audience: str = key("The token's audience.", *_TEXT)
    repository_id: str = key("The repository's id.", *_DIGITS)
    repository_owner_id: str = key("The id of the repository's owner.", *_DIGITS)
    workflow: str = key(
        "The workflow's file in the repository.",
        ".github/workflows/FILE.yml; with GitLab, the path of its CI/CD configuration",
        text(r"\.github/workflows/[^\s/@]+\.ya?ml|(?!\.github/)[^\s/@][^\s@]*\.ya?ml"),
    )
    environment: str = key("The deployment environment of the workflow's job.", *_TEXT)
    events: tuple[str, ...] = key(
        "The events that may start the workflow.",
        "a list of event names, such as workflow_dispatch",
        event_names,
    )
    ref: str = key(
        "The branch that the workflow has to run on.",
        "refs/heads/BRANCH",
        text(r"refs/heads/\S+"),
        "refs/heads/main",
    )
    runner_environment: str = key("The kind of runner.", *_TEXT, "github-hosted")
    job_workflow: str = key(
        "The reusable workflow that `workflow` calls, and whose job promotes. Leave it out if "
        "`workflow` has this job itself.",
        "OWNER/REPO/.github/workflows/FILE.yml@COMMIT, with the 40 digits of a commit",
        text(r"[A-Za-z0-9-]+/[A-Za-z0-9._-]+/\.github/workflows/[^\s/@]+\.ya?ml@[0-9a-f]{40}"),
        "",
    )


_ALIAS = (
    "letters, digits, '_' and '-', but not 'latest' or a version such as v1",
    text(r"(?!(?i:latest|v[0-9]+)\Z)[A-Za-z0-9_-]{1,255}"),
)


@dataclass(frozen=True, kw_only=True)
class AliasesTable:
    """The aliases of the latest promotion in MLflow's model registry, such as `champion`."""

    prod: str = key("What `prod` promoted last.", *_ALIAS, "production")
    dev: str = key("What `dev` promoted last.", *_ALIAS, "dev")


@dataclass(frozen=True, kw_only=True)
class SignaturesTable:
    """Whose signatures make an entry count in prod."""

    keys: tuple[TrustedKey, ...] = key(
        "The public keys. `until` retires one: entries after the one with this hash don't count "
        "with it.",
        'a list such as [{ public_key = "MCowBQYDK2VwAyEA..." }], or with until = "HASH" too',
        list_of(trusted_key),
        (),
    )
    unsigned_until: str = key(
        "The hash of the last entry that counts without a signature: where a registry ended when "
        "signing began.",
        "64 hex digits",
        entry_hash,
        "",
    )


@dataclass(frozen=True, kw_only=True)
class WitnessesTable:
    """Other machines that sign how far they have seen the registry in prod. Readers require some of
    them."""

    keys: tuple[WitnessKey, ...] = key(
        "The witnesses' public keys, as `registry witness --show-key` prints them.",
        f'a list such as ["w1+1a2b3c4d+BOvN63jn..."], where a name has {NAME_FORM}',
        witness_keys,
    )
    required: int = key(
        "How many of them must have signed the registry recently.",
        "a whole number greater than 0, at most the number of keys",
        whole_number(1),
    )
    max_age_hours: float = key(
        "How old a witness's signature may be, in hours.", "a number greater than 0", positive, 48.0
    )


@dataclass(frozen=True, kw_only=True)
class ProjectTable:
    """The project's model, its inputs, and its registry."""

    # Valid as a name in MLflow's model registry, in its filters, and in a git tag.
    model: str = key(
        "The model's name, in MLflow's model registry and in git tags.",
        "letters, digits, '.', '_' and '-', starting with a letter or digit, without '..' or "
        "'.lock'",
        text(r"[A-Za-z0-9](?!.*\.(?:\.|lock\b))[A-Za-z0-9._-]*"),
    )
    # A server that only fetches models has neither of these two.
    eval_set: str = key(
        "The eval set: a JSONL file that DVC tracks. Required to evaluate and promote.",
        *_PATH,
        "",
    )
    baseline: str = key(
        "The baseline: the file with each bucket's accuracy and the tolerance. Required to "
        "evaluate and promote.",
        *_PATH,
        "",
    )
    corpus: str = key(
        "What the model was trained on or is asked in production: a JSONL file that DVC tracks. "
        "The eval set is compared with it.",
        *_PATH,
        "",
    )
    corpus_checks: str = key(
        "Whether the comparison with the corpus only warns, or blocks promotions.",
        *_choice(CORPUS_CHECKS),
        WARN,
    )
    registry: str = key(
        "Where the registry is kept. Required in prod; dev uses `registry/` in `LYNX_HOME` by "
        "default.",
        "a folder, or a git+https://, git+ssh:// or git+file:// URL with #BRANCH",
        text(),
        "",
    )
    gto_stage: str = key(
        "The stage of GTO that the latest version of prod is in: a tag in a registry on git.",
        "letters, digits, '_' and '-', starting and ending with a letter or digit",
        text(f"(?:{GTO_NAME})?"),
        "",
    )
    scorer: str = key(
        "The rule that decides whether an answer is right.", *_choice(tuple(SCORERS)), EXACT.name
    )
    price_per_hour: float = key(
        "US dollars per hour for the machine that serves the model, for CpQU.",
        "a number, 0 or more",
        number,
        0.05,
    )
    artifact_locations: tuple[str, ...] = key(
        "Where an MLflow server may keep models besides its own artifact service.",
        "a list of folders and URIs, such as /mnt/mlruns or s3://bucket/folder",
        list_of(location),
        (),
    )
    bundle_store: str = key(
        "Where promoted bundles are kept, so that they outlive MLflow: a folder, or a URL of any "
        "storage that DVC supports.",
        "a folder, or a URL such as s3://bucket/folder or remote://NAME/folder",
        text(),
        "",
    )
    mlflow_ui: str = key(
        "Where people reach MLflow's UI, for the links to runs, if that is not "
        "`MLFLOW_TRACKING_URI`.",
        "an http:// or https:// URL without user name and query",
        text(r"(?:https?://[^\s?#@]+)?"),
        "",
    )
    pull_request_shows: str = key(
        "What the comment on a pull request and the job's summary show of the eval set: only "
        "`counts`, also the `prompts` whose answers changed with the candidate's answers, or in "
        "`full` the expected answers and the reference's. The UI and local reports show all.",
        *_choice(SHOWN),
        PROMPTS,
    )
    judges: tuple[str, ...] = key(
        "What a verdict depends on beside the inputs: the workflow, `CODEOWNERS`, lock files, your "
        "own code. A change of one since the workflow's commit stops a promotion. Required in "
        "prod.",
        "a list of files and folders, from the root of the git repository",
        list_of(repository_path),
        (),
    )
    requests_per_day: int = key(
        "How many releases one person may request in 24 hours, through the deploy workflow on "
        "GitHub, and how often all people together may request one candidate. Refused requests "
        "count for the person.",
        *_COUNT,
        20,
    )
    stale_hours: float = key(
        "While the registry can't be verified in prod, `registry resolve` and `fetch` go on with "
        "the latest version that was verified at most so many hours ago, with a warning.",
        "a number, 0 or more",
        number,
        24.0,
    )
    archive_after_days: int = key(
        "The schedule `archive_daily`, which is off by default, archives a candidate that was "
        "promoted or refused when it had no run for so many days.",
        *_COUNT,
        90,
    )
    evaluation: EvaluationTable = EvaluationTable()
    identity: IdentityTable | None = None
    signatures: SignaturesTable = SignaturesTable()
    witnesses: WitnessesTable | None = None
    aliases: AliasesTable = AliasesTable()


SUBTABLES: Mapping[str, type] = {
    "evaluation": EvaluationTable,
    "identity": IdentityTable,
    "signatures": SignaturesTable,
    "witnesses": WitnessesTable,
    "aliases": AliasesTable,
}
