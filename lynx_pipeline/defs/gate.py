"""A gate in a Dagster code location: the project whose settings it reads, and the names of its
definitions.

The gate of a project with one model has no name. Others have one, which is part of everything that
must be unique in a code location or a Dagster instance, so that several of them can be loaded side
by side.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from dagster import AssetKey, DagsterRun, DynamicPartitionsDefinition

from lynx_pipeline.config import Settings, gate_name, load_model, load_project, load_settings
from lynx_pipeline.errors import BadInput, LynxError

EVAL_SET, EVAL_BASELINE = "eval_set", "eval_baseline"
CANDIDATE_BUNDLE, CANDIDATE_EVAL = "candidate_bundle", "candidate_eval"
PROMOTION_DECISION, PRODUCTION_ALIAS = "promotion_decision", "production_alias"
EVALUATE, PROMOTE, EVAL_AND_PROMOTE = "evaluate", "promote", "eval_and_promote"

# Dagster's run tag for the partition.
PARTITION_TAG = "dagster/partition"
GATE_NAME = r"[A-Za-z][A-Za-z0-9_]*"


@dataclass(frozen=True, slots=True)
class Gate:
    """``settings`` reads the project's settings; each step calls it, so that it works with the
    settings of its own time and project. ``name`` is "" for the only gate of a code location.

    Raises:
        BadInput: the name can't be part of Dagster's names.
    """

    settings: Callable[[], Settings]
    name: str = ""

    def __post_init__(self) -> None:
        if self.name and not re.fullmatch(GATE_NAME, self.name):
            raise BadInput(
                f"the gate's name is {self.name!r:.100}: expected letters, digits and underscores, "
                "beginning with a letter, because the names of its jobs begin with it."
            )

    @property
    def partitions(self) -> DynamicPartitionsDefinition:
        """One partition per candidate; its key is the candidate's, such as an MLflow run id."""
        return DynamicPartitionsDefinition(name=self.partitions_name)

    @property
    def partitions_name(self) -> str:
        """The name of :attr:`partitions`."""
        return self.prefixed("candidates")

    def key(self, asset: str) -> AssetKey:
        """The key of an asset."""
        return AssetKey([self.name, asset] if self.name else [asset])

    def op(self, asset: str) -> str:
        """The name of an asset's op, as in a run config."""
        return self.key(asset).to_python_identifier()

    def group(self, name: str) -> str:
        """The group that an asset is shown in; a named gate has only one."""
        return self.name or name

    def prefixed(self, name: str) -> str:
        """The name of a job, sensor, schedule, op or pool."""
        return f"{self.name}_{name}" if self.name else name

    def has_run(self, run: DagsterRun) -> bool:
        """Whether a run with a candidate's key as its partition is one of this gate. Another gate
        may have a candidate with the same key."""
        if not self.name or run.job_name in map(
            self.prefixed, (EVALUATE, PROMOTE, EVAL_AND_PROMOTE)
        ):
            return True
        return any(key.path[0] == self.name for key in run.asset_selection or ())


# The gate of a project with one model.
PROJECT = Gate(load_settings)


def gate_of(settings: Settings) -> Gate:
    """The gate of the project that contains the working folder, for the model of ``settings``."""
    return Gate(partial(load_model, settings.model), settings.gate) if settings.gate else PROJECT


def project_gates() -> list[Gate]:
    """The gates of the project that contains the working folder: one for each model. Settings that
    are invalid are for the steps to report, so definitions load without them."""
    try:
        models = load_project().models
    except LynxError:
        models = ()
    return [Gate(partial(load_model, it), gate_name(it)) for it in models] or [PROJECT]
