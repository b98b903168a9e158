"""The executor of every run: Dagster's in-process one, which at the end also tags the run with its
outcome, version and candidate. Every route that launches a run goes through it: the UI, sensors,
backfills, ``dagster job execute`` and ``lynx-pipeline run``. A run whose process was killed does
not; the sensor ``tag_lost_runs`` tags it. In another project's code location, only the runs of the
gate's jobs have this executor.

One process for all steps, because the multiprocess executor repeats the imports in each step.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from dagster import (
    DagsterEvent,
    Executor,
    ExecutorDefinition,
    InitExecutorContext,
    executor,
    in_process_executor,
)
from dagster._core.execution.context.system import PlanOrchestrationContext
from dagster._core.execution.plan.plan import ExecutionPlan
from dagster._core.execution.retries import RetryMode
from dagster._core.execution.step_dependency_config import StepDependencyConfig

from lynx_pipeline.defs.gate import PARTITION_TAG, PROMOTION_DECISION, Gate
from lynx_pipeline.defs.known import Known, recall
from lynx_pipeline.defs.metadata import WORST_BUCKET, WORST_MARGIN
from lynx_pipeline.defs.outcome import OUTCOME_TAG, Outcome, failure_of_step, outcome_of
from lynx_pipeline.errors import paragraph
from lynx_pipeline.evaluation.candidate import SEMVER_TAG

RUN_NAME_TAG, AUTHOR_TAG = "lynx.run_name", "lynx.author"
_CONFIG: Any = in_process_executor.config_schema


class _Tagging(Executor):
    """Executes with another executor, and tags the run when that ends, however it ends."""

    def __init__(self, gates: Sequence[Gate], inner: Executor) -> None:
        self.gates = gates
        self.inner = inner

    @property
    def retries(self) -> RetryMode:
        """The inner executor's."""
        return self.inner.retries

    @property
    def step_dependency_config(self) -> StepDependencyConfig:
        """The inner executor's."""
        return self.inner.step_dependency_config

    def execute(
        self, plan_context: PlanOrchestrationContext, execution_plan: ExecutionPlan
    ) -> Iterator[DagsterEvent]:
        """Execute the steps."""
        events, complete = list[DagsterEvent](), False
        try:
            for event in self.inner.execute(plan_context, execution_plan):
                if event.is_step_failure or event.is_step_materialization:
                    events.append(event)
                yield event
            complete = True
        finally:
            # Whatever fails here neither changes the run's result nor hides why the run failed.
            try:
                run = plan_context.dagster_run
                for gate in self.gates:
                    if gate.has_run(run):
                        _conclude(gate, plan_context, execution_plan, events, complete)
            except Exception as error:
                with suppress(Exception):
                    plan_context.log.warning(
                        f"The run's tags could not be written: {type(error).__name__}: "
                        f"{str(error)[:300]}"
                    )


def build_executor(gates: Sequence[Gate]) -> ExecutorDefinition:
    """The executor of the runs of these gates."""

    @executor(name=in_process_executor.name, config_schema=_CONFIG)
    def tagging_executor(context: InitExecutorContext) -> Executor:
        """Executes all steps in one process, and tags the run with its outcome."""
        create: Any = in_process_executor.executor_creation_fn
        return _Tagging(gates, create(context))

    return tagging_executor


def _conclude(
    gate: Gate,
    plan_context: PlanOrchestrationContext,
    plan: ExecutionPlan,
    events: list[DagsterEvent],
    complete: bool,
) -> None:
    """Tag the run; if it was refused, say so at the end of its log."""
    run, instance = plan_context.dagster_run, plan_context.instance
    key = run.tags.get(PARTITION_TAG)
    outcome = outcome_of(gate, events, complete=complete)
    if key is None or outcome is None:
        return
    instance.add_run_tags(run.run_id, {OUTCOME_TAG: outcome.value})
    known = recall(gate, instance, key)
    semver = _semver(gate, plan_context.run_config, run.tags, plan, known)
    tags = {SEMVER_TAG: semver, RUN_NAME_TAG: known.run_name, AUTHOR_TAG: known.author}
    instance.add_run_tags(run.run_id, {name: value for name, value in tags.items() if value})
    failed = next((event for event in events if event.is_step_failure), None)
    if outcome is Outcome.REFUSED and failed is not None:
        version = f" as {semver}" if semver else ""
        plan_context.log.info(
            f"Refused: candidate {known.describe(key)}{version}. {_reason(failed)}"
        )


def _semver(
    gate: Gate,
    config: Mapping[str, Any],
    tags: Mapping[str, str],
    plan: ExecutionPlan,
    known: Known,
) -> str:
    """The version that the run was asked to promote; "" if it was not."""
    name = gate.op(PROMOTION_DECISION)
    if name not in plan.step_keys_to_execute:
        return tags.get(SEMVER_TAG, "")
    ops: Any = config.get("ops") or {}
    given = ((ops.get(name) or {}).get("config") or {}).get("semver")
    return given or known.semver or tags.get(SEMVER_TAG, "")


def _reason(failed: DagsterEvent) -> str:
    """Why it was refused, in one line."""
    found: Any = failed.step_failure_data.user_failure_data
    if found and WORST_BUCKET in found.metadata:
        bucket, margin = (found.metadata[name].value for name in (WORST_BUCKET, WORST_MARGIN))
        below = f", {-margin:.2f} points below its floor" if margin is not None else " is missing"
        return f"Worst bucket: {bucket}{below}. Nothing was changed."
    return paragraph(failure_of_step(failed))
