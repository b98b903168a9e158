"""How a run ended: as an error of ours, and in one word for a list of runs. Both come from
Dagster's own record."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

from dagster import (
    DagsterEvent,
    DagsterEventType,
    DagsterInstance,
    DagsterRun,
    DagsterRunStatus,
    RunsFilter,
)
from dagster._core.errors import DagsterExecutionInterruptedError

from lynx_pipeline.defs.failures import EXIT_CODE
from lynx_pipeline.defs.gate import CANDIDATE_EVAL, PARTITION_TAG, PROMOTION_DECISION, Gate
from lynx_pipeline.defs.instance import open_instance
from lynx_pipeline.errors import INTERRUPTED, BadInput, LynxError, Refused, SystemFailed

OUTCOME_TAG = "lynx.outcome"
_ERRORS: dict[Any, type[LynxError]] = {
    kind.exit_code: kind for kind in (Refused, BadInput, SystemFailed)
}


class Outcome(StrEnum):
    """How a run ended."""

    PROMOTED = "promoted"  # also if an earlier run had promoted the version
    EVALUATED = "evaluated"  # and not refused by a check
    REFUSED = "refused"  # by the gate or a policy
    MISTYPED = "mistyped"  # an input is invalid
    BROKEN = "broken"  # everything else: a system failed, the run was interrupted, or a bug


def failure_of(gate: Gate, candidate: str) -> LynxError | None:
    """The error that failed the candidate's last run, or None if the run succeeded.

    Raises:
        SystemFailed: the candidate was never run here.
    """
    mine = RunsFilter(tags={PARTITION_TAG: candidate})
    with open_instance() as instance:
        run = next((it for it in instance.get_runs(mine) if gate.has_run(it)), None)
        if run is None:
            raise SystemFailed(f"Dagster has no run of candidate {candidate} here.")
        return failure_of_run(instance, run)


def failure_of_run(instance: DagsterInstance, run: DagsterRun) -> LynxError | None:
    """The error that failed the run, or None if it succeeded."""
    if run.status is DagsterRunStatus.SUCCESS:
        return None
    for log in instance.all_logs(run.run_id, of_type=DagsterEventType.STEP_FAILURE):
        return failure_of_step(log.get_dagster_event())
    return SystemFailed(f"Dagster's run {run.run_id} ended as {run.status.value}.")


def failure_of_step(event: DagsterEvent) -> LynxError:
    """The error that failed a step."""
    failed = event.step_failure_data.user_failure_data
    if failed is None:
        error = event.step_failure_data.error
        if error and error.cls_name == DagsterExecutionInterruptedError.__name__:
            return SystemFailed(INTERRUPTED)
        message = (error.message if error else "no reason given").strip()[:500]
        return SystemFailed(f"{event.step_key} failed: {message}")
    code: Any = failed.metadata.get(EXIT_CODE)
    kind = _ERRORS.get(code.value if code else None, SystemFailed)
    return kind(failed.description or f"{event.step_key} failed without a reason.")


def outcome_of(gate: Gate, events: Sequence[DagsterEvent], *, complete: bool) -> Outcome | None:
    """The outcome of the run with these events. ``complete``: all its steps ended. None if the run
    was not about a candidate, or only mirrored the alias."""
    for event in events:
        if event.is_step_failure:
            match failure_of_step(event):
                case Refused():
                    return Outcome.REFUSED
                case BadInput():
                    return Outcome.MISTYPED
            return Outcome.BROKEN
    if not complete:
        return Outcome.BROKEN
    made = {event.asset_key for event in events if event.is_step_materialization}
    if gate.key(PROMOTION_DECISION) in made:
        return Outcome.PROMOTED
    return Outcome.EVALUATED if gate.key(CANDIDATE_EVAL) in made else None
