"""The asset checks. They show; they do not enforce. A check orders steps inside one run
only, and half the ways to launch a step go round it: the gate is in the promotion itself."""

import warnings

from dagster import (
    AssetCheckExecutionContext,
    AssetCheckResult,
    AssetCheckSeverity,
    BetaWarning,
    MetadataValue,
    PreviewWarning,
    asset_check,
)

from lynx_pipeline.config import load_settings
from lynx_pipeline.defs.assets import candidate_eval, eval_set
from lynx_pipeline.defs.failures import failures
from lynx_pipeline.defs.metadata import pull_request_metadata, report_metadata, run_metadata
from lynx_pipeline.defs.partitions import CANDIDATES
from lynx_pipeline.domain.gate.baseline import LATENCY
from lynx_pipeline.domain.gate.rule import unresolvable
from lynx_pipeline.errors import BadInput
from lynx_pipeline.evaluation import inputs
from lynx_pipeline.evaluation.candidate import candidate
from lynx_pipeline.evaluation.evidence import metrics
from lynx_pipeline.evaluation.judgement import judge_evidence
from lynx_pipeline.reports.report import PAGE, build_report, summary, write_report

# Results by partition are new in Dagster, and without them two candidates share one result.
warnings.simplefilter("ignore", PreviewWarning)
warnings.simplefilter("ignore", BetaWarning)


@asset_check(asset=eval_set, blocking=True)
def eval_set_matches_baseline() -> AssetCheckResult:
    """The baseline was measured on exactly this eval set."""
    with failures():
        try:
            inputs.matched_inputs(load_settings())
        except BadInput as error:
            return AssetCheckResult(passed=False, description=str(error))
    return AssetCheckResult(passed=True, description="The baseline names this eval set's bytes.")


@asset_check(asset=eval_set)
def buckets_can_resolve_tolerance() -> AssetCheckResult:
    """No bucket is so small that one question weighs more than the tolerance."""
    with failures():
        baseline = inputs.read_baseline(load_settings().baseline)
    coarse = unresolvable(baseline)
    tolerance = float(baseline.tolerance * 100)
    if not coarse:
        text = f"One question weighs at most {tolerance:g} points in every bucket."
    else:
        text = (
            f"In {len(coarse)} buckets one question weighs more than the {tolerance:g} points "
            f"of tolerance, so a single new mistake refuses: {', '.join(coarse)}."
        )
    return AssetCheckResult(
        passed=not coarse,
        severity=AssetCheckSeverity.WARN,
        description=text,
        metadata={"buckets": list(coarse)},
    )


@asset_check(asset=candidate_eval, blocking=True, partitions_def=CANDIDATES)
def no_bucket_regression(context: AssetCheckExecutionContext) -> AssetCheckResult:
    """The gate: no bucket fell below the baseline by more than the tolerance."""
    with failures():
        settings = load_settings()
        here = candidate(settings, context.partition_key)
        report = build_report(settings, judge_evidence(settings, here.evidence))
        write_report(report, here.folder)
    verdict = report.verdict
    # A list, because the UI reads Markdown here and runs plain lines together.
    reasons = "\n".join(f"- {bucket.reason}" for bucket in verdict.failed)
    text = f"{summary(verdict)}\n\n{reasons}".strip()
    return AssetCheckResult(
        passed=verdict.passed,
        description=text,
        metadata={
            **report_metadata(report),
            **run_metadata(settings, here.run_id),
            **pull_request_metadata(context.run.tags),
            "page": MetadataValue.path(str(here.folder / PAGE)),
            "evidence": MetadataValue.path(str(here.evidence)),
        },
    )


@asset_check(asset=candidate_eval, partitions_def=CANDIDATES)
def within_latency_budget(context: AssetCheckExecutionContext) -> AssetCheckResult:
    """The candidate answers about as fast as the baseline's model did. Decides nothing: the
    machine may be another one."""
    with failures():
        settings = load_settings()
        baseline = inputs.read_baseline(settings.baseline)
        found = metrics(candidate(settings, context.partition_key).evidence).get(LATENCY)
    budget = baseline.latency_budget_ms
    if budget is None or found is None:
        lacks = "baseline" if budget is None else "candidate's evaluation"
        return AssetCheckResult(
            passed=True,
            severity=AssetCheckSeverity.WARN,
            description=f"Nothing to compare: the {lacks} names no {LATENCY}.",
        )
    text = f"95 % of the questions took at most {found:.4g} ms each, the budget is {budget:.4g} ms."
    return AssetCheckResult(
        passed=found <= budget,
        severity=AssetCheckSeverity.WARN,
        description=text,
        metadata={LATENCY: found, "budget_ms": budget},
    )


ALL = [
    eval_set_matches_baseline,
    buckets_can_resolve_tolerance,
    no_bucket_regression,
    within_latency_budget,
]
