"""The report of a judged candidate: its content, how it is built, and its texts.

The texts are the same in every format; :mod:`markdown`, :mod:`page`, :mod:`terminal` and
:mod:`figure` render them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from lynx_pipeline.adapters.files import write_atomic
from lynx_pipeline.domain.gate.comparison import Comparison
from lynx_pipeline.domain.gate.rule import BucketVerdict, Verdict, points
from lynx_pipeline.domain.gate.statistics import wilson

if TYPE_CHECKING:
    from lynx_pipeline.config import Settings
    from lynx_pipeline.domain.corpus import CorpusFindings
    from lynx_pipeline.domain.gate.power import GatePower
    from lynx_pipeline.evaluation.judgement import Judged

MARKDOWN = "report.md"
PAGE = "report.html"


@dataclass(frozen=True, slots=True)
class Report:
    """A verdict with its context.

    ``comparison`` is None if the reference's predictions are not available.
    ``false_refusal_rate`` is how often the gate refuses a model exactly as good as the reference,
    None if not computed; ``false_refusal_limit`` is the most that it can be, if the reference made
    no mistake in some bucket; ``false_refusal_rates`` are those of the single buckets. ``facts``
    are lines such as the candidate and the bundle's sha. ``corpus`` is None without a corpus.
    """

    verdict: Verdict
    comparison: Comparison | None = None
    false_refusal_rate: float | None = None
    false_refusal_rates: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    corpus: "CorpusFindings | None" = None
    false_refusal_limit: float | None = None

    @property
    def buckets(self) -> tuple[BucketVerdict, ...]:
        """Failed buckets first, worst first, then the others in the baseline's order."""
        verdict = self.verdict
        return (*verdict.failed, *(b for b in verdict.buckets if b.passed))


def build_report(settings: "Settings", judged: "Judged") -> Report:
    """Build the report. False-refusal rates are computed only for a refusal, because there the
    reader has to weigh the verdict.

    Raises:
        BadInput: the stored reference predictions are damaged, or the corpus is invalid.
        SystemFailed: DVC could not deliver one of them.
    """
    # Imported here, because compare-baseline reports too and takes less time than these imports.
    from lynx_pipeline.evaluation.baseline import read_reference
    from lynx_pipeline.evaluation.corpus import corpus_findings

    evaluation = judged.evidence.evaluation
    reference = read_reference(settings, judged.eval_set)
    comparison = None
    if reference is not None:
        comparison = judged.eval_set.compare(reference[0], judged.evidence.predictions)
    counts = evaluation.counts
    power = None if judged.verdict.passed else _power(judged)
    return Report(
        verdict=judged.verdict,
        comparison=comparison,
        false_refusal_rate=power.refusal if power else None,
        false_refusal_limit=power.refusal_limit if power else None,
        false_refusal_rates={b.name: b.refusal for b in power.buckets} if power else {},
        facts={
            "candidate": evaluation.candidate or evaluation.mlflow_run_id or "unknown",
            "canonical sha": evaluation.canonical_sha,
            "eval set": evaluation.eval_set_dvc_hash,
            "overall": f"{counts.correct} of {counts.n} right, {counts.correct / counts.n:.2%}",
            "scorer": evaluation.scorer,
            "isolation": evaluation.isolation,
            "environment": evaluation.environment,
        },
        corpus=corpus_findings(settings, judged.eval_set),
    )


def _power(judged: "Judged") -> "GatePower":
    from lynx_pipeline.domain.gate.power import cells_of, gate_power

    baseline = judged.baseline
    cells = cells_of(judged.eval_set, list(baseline.buckets))
    return gate_power(cells, baseline.buckets, baseline.tolerance)


def write_report(report: Report, folder: Path) -> None:
    """Write the report as Markdown and as an HTML page into ``folder``.

    Raises:
        SystemFailed: the files could not be written.
    """
    from lynx_pipeline.reports.markdown import markdown
    from lynx_pipeline.reports.page import page

    write_atomic(folder / MARKDOWN, markdown(report).encode())
    write_atomic(folder / PAGE, page(report).encode())


# ----- texts ----------------------------------------------------------------------------------

_COLUMNS = ("bucket", "n", "baseline", "floor", "candidate", "points", "95 % interval")
_PAIRED_COLUMNS = ("lost", "gained", "p")
CORPUS_TITLE = "Eval set and corpus"
SMALLEST_DROP, FALSE_REFUSALS = "smallest visible drop", "false-refusal rate"
FLIP_COLUMNS = ("prompt", "expected", "reference", "candidate")


def summary(verdict: Verdict) -> str:
    """The verdict in one line."""
    total = len(verdict.buckets)
    if verdict.passed:
        return f"PASSED: all {total} buckets kept their floor."
    return f"REFUSED: {len(verdict.failed)} of {total} buckets fell below their floor."


def verdict_line(verdict: Verdict) -> str:
    """The verdict and its worst bucket, for a log."""
    return f"{summary(verdict)} Worst bucket: {verdict.worst.reason}."


def interval(bucket: BucketVerdict) -> tuple[float, float] | None:
    """The candidate's 95 % Wilson interval; None if right answers were not counted."""
    score = bucket.candidate
    return None if score is None or score.correct is None else wilson(score.correct, score.n)


def columns(report: Report, *, power: bool) -> tuple[str, ...]:
    """The column names of the bucket table. The last column, the result, has no name. ``power``
    adds the columns about the bucket's statistical power, if known; a terminal is too narrow for
    them."""
    paired = _PAIRED_COLUMNS if report.comparison else ()
    powers = (SMALLEST_DROP, FALSE_REFUSALS) if power and report.false_refusal_rates else ()
    return (*_COLUMNS, *paired, *powers, "")


def row(report: Report, bucket: BucketVerdict, *, power: bool) -> tuple[str, ...]:
    """One bucket as text, one cell per column."""
    candidate, change, span = bucket.candidate, bucket.change, interval(bucket)
    cells = [
        bucket.name,
        str(bucket.baseline.n),
        f"{float(bucket.baseline.accuracy):.2%}",
        f"{float(bucket.floor):.2%}",
        "missing" if candidate is None else f"{float(candidate.accuracy):.2%}",
        "" if change is None else points(change),
        "" if span is None else f"{span[0] * 100:.1f}\u2011{span[1] * 100:.1f}",
    ]
    if report.comparison:
        lost, gained = report.comparison.changed(bucket.name)
        p = report.comparison.p_value(bucket.name)
        cells += [str(lost), str(gained), "<0.001" if p < 0.001 else f"{p:.3f}"]
    if power and report.false_refusal_rates:
        cells += [
            f"{100 / bucket.baseline.n:.2f}",
            f"{_at_most(bucket)}{report.false_refusal_rates[bucket.name]:.1%}",
        ]
    return (*cells, "ok" if bucket.passed else "FAILED")


def _at_most(bucket: BucketVerdict) -> str:
    """Where the reference made no mistake, the false-refusal rate is a limit."""
    return "up to " if bucket.baseline.accuracy == 1 else ""


def shown_answer(answer: str | None) -> str:
    """A model's answer as a cell."""
    return "(no answer)" if answer is None else answer


def notes(report: Report, *, power: bool) -> list[str]:
    """What a reader has to know to weigh the table. ``power`` as for :func:`columns`."""
    verdict = report.verdict
    lines = [
        "A bucket fails if it is more than "
        f"{float(verdict.tolerance * 100):g} points below its baseline."
    ]
    if report.comparison:
        lines.append(
            "'lost' and 'gained' count answers that went right to wrong and wrong to right, "
            "compared with the reference; 'p' is the exact McNemar test: the probability that two "
            "equally good models differ at least this much."
        )
    if report.false_refusal_rate is not None:
        limit = report.false_refusal_limit
        at_most = "" if limit is None else f" (at most {limit:.0%})"
        lines.append(
            "This gate refuses a model exactly as good as the reference "
            f"{report.false_refusal_rate:.0%}{at_most} of the time, assuming that each of its "
            "answers is an independent draw."
        )
    if power and report.false_refusal_rates:
        lines.append(
            f"'{SMALLEST_DROP}' is the weight of one answer, in points; '{FALSE_REFUSALS}' is how "
            "often the bucket alone refuses such an equally good model."
        )
    if verdict.ungated:
        lines.append(f"Not in the baseline, so not gated: {', '.join(verdict.ungated)}.")
    return lines
