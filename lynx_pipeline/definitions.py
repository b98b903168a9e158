"""Dagster's entry point: ``dagster ... -m lynx_pipeline.definitions``."""

import atexit
import gc

from dagster import Definitions, with_source_code_references

from lynx_pipeline.defs import assets, candidates, checks, jobs, sensors
from lynx_pipeline.defs.executor import tagging_executor
from lynx_pipeline.defs.messages import LOGGERS
from lynx_pipeline.defs.owners import with_owners

# At its end Python looks for cycles among all objects, several times, and Dagster has many. The
# memory goes with the process anyway. `benchmarks/results.md` shows what this saves.
atexit.register(gc.freeze)

defs = Definitions(
    assets=with_source_code_references(with_owners(assets.ALL)),
    asset_checks=checks.ALL,
    jobs=[*jobs.ALL, candidates.archive_candidates],
    schedules=[candidates.archive_daily],
    sensors=sensors.ALL,
    loggers=LOGGERS,
    executor=tagging_executor,
)
