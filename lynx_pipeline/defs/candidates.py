"""The candidates that Dagster shows: which there are, how each ended, and archiving.

To archive a candidate removes its partition, so that the UI no longer shows it. Its runs stay in
Dagster, and its evidence stays in its folder and in the registry. The next run of the candidate
adds the partition again.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from dagster import (
    DagsterInstance,
    DagsterRunStatus,
    DefaultScheduleStatus,
    ExecutorDefinition,
    OpExecutionContext,
    RunRecord,
    RunsFilter,
    ScheduleDefinition,
    job,
    op,
)

from lynx_pipeline.defs.executor import AUTHOR_TAG, RUN_NAME_TAG
from lynx_pipeline.defs.failures import failures
from lynx_pipeline.defs.gate import PARTITION_TAG, Gate
from lynx_pipeline.defs.known import recall
from lynx_pipeline.defs.outcome import OUTCOME_TAG, Outcome
from lynx_pipeline.errors import BadInput, Refused, some_of
from lynx_pipeline.evaluation.candidate import SEMVER_TAG

_DEALT_WITH = {Outcome.PROMOTED.value, Outcome.REFUSED.value}
_ENDED = {DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED}
_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Listed:
    """A candidate in Dagster. ``outcome`` is its last run's, or Dagster's status of that run if it
    has no outcome, such as ``started``; "" if there was no run. ``time`` is when that run was
    created. ``dealt_with``: a run promoted or refused it, and none is active."""

    key: str
    run_name: str
    author: str
    semver: str
    outcome: str
    time: datetime | None
    active: bool
    dealt_with: bool


def candidates(gate: Gate, instance: DagsterInstance) -> list[Listed]:
    """All candidates that have a partition; the one with the newest run first."""
    keys = instance.get_dynamic_partitions(gate.partitions_name)
    found = [
        listed
        for start in range(0, len(keys), _AT_ONCE)
        for listed in _listed(gate, instance, keys[start : start + _AT_ONCE])
    ]
    never = datetime.min.replace(tzinfo=UTC)
    return sorted(found, key=lambda it: it.time or never, reverse=True)


def archive(gate: Gate, instance: DagsterInstance, keys: Sequence[str]) -> None:
    """Remove the partitions of these candidates, or of none.

    Raises:
        BadInput: one of them is not in Dagster.
        Refused: one of them has a run that has not ended.
    """
    known = set(instance.get_dynamic_partitions(gate.partitions_name))
    if unknown := [key for key in keys if key not in known]:
        raise BadInput(
            f"not among Dagster's candidates: {some_of([f'{key!r:.200}' for key in unknown])}. "
            "Expected keys that 'lynx-pipeline candidates list' shows. An archived candidate is no "
            "longer there."
        )
    if active := [it.key for it in _listed(gate, instance, keys) if it.active]:
        raise Refused(
            f"a run has not ended yet, of candidate {some_of(active)}. Wait for it or cancel it, "
            "then archive the candidate."
        )
    for key in keys:
        instance.delete_dynamic_partition(gate.partitions_name, key)


def overdue(gate: Gate, instance: DagsterInstance, days: int, now: datetime) -> list[Listed]:
    """The candidates that were dealt with and had no run in the last ``days``."""
    before = now - timedelta(days=days)
    return [
        it for it in candidates(gate, instance) if it.dealt_with and it.time and it.time < before
    ]


def _listed(gate: Gate, instance: DagsterInstance, keys: Sequence[str]) -> Iterator[Listed]:
    runs: dict[str, list[RunRecord]] = {key: [] for key in keys}
    for record in instance.get_run_records(RunsFilter(tags={PARTITION_TAG: list(keys)})):
        if gate.has_run(record.dagster_run):
            runs[record.dagster_run.tags[PARTITION_TAG]].append(record)  # newest first
    for key, records in runs.items():
        tags = [record.dagster_run.tags for record in records]
        active = any(record.dagster_run.status not in _ENDED for record in records)
        last = records[0] if records else None
        status = last.dagster_run.status.value.lower() if last else ""
        known = recall(gate, instance, key)
        yield Listed(
            key=key,
            run_name=next((it[RUN_NAME_TAG] for it in tags if RUN_NAME_TAG in it), known.run_name),
            author=next((it[AUTHOR_TAG] for it in tags if AUTHOR_TAG in it), known.author),
            semver=next((it[SEMVER_TAG] for it in tags if SEMVER_TAG in it), known.semver),
            outcome=tags[0].get(OUTCOME_TAG, status) if tags else "",
            time=last.create_timestamp.astimezone(UTC) if last else None,
            active=active,
            dealt_with=not active and any(it.get(OUTCOME_TAG) in _DEALT_WITH for it in tags),
        )


def build_archiving(gate: Gate, executor: ExecutorDefinition) -> ScheduleDefinition:
    """The job that archives what is overdue, and the schedule that runs it."""

    @op(name=gate.prefixed("archive_overdue"))
    def archive_overdue(context: OpExecutionContext) -> None:
        """Archive the candidates that were promoted or refused, and had no run for
        ``archive_after_days``."""
        with failures():
            days = gate.settings().archive_after_days
            found = overdue(gate, context.instance, days, datetime.now(UTC))
            archive(gate, context.instance, [it.key for it in found])
        for it in found:
            context.log.info(f"Archived {it.key} ({it.run_name} by {it.author}): {it.outcome}.")
        context.log.info(f"{len(found)} candidates had no run for {days} days, and were archived.")

    @job(
        name=gate.prefixed("archive_candidates"),
        executor_def=executor,
        description=(
            "Archive the candidates that were promoted or refused, and had no run for "
            "`archive_after_days`: their partitions leave Dagster, their evidence stays."
        ),
    )
    def archive_candidates() -> None:
        """Archive candidates that were dealt with long ago."""
        archive_overdue()

    return ScheduleDefinition(
        name=gate.prefixed("archive_daily"),
        cron_schedule="0 3 * * *",
        job=archive_candidates,
        default_status=DefaultScheduleStatus.STOPPED,
        description=f"Runs {archive_candidates.name} every night. Off by default.",
    )
