"""How the steps' values and errors look in Dagster."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from dagster import Failure, MetadataValue

from lynx_pipeline.domain.evaluation import CandidateEval
from lynx_pipeline.errors import LynxError
from lynx_pipeline.flow.promotion import GateRefused
from lynx_pipeline.reports.markdown import markdown
from lynx_pipeline.reports.report import Report


@contextmanager
def failures() -> Iterator[None]:
    """Turn our errors into step failures that say what to do, with the verdict if there is one.

    They are not retried: the same input gives the same answer.
    """
    try:
        yield
    except LynxError as error:
        metadata: dict[str, Any] = {"exit_code": error.exit_code}
        if isinstance(error, GateRefused):
            metadata.update(report_metadata(Report(error.verdict)))
        raise Failure(str(error), metadata=metadata, allow_retries=False) from None


def report_metadata(report: Report) -> Mapping[str, Any]:
    """The verdict and what stands beside it, as the UI shows it."""
    verdict = report.verdict
    worst = verdict.worst
    return {
        "verdict": "passed" if verdict.passed else "refused",
        "failed_buckets": [bucket.name for bucket in verdict.failed],
        "ungated_buckets": list(verdict.ungated),
        "worst_bucket": worst.name,
        "worst_margin_points": None if worst.margin is None else float(worst.margin * 100),
        "report": MetadataValue.md(markdown(report, folded=False)),
    }


def evaluation_metadata(result: CandidateEval) -> Mapping[str, Any]:
    """The evaluation's figures; numbers stay numbers so that the UI plots them."""
    counts = result.counts
    return {
        "accuracy": counts.correct / counts.n,
        "n": counts.n,
        "correct": counts.correct,
        "null_answers": counts.nulls,
        "isolation": result.isolation,
        "environment": result.environment,
        "scorer": result.scorer,
        "predictions_sha256": result.predictions_sha256,
        **result.measured,
    }
