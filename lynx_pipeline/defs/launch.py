"""Running a job in this process, in the project's own Dagster instance."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dagster import execute_job
from dagster._core.definitions.reconstruct import ReconstructableRepository

from lynx_pipeline.defs.gate import (
    CANDIDATE_EVAL,
    EVAL_AND_PROMOTE,
    EVALUATE,
    PARTITION_TAG,
    PROMOTION_DECISION,
    Gate,
)
from lynx_pipeline.defs.instance import open_instance
from lynx_pipeline.defs.messages import MESSAGES
from lynx_pipeline.defs.metadata import IS_NEW
from lynx_pipeline.defs.outcome import failure_of_run
from lynx_pipeline.defs.requests import promotes
from lynx_pipeline.errors import LynxError
from lynx_pipeline.evaluation.candidate import SEMVER_TAG


@dataclass(frozen=True, slots=True)
class Finished:
    """A run that ended.

    ``evaluated``: the candidate's evidence is valid now. ``promoted``: the version is the
    candidate's now; ``is_new``: by this run. ``failure`` is why the run failed, if it did.
    """

    run_id: str
    evaluated: bool
    promoted: bool
    is_new: bool
    failure: LynxError | None


def launch(gate: Gate, key: str, semver: str | None, *, verbose: bool = False) -> Finished:
    """Evaluate the candidate, and promote it as ``semver`` unless that is None.

    The steps' messages go to standard error; with ``verbose``, Dagster's whole log instead.

    Raises:
        BadInput: the project has no ``dagster.yaml``.
        SystemFailed: its state folder cannot be written.
    """
    job = gate.prefixed(EVAL_AND_PROMOTE if semver else EVALUATE)
    config: Mapping[str, Any] = {
        **(promotes(gate, semver) if semver else {}),
        "loggers": {"console": {"config": {"log_level": "DEBUG"}}} if verbose else {MESSAGES: {}},
    }
    tags = {PARTITION_TAG: key, **({SEMVER_TAG: semver} if semver else {})}
    definitions = ReconstructableRepository.for_module("lynx_pipeline.definitions", "defs")
    with open_instance() as instance:
        instance.add_dynamic_partitions(gate.partitions_name, [key])
        # Not as a context: entering it initializes the resources again, at the end of the log.
        result = execute_job(
            definitions.get_reconstructable_job(job),
            instance=instance,
            run_config=config,
            tags=tags,
        )
        made = {
            event.asset_key: event.materialization.metadata
            for event in result.get_asset_materialization_events()
        }
        run = instance.get_run_by_id(result.run_id)
        assert run is not None
        failure = failure_of_run(instance, run)
    promotion = made.get(gate.key(PROMOTION_DECISION))
    return Finished(
        run_id=run.run_id,
        evaluated=gate.key(CANDIDATE_EVAL) in made,
        promoted=promotion is not None,
        is_new=promotion is not None and bool(promotion[IS_NEW].value),
        failure=failure,
    )
