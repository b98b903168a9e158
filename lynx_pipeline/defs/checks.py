"""The asset checks. They show the verdict and write nothing. They do not enforce it: a check orders
steps inside one run only, and many ways to launch a step skip it. The promotion enforces it."""

from collections.abc import Iterator, Mapping
from typing import Any

from dagster import (
    AssetCheckExecutionContext,
    AssetCheckResult,
    AssetChecksDefinition,
    AssetCheckSeverity,
    AssetCheckSpec,
    asset_check,
    multi_asset_check,
)

from lynx_pipeline.config import BLOCKING
from lynx_pipeline.defs.failures import failures
from lynx_pipeline.defs.gate import CANDIDATE_EVAL, EVAL_SET, Gate
from lynx_pipeline.defs.known import recall
from lynx_pipeline.defs.metadata import (
    candidate_metadata,
    file_metadata,
    overlap_metadata,
    pull_request_metadata,
    report_metadata,
    shift_metadata,
)
from lynx_pipeline.domain.gate.baseline import LATENCY
from lynx_pipeline.domain.gate.rule import Verdict, unresolvable
from lynx_pipeline.errors import BadInput, LynxError, Refused
from lynx_pipeline.evaluation import inputs
from lynx_pipeline.evaluation.candidate import candidate
from lynx_pipeline.evaluation.corpus import corpus_findings
from lynx_pipeline.evaluation.judgement import GateRefused, Judged, judge_evidence
from lynx_pipeline.reports.report import PAGE, build_report, summary, verdict_line


def build_checks(gate: Gate) -> list[AssetChecksDefinition]:
    """The asset checks of a gate."""
    return [
        _eval_set_matches_baseline(gate),
        _buckets_can_resolve_tolerance(gate),
        *_corpus_checks(gate),
        _candidate_eval_checks(gate),
    ]


def _eval_set_matches_baseline(gate: Gate) -> AssetChecksDefinition:
    @multi_asset_check(
        # As Dagster names the op of a single check.
        name=f"{gate.op(EVAL_SET)}_eval_set_matches_baseline",
        specs=[
            AssetCheckSpec(
                "eval_set_matches_baseline",
                asset=gate.key(EVAL_SET),
                description="The baseline was measured on exactly this eval set.",
                blocking=True,
            )
        ],
    )
    def eval_set_matches_baseline() -> Iterator[AssetCheckResult]:
        """The baseline was measured on exactly this eval set."""
        with failures():
            try:
                inputs.matched_inputs(gate.settings())
            except BadInput as error:
                yield AssetCheckResult(passed=False, description=str(error))
                raise
        yield AssetCheckResult(passed=True, description="The baseline names this eval set's bytes.")

    return eval_set_matches_baseline


def _buckets_can_resolve_tolerance(gate: Gate) -> AssetChecksDefinition:
    @asset_check(asset=gate.key(EVAL_SET))
    def buckets_can_resolve_tolerance() -> AssetCheckResult:
        """No bucket is so small that one question weighs more than the tolerance."""
        with failures():
            baseline = inputs.read_baseline(gate.settings().baseline)
        coarse = unresolvable(baseline)
        tolerance = float(baseline.tolerance * 100)
        if not coarse:
            text = f"One question weighs at most {tolerance:g} points in every bucket."
        else:
            text = (
                f"In {len(coarse)} buckets one question weighs more than the {tolerance:g} points "
                "of tolerance, so the gate refuses after one more wrong answer: "
                f"{', '.join(coarse)}."
            )
        return AssetCheckResult(
            passed=not coarse,
            severity=AssetCheckSeverity.WARN,
            description=text,
            metadata={"buckets": list(coarse)},
        )

    return buckets_can_resolve_tolerance


def _corpus_checks(gate: Gate) -> list[AssetChecksDefinition]:
    """The two checks of a project with a corpus. They are not there without one."""
    try:
        settings = gate.settings()
    except LynxError:  # definitions load everywhere; the steps report what is wrong
        return []
    if settings.corpus is None:
        return []
    names = ("eval_set_not_in_corpus", "eval_set_represents_corpus")
    blocking = settings.corpus_checks == BLOCKING
    failed = AssetCheckSeverity.ERROR if blocking else AssetCheckSeverity.WARN

    @multi_asset_check(
        name=gate.prefixed("eval_set_corpus_checks"),
        specs=[
            AssetCheckSpec(
                names[0],
                asset=gate.key(EVAL_SET),
                description="No question of the eval set is in the corpus.",
                blocking=blocking,
            ),
            AssetCheckSpec(
                names[1],
                asset=gate.key(EVAL_SET),
                description="The eval set's buckets have about the same shares as the corpus's.",
                blocking=blocking,
            ),
        ],
    )
    def eval_set_corpus_checks() -> Iterator[AssetCheckResult]:
        """Both checks, from one comparison. It is repeated only if the eval set or the corpus has
        changed."""
        with failures():
            settings = gate.settings()
            findings = corpus_findings(settings, inputs.read_eval_set(settings))
        if findings is None:  # the setting was removed while these definitions were loaded
            for name in names:
                yield AssetCheckResult(check_name=name, passed=True, description="No corpus.")
            return
        yield AssetCheckResult(
            check_name=names[0],
            passed=findings.separate,
            severity=failed,
            description=findings.overlap_text,
            metadata=overlap_metadata(findings),
        )
        # Only what also refuses a promotion is an error.
        yield AssetCheckResult(
            check_name=names[1],
            passed=findings.represents,
            severity=failed if findings.shifted else AssetCheckSeverity.WARN,
            description=findings.shift_text,
            metadata=shift_metadata(findings),
        )
        with failures():
            if blocking and not findings.separate:
                raise Refused(f"{names[0]}: {findings.overlap_text}")
            if blocking and findings.shifted:
                raise Refused(f"{names[1]}: {findings.shift_text}")

    return [eval_set_corpus_checks]


def _candidate_eval_checks(gate: Gate) -> AssetChecksDefinition:
    @multi_asset_check(
        name=gate.prefixed("candidate_eval_checks"),
        specs=[
            AssetCheckSpec(
                "no_bucket_regression",
                asset=gate.key(CANDIDATE_EVAL),
                description=(
                    "The gate: no bucket fell below the baseline by more than the tolerance."
                ),
                blocking=True,
                partitions_def=gate.partitions,
            ),
            AssetCheckSpec(
                "within_latency_budget",
                asset=gate.key(CANDIDATE_EVAL),
                description=(
                    "The candidate answers about as fast as the reference did. The reference "
                    "may have run on another machine, so this is information only."
                ),
                partitions_def=gate.partitions,
            ),
        ],
    )
    def candidate_eval_checks(context: AssetCheckExecutionContext) -> Iterator[AssetCheckResult]:
        """Both checks of an evaluation, from one read of its evidence."""
        with failures():
            settings = gate.settings()
            evaluated = candidate(settings, context.partition_key)
            judged = judge_evidence(settings, evaluated.evidence)
            report = build_report(settings, judged)
        context.log.info(verdict_line(judged.verdict))
        shown = {
            **report_metadata(report),
            **candidate_metadata(
                settings, evaluated.key, recall(gate, context.instance, evaluated.key)
            ),
            **pull_request_metadata(context.run.tags),
            "page": file_metadata(settings, evaluated.folder / PAGE),
            "evidence": file_metadata(settings, evaluated.evidence),
        }
        yield _gate_result(judged.verdict, shown)
        yield _latency_result(judged)
        with failures():  # in our words; Dagster's own failure of a blocking check gives no reason
            if not judged.verdict.passed:
                raise GateRefused(judged.verdict)

    return candidate_eval_checks


def _gate_result(verdict: Verdict, shown: Mapping[str, Any]) -> AssetCheckResult:
    """The verdict with its reasons."""
    # A list, because the UI renders Markdown here and joins plain lines.
    reasons = "\n".join(f"- {bucket.reason}" for bucket in verdict.failed)
    return AssetCheckResult(
        check_name="no_bucket_regression",
        passed=verdict.passed,
        description=f"{summary(verdict)}\n\n{reasons}".strip(),
        metadata=shown,
    )


def _latency_result(judged: Judged) -> AssetCheckResult:
    """The candidate's p95 latency against the baseline's budget, as a warning."""
    budget = judged.baseline.latency_budget_ms
    latency = judged.evidence.evaluation.metrics.get(LATENCY)
    name = "within_latency_budget"
    warning = AssetCheckSeverity.WARN
    if budget is None or latency is None:
        missing_in = "baseline" if budget is None else "candidate's evaluation"
        text = f"Nothing to compare: the {missing_in} names no {LATENCY}."
        return AssetCheckResult(check_name=name, passed=True, severity=warning, description=text)
    return AssetCheckResult(
        check_name=name,
        passed=latency <= budget,
        severity=warning,
        description=(
            f"95 % of the questions took at most {latency:.4g} ms each, the budget is "
            f"{budget:.4g} ms."
        ),
        metadata={LATENCY: latency, "budget_ms": budget},
    )
