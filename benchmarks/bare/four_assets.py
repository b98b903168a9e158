"""A Dagster job of four assets that do nothing."""

from dagster import Definitions, asset, define_asset_job, in_process_executor


@asset
def first() -> None: ...


@asset(deps=[first])
def second() -> None: ...


@asset(deps=[second])
def third() -> None: ...


@asset(deps=[third])
def fourth() -> None: ...


defs = Definitions(
    assets=[first, second, third, fourth],
    jobs=[define_asset_job("four", executor_def=in_process_executor)],
)
