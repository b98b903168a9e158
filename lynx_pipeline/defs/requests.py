"""Preparing a candidate's Dagster run: its partition, run config and tags.

Used by the commands and by the sensor.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lynx_pipeline.adapters.files import write_atomic
from lynx_pipeline.config import Settings
from lynx_pipeline.defs.gate import (
    CANDIDATE_BUNDLE,
    EVAL_AND_PROMOTE,
    PARTITION_TAG,
    PROMOTION_DECISION,
    Gate,
    gate_of,
)
from lynx_pipeline.defs.instance import open_instance
from lynx_pipeline.domain.candidate_key import parse_key
from lynx_pipeline.evaluation.candidate import SEMVER_TAG

RunConfig = Mapping[str, Any]


def fetched(gate: Gate) -> RunConfig:
    """The run config for a candidate whose bundle an earlier job has put into its folder."""
    return {"ops": {gate.op(CANDIDATE_BUNDLE): {"config": {"fetched": True}}}}


def promotes(gate: Gate, semver: str, bundle_digest: str = "") -> RunConfig:
    """The run config that promotes under ``semver``, and only the bundle with this digest if there
    is one."""
    if not bundle_digest:
        return {"ops": {gate.op(PROMOTION_DECISION): {"config": {"semver": semver}}}}
    only = {"bundle_digest": bundle_digest}
    return {
        "ops": {
            gate.op(CANDIDATE_BUNDLE): {"config": only},
            gate.op(PROMOTION_DECISION): {"config": {"semver": semver, **only}},
        }
    }


def add_candidate(gate: Gate, key: str) -> None:
    """Make the candidate's key a partition, so that jobs can be launched for it."""
    with open_instance() as instance:
        instance.add_dynamic_partitions(gate.partitions_name, [key])


def write_config(file: Path, config: RunConfig) -> None:
    """Write a run config for Dagster's commands.

    Raises:
        SystemFailed: the disk failed.
    """
    write_atomic(file, (json.dumps(config, indent=2) + "\n").encode())


def prepare(
    settings: Settings, key: str, semver: str, bundle_digest: str, config: Path | None = None
) -> list[str]:
    """Prepare the run that evaluates and promotes the candidate's bundle with this digest: add the
    partition, and write the run config to ``config`` (default: in the state folder).

    Returns the arguments of ``dagster`` that start the run; the last one is the config file. The
    version is one of the tags, so that a list of runs is readable.

    Raises:
        BadInput: the project has no ``dagster.yaml``.
        SystemFailed: the disk failed.
    """
    config = config or settings.state / "requests" / f"{parse_key(key).folder}.yaml"
    gate = gate_of(settings)
    write_config(config, promotes(gate, semver, bundle_digest))
    add_candidate(gate, key)
    tags = json.dumps({PARTITION_TAG: key, SEMVER_TAG: semver})
    target = ["-m", "lynx_pipeline.definitions", "-j", gate.prefixed(EVAL_AND_PROMOTE)]
    return ["job", "execute", *target, "--tags", tags, "-c", str(config)]
