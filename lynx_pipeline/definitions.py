"""Dagster's entry point: ``dagster ... -m lynx_pipeline.definitions``."""

from dagster import Definitions, in_process_executor

from lynx_pipeline.defs import assets, checks, jobs

defs = Definitions(
    assets=assets.ALL,
    asset_checks=checks.ALL,
    jobs=jobs.ALL,
    # One process for all steps: each step of the multiprocess executor repays the imports.
    executor=in_process_executor,
)
