"""The three jobs. Each is launched for one candidate, by the partition tag or in the UI."""

from dagster import AssetSelection, define_asset_job

from lynx_pipeline.defs.assets import (
    candidate_bundle,
    candidate_eval,
    eval_baseline,
    eval_set,
    promotion_decision,
)
from lynx_pipeline.defs.partitions import CANDIDATES

_TO_VERDICT = AssetSelection.assets(eval_set, eval_baseline, candidate_bundle, candidate_eval)
_PROMOTION = AssetSelection.assets(promotion_decision)

evaluate = define_asset_job(
    "evaluate",
    _TO_VERDICT,
    partitions_def=CANDIDATES,
    description="Evaluate a candidate and show the verdict. Promotes nothing.",
)
promote = define_asset_job(
    "promote",
    _PROMOTION,
    partitions_def=CANDIDATES,
    description="Judge a candidate's stored predictions again, then promote it or refuse.",
)
eval_and_promote = define_asset_job(
    "eval_and_promote",
    _TO_VERDICT | _PROMOTION,
    partitions_def=CANDIDATES,
    description=(
        "Evaluate a candidate, judge it, and promote it or refuse. The partition is its key, such "
        "as an MLflow run id. If the run's tag `lynx.semver` names the version, no run config is "
        "needed."
    ),
)

ALL = [evaluate, promote, eval_and_promote]
