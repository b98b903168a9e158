"""The settings as the rest of the package uses them: resolved, with absolute paths."""

from dataclasses import dataclass, field
from pathlib import Path

from lynx_pipeline.domain.bundle import BUNDLE_MIB
from lynx_pipeline.domain.release.identity import Policy
from lynx_pipeline.domain.release.signing import SigningPolicy
from lynx_pipeline.domain.release.witnesses import WitnessPolicy
from lynx_pipeline.domain.scorers import EXACT, Scorer
from lynx_pipeline.domain.text import PROMPTS
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.errors import BadInput

TABLE = "tool.lynx_pipeline"
ENGINES = LOCAL, RAY = ("local", "ray")
ENV_MANAGERS = (LOCAL, "uv")  # MLflow's terms
CORPUS_CHECKS = WARN, BLOCKING = ("warn", "blocking")
DEFAULT_BRANCH = "lynx-registry"


@dataclass(frozen=True, slots=True)
class Limits:
    """What one evaluation may use.

    ``*_seconds`` is wall-clock time. ``memory_mib`` and ``processes`` (which counts threads too)
    apply to one worker with all its child processes. ``output_mib`` limits what a worker may write
    while it loads or answers one batch. ``bundle_mib`` limits all files of its bundle together.
    """

    batch_size: int = 64
    batch_seconds: float = 120.0
    load_seconds: float = 300.0
    total_seconds: float = 3600.0
    memory_mib: int = 8192
    processes: int = 1024
    output_mib: int = 64
    bundle_mib: int = BUNDLE_MIB


@dataclass(frozen=True, slots=True)
class EvaluationSettings:
    """How candidates are evaluated.

    ``engine`` is one of :data:`ENGINES`. ``workers`` is the number of processes that answer at
    once; 0 means one per core. ``environments`` is the folder for the candidates' own Python
    environments; None if candidates run in ours. ``answer_column`` names the column of a
    candidate's output with the answers; None if there is only one.
    """

    limits: Limits = field(default_factory=Limits)
    engine: str = LOCAL
    workers: int = 0
    environments: Path | None = None
    answer_column: str | None = None


@dataclass(frozen=True, slots=True)
class GitRemote:
    """A registry on a git branch: a URL that git understands, and the branch."""

    url: str
    branch: str

    def __str__(self) -> str:
        return f"{self.url}, branch {self.branch}"


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of a project, for one of its models. Paths are absolute. ``corpus_checks`` is
    one of :data:`CORPUS_CHECKS`, ``pull_request_shows`` of
    :data:`~lynx_pipeline.domain.text.SHOWN`. ``home`` is the project's state folder. ``gate`` is
    the name of the model's gate in Dagster, "" if the project has only one model."""

    root: Path
    home: Path
    env: Env
    model: str
    eval_set_or_none: Path | None
    baseline_or_none: Path | None
    registry: Path | GitRemote | None
    tracking_uri: str
    price_per_hour: float
    artifact_locations: tuple[str, ...] = ()
    bundle_store: Path | str | None = None  # a folder, or a URL for DVC
    corpus: Path | None = None
    corpus_checks: str = WARN
    scorer: Scorer = EXACT
    identity: Policy | None = None
    signatures: SigningPolicy = field(default_factory=SigningPolicy)
    witnesses: WitnessPolicy = field(default_factory=WitnessPolicy)
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)
    archive_after_days: int = 90
    mlflow_ui: str = ""
    pull_request_shows: str = PROMPTS
    judges: tuple[str, ...] = ()
    alias: str = ""
    gto_stage: str = ""
    requests_per_day: int = 20
    stale_hours: float = 0.0
    gate: str = ""

    @property
    def state(self) -> Path:
        """The part of the state folder that belongs to this model."""
        return self.home / self.model if self.gate else self.home

    @property
    def eval_set(self) -> Path:
        """The eval set.

        Raises:
            BadInput: it is not configured, as on a server that only fetches models.
        """
        return self._required("eval_set", self.eval_set_or_none)

    @property
    def baseline(self) -> Path:
        """The baseline. Raises like :attr:`eval_set`."""
        return self._required("baseline", self.baseline_or_none)

    def _required(self, key: str, path: Path | None) -> Path:
        if path is None:
            raise BadInput(
                f"{self.root / 'pyproject.toml'}, [{TABLE}]: {key!r} is missing: expected a path "
                "relative to the project's folder and inside it. Only a server that fetches models "
                "can do without."
            )
        return path

    @property
    def candidates(self) -> Path:
        """The folder with one subfolder per run, for the candidate's bundle and evidence."""
        return self.state / "candidates"
