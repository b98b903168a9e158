"""A judged candidate's report, with whatever is known beside the verdict."""

from pathlib import Path
from typing import TYPE_CHECKING

from lynx_pipeline.adapters.files import write_atomic
from lynx_pipeline.config import Settings
from lynx_pipeline.evaluation.answers import compare
from lynx_pipeline.evaluation.baseline import read_reference
from lynx_pipeline.evaluation.judgement import Judged
from lynx_pipeline.reports.report import Report

if TYPE_CHECKING:
    from lynx_pipeline.domain.gate.power import GatePower

MARKDOWN = "report.md"
PAGE = "report.html"


def build_report(settings: Settings, judged: Judged) -> Report:
    """The report. How often the gate refuses an equally good model is worked out only for a
    refusal, where the reader has to weigh it.

    Raises:
        BadInput: the stored reference predictions are damaged.
    """
    evaluation = judged.evidence.evaluation
    reference = read_reference(settings, judged.eval_set)
    comparison = None
    if reference is not None:
        comparison = compare(judged.eval_set, reference[0], judged.evidence.files[1])
    counts = evaluation.counts
    power = None if judged.verdict.passed else _power(judged)
    return Report(
        verdict=judged.verdict,
        comparison=comparison,
        refusal=power.refusal if power else None,
        refusals={bucket.name: bucket.refusal for bucket in power.buckets} if power else {},
        facts={
            "MLflow run": evaluation.mlflow_run_id or "unknown",
            "canonical sha": evaluation.canonical_sha,
            "eval set": evaluation.eval_set_dvc_hash,
            "overall": f"{counts.correct} of {counts.n} right, {counts.correct / counts.n:.2%}",
            "scorer": evaluation.scorer,
            "isolation": evaluation.isolation,
            "environment": evaluation.environment,
        },
    )


def write_report(report: Report, folder: Path) -> None:
    """Write the report as Markdown and as an HTML page into ``folder``.

    Raises:
        SystemFailed: the disk refused.
    """
    from lynx_pipeline.reports.markdown import markdown
    from lynx_pipeline.reports.page import page

    write_atomic(folder / MARKDOWN, markdown(report).encode())
    write_atomic(folder / PAGE, page(report).encode())


def _power(judged: Judged) -> "GatePower":
    from lynx_pipeline.domain.gate.power import cells_of, gate_power

    baseline = judged.baseline
    cells = cells_of(judged.eval_set, list(baseline.buckets))
    return gate_power(cells, baseline.buckets, baseline.tolerance)
