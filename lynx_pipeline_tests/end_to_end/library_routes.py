"""Launch promotions from Python, in a separate process: ``python -m <this> RUN_ID``.

Prints the result of each as JSON.
"""

import json
import sys

from dagster import (
    DagsterInstance,
    JobDefinition,
    ReexecutionOptions,
    execute_job,
    materialize,
    reconstructable,
)
from dagster._core.execution.execution_result import ExecutionResult

from lynx_pipeline.definitions import defs
from lynx_pipeline.defs.assets import build_assets
from lynx_pipeline.defs.gate import PROJECT
from lynx_pipeline.defs.instance import open_instance


def promote_job() -> JobDefinition:
    """The job that only promotes."""
    return defs.resolve_job_def("promote")


def without_checks(run_id: str, instance: DagsterInstance) -> ExecutionResult:
    """Materialize all assets without their checks."""
    return materialize(
        build_assets(PROJECT), partition_key=run_id, instance=instance, raise_on_error=False
    )


def retried(run_id: str, instance: DagsterInstance) -> ExecutionResult:
    """Execute a promotion, and retry it from the failed step."""
    tags = {"dagster/partition": run_id}
    job = reconstructable(promote_job)
    failed = execute_job(job, instance, tags=tags)
    options = ReexecutionOptions.from_failure(failed.run_id, instance)
    return execute_job(job, instance, tags=tags, reexecution_options=options)


def ended(result: ExecutionResult) -> str:
    """``success``, or the beginning of the failed step's message."""
    if result.success:
        return "success"
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    error = failure.step_failure_data.error
    assert error is not None
    return error.message.split(": ")[1]


if __name__ == "__main__":
    with open_instance() as shared:
        print(
            json.dumps(
                {
                    "assets without checks": ended(without_checks(sys.argv[1], shared)),
                    "retry from failure": ended(retried(sys.argv[1], shared)),
                }
            )
        )
