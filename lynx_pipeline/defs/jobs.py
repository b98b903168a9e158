"""The three jobs. Each is launched for one candidate, by the partition tag or in the UI."""

from typing import NamedTuple

from dagster import AssetSelection, ExecutorDefinition, define_asset_job
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from lynx_pipeline.defs.gate import (
    CANDIDATE_BUNDLE,
    CANDIDATE_EVAL,
    EVAL_AND_PROMOTE,
    EVAL_BASELINE,
    EVAL_SET,
    EVALUATE,
    PROMOTE,
    PROMOTION_DECISION,
    Gate,
)


class Jobs(NamedTuple):
    """The jobs of a gate."""

    evaluate: UnresolvedAssetJobDefinition
    promote: UnresolvedAssetJobDefinition
    eval_and_promote: UnresolvedAssetJobDefinition


def build_jobs(gate: Gate, executor: ExecutorDefinition) -> Jobs:
    """The jobs of a gate. They use ``executor`` in any code location, whose own may be another."""
    inputs = (EVAL_SET, EVAL_BASELINE, CANDIDATE_BUNDLE, CANDIDATE_EVAL)
    to_verdict = AssetSelection.assets(*map(gate.key, inputs))
    promotion = AssetSelection.assets(gate.key(PROMOTION_DECISION))

    def job(name: str, selection: AssetSelection, text: str) -> UnresolvedAssetJobDefinition:
        return define_asset_job(
            gate.prefixed(name),
            selection,
            partitions_def=gate.partitions,
            executor_def=executor,
            description=text,
        )

    return Jobs(
        evaluate=job(
            EVALUATE,
            to_verdict,
            "Evaluate a candidate and show the verdict. Promotes nothing.",
        ),
        promote=job(
            PROMOTE,
            promotion,
            "Judge a candidate's stored predictions again, then promote it or refuse.",
        ),
        eval_and_promote=job(
            EVAL_AND_PROMOTE,
            to_verdict | promotion,
            "Evaluate a candidate, judge it, and promote it or refuse. The partition is its key, "
            "such as an MLflow run id. If the run's tag `lynx.semver` names the version, no run "
            "config is needed.",
        ),
    )
