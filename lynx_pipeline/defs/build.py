"""Builds the definitions of a gate: of this repository's code location, or as a part of another."""

import warnings
from collections.abc import Callable

from dagster import BetaWarning, Definitions, PreviewWarning, with_source_code_references

from lynx_pipeline.config import Settings
from lynx_pipeline.defs.assets import build_assets
from lynx_pipeline.defs.candidates import build_archiving
from lynx_pipeline.defs.checks import build_checks
from lynx_pipeline.defs.executor import build_executor
from lynx_pipeline.defs.gate import PROJECT, Gate, project_gates
from lynx_pipeline.defs.jobs import build_jobs
from lynx_pipeline.defs.messages import LOGGERS
from lynx_pipeline.defs.owners import with_owners
from lynx_pipeline.defs.sensors import build_sensors


def build_definitions(settings: Settings | Callable[[], Settings], name: str = "") -> Definitions:
    """The definitions of the gate of the project with these settings.

    With a function, each step reads the settings when it runs. ``name`` makes the definitions a
    part of another code location: it is the first part of every asset key, the prefix of jobs,
    sensors, schedules and partitions, and the group of the assets. The code location keeps its own
    executor and loggers. Without a name, they are a whole code location, with ours.

    Raises:
        BadInput: ``name`` has other characters than letters, digits and underscores.
    """
    return _build(Gate((lambda: settings) if isinstance(settings, Settings) else settings, name))


def build_project() -> Definitions:
    """The definitions of the project that contains the working folder. If it has several models,
    each has a gate, named like the model."""
    gates = project_gates()
    if gates == [PROJECT]:
        return _build(PROJECT)
    whole = Definitions(loggers=LOGGERS, executor=build_executor(gates))
    return Definitions.merge(*map(_build, gates), whole)


def _build(gate: Gate) -> Definitions:
    executor = build_executor([gate])
    jobs = build_jobs(gate, executor)
    archiving = build_archiving(gate, executor)
    with warnings.catch_warnings():
        # Check results per partition are new in Dagster; without them two candidates share one.
        warnings.simplefilter("ignore", PreviewWarning)
        warnings.simplefilter("ignore", BetaWarning)
        assets = with_source_code_references(with_owners(gate, build_assets(gate)))
        checks = build_checks(gate)
    return Definitions(
        assets=assets,
        asset_checks=checks,
        jobs=[*jobs, archiving.job],
        schedules=[archiving],
        sensors=build_sensors(gate, jobs),
        loggers=None if gate.name else LOGGERS,
        executor=None if gate.name else executor,
    )
