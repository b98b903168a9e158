"""The sensors: telling people what the registry has."""

from datetime import datetime
from typing import Any

from dagster import (
    AssetKey,
    DagsterEventType,
    DagsterRunStatus,
    DefaultSensorStatus,
    RunStatusSensorContext,
    SkipReason,
    run_status_sensor,
)

from lynx_pipeline import registry
from lynx_pipeline.adapters import notify
from lynx_pipeline.defs.assets import promotion_decision
from lynx_pipeline.defs.jobs import eval_and_promote, promote
from lynx_pipeline.domain.ledger import Entry


@run_status_sensor(
    run_status=DagsterRunStatus.SUCCESS,
    monitored_jobs=[promote, eval_and_promote],
    default_status=DefaultSensorStatus.RUNNING,
)
def announce_promotions(context: RunStatusSensorContext) -> SkipReason | None:
    """Tells the channels of ``APPRISE_URLS`` of each promotion that a run made.

    The promotion stands whatever happens here; a channel that was not told fails the tick.
    """
    if not notify.configured():
        return SkipReason(f"{notify.CHANNELS} names no channel.")
    entry = _made_by(context)
    if entry is None:
        return SkipReason("The run promoted nothing that was not promoted before.")
    from lynx_pipeline.flow.announce import announce

    told = announce(entry)
    context.log.info(f"{told} channels know that {entry.fact.semver} is promoted.")
    return None


def _made_by(context: RunStatusSensorContext) -> Entry | None:
    """The promotion that this run made; None if it only found it made."""
    record: Any = context.instance.get_run_record_by_id(context.dagster_run.run_id)
    for log in context.instance.all_logs(
        record.dagster_run.run_id, of_type=DagsterEventType.ASSET_MATERIALIZATION
    ):
        made: Any = log.asset_materialization
        if made.asset_key == AssetKey(promotion_decision.key.path):
            entry = registry.promoted(str(made.metadata["semver"].value))
            when = datetime.fromisoformat(entry.fact.time).timestamp()
            return entry if when >= int(record.start_time) else None
    return None


ALL = [announce_promotions]
