"""Asking Dagster for a candidate's run: its partition, its run config, its tags.

Who asks are commands, for a run of their own or for a person to start, and the sensor.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lynx_pipeline.adapters.files import write_atomic
from lynx_pipeline.config import Settings
from lynx_pipeline.defs.assets import candidate_bundle, promotion_decision
from lynx_pipeline.defs.instance import open_instance
from lynx_pipeline.defs.jobs import eval_and_promote
from lynx_pipeline.defs.partitions import CANDIDATES, PARTITION_TAG
from lynx_pipeline.evaluation.candidate import SEMVER_TAG

RunConfig = Mapping[str, Any]

# Of a candidate whose bundle a job before this one has put into its folder.
FETCHED: RunConfig = {"ops": {candidate_bundle.op.name: {"config": {"fetched": True}}}}


def promotes(semver: str) -> RunConfig:
    """The run config that promotes under ``semver``."""
    return {"ops": {promotion_decision.op.name: {"config": {"semver": semver}}}}


def add_candidate(run_id: str) -> None:
    """Make ``run_id`` a partition, so that jobs can be launched for it."""
    with open_instance() as instance:
        instance.add_dynamic_partitions(CANDIDATES.name or "", [run_id])


def write_config(file: Path, config: RunConfig) -> None:
    """Write a run config for Dagster's commands.

    Raises:
        SystemFailed: the disk refused.
    """
    write_atomic(file, (json.dumps(config, indent=2) + "\n").encode())


def prepare(settings: Settings, run_id: str, semver: str, config: Path | None = None) -> list[str]:
    """Make ready what evaluates and promotes the candidate: the partition, and the run config at
    ``config``, by default in the state folder. Returns the arguments of ``dagster`` that run it,
    of which the last is the config's file; the version is among the tags, so that a list of runs
    can be read.

    Raises:
        BadInput: the project has no ``dagster.yaml``.
        SystemFailed: the disk refused.
    """
    config = config or settings.home / "requests" / f"{run_id}.yaml"
    write_config(config, promotes(semver))
    add_candidate(run_id)
    tags = json.dumps({PARTITION_TAG: run_id, SEMVER_TAG: semver})
    target = ["-m", "lynx_pipeline.definitions", "-j", eval_and_promote.name]
    return ["job", "execute", *target, "--tags", tags, "-c", str(config)]
