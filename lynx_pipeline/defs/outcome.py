"""The outcome of a candidate's last run, from Dagster's own record."""

from typing import Any

from dagster import DagsterEventType, DagsterInstance, DagsterRun, DagsterRunStatus, RunsFilter
from dagster._core.errors import DagsterExecutionInterruptedError

from lynx_pipeline.defs.instance import open_instance
from lynx_pipeline.defs.partitions import PARTITION_TAG
from lynx_pipeline.errors import INTERRUPTED, BadInput, LynxError, Refused, SystemFailed

_ERRORS: dict[Any, type[LynxError]] = {
    kind.exit_code: kind for kind in (Refused, BadInput, SystemFailed)
}


def failure_of(candidate: str) -> LynxError | None:
    """The error that failed the candidate's last run, or None if the run succeeded.

    Raises:
        SystemFailed: the candidate was never run here.
    """
    mine = RunsFilter(tags={PARTITION_TAG: candidate})
    with open_instance() as instance:
        run = next(iter(instance.get_runs(mine, limit=1)), None)
        if run is None:
            raise SystemFailed(f"Dagster has no run of candidate {candidate} here.")
        return failure_of_run(instance, run)


def failure_of_run(instance: DagsterInstance, run: DagsterRun) -> LynxError | None:
    """The error that failed the run, or None if it succeeded."""
    if run.status is DagsterRunStatus.SUCCESS:
        return None
    for log in instance.all_logs(run.run_id, of_type=DagsterEventType.STEP_FAILURE):
        event = log.get_dagster_event()
        failed = event.step_failure_data.user_failure_data
        if failed is None:
            if refusal := _failed_check(instance, run.run_id):
                return refusal
            error = event.step_failure_data.error
            if error and error.cls_name == DagsterExecutionInterruptedError.__name__:
                return SystemFailed(INTERRUPTED)
            message = (error.message if error else "no reason given").strip()[:500]
            return SystemFailed(f"{event.step_key} failed: {message}")
        code: Any = failed.metadata.get("exit_code")
        kind = _ERRORS.get(code.value if code else None, SystemFailed)
        return kind(failed.description or f"{event.step_key} failed without a reason.")
    return SystemFailed(f"Dagster's run {run.run_id} ended as {run.status.value}.")


def _failed_check(instance: DagsterInstance, run_id: str) -> LynxError | None:
    """The error of the blocking check that failed a run, if its metadata has the exit code."""
    for log in instance.all_logs(run_id, of_type=DagsterEventType.ASSET_CHECK_EVALUATION):
        check = log.get_dagster_event().asset_check_evaluation_data
        code: Any = check.metadata.get("exit_code")
        if check.blocking and not check.passed and code:
            kind = _ERRORS.get(code.value, SystemFailed)
            return kind(f"{check.check_name}: {check.description}")
    return None
