"""What a report says, whatever it is rendered as: the verdict, and what stands beside it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from lynx_pipeline.domain.gate.comparison import Comparison
from lynx_pipeline.domain.gate.rule import BucketVerdict, Verdict, points
from lynx_pipeline.domain.gate.statistics import wilson


@dataclass(frozen=True, slots=True)
class Report:
    """A verdict with its context.

    ``comparison`` is None where the reference's predictions are not at hand. ``refusal`` is the
    chance that the gate refuses a model as good as the reference, None where it was not worked
    out, and ``refusals`` each bucket's own. ``facts`` are lines such as the run and the bundle's
    sha.
    """

    verdict: Verdict
    comparison: Comparison | None = None
    refusal: float | None = None
    refusals: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def buckets(self) -> tuple[BucketVerdict, ...]:
        """Failed buckets first and worst first among them, then the others as committed."""
        verdict = self.verdict
        return (*verdict.failed, *(b for b in verdict.buckets if b.passed))


def summary(verdict: Verdict) -> str:
    """The verdict in one line."""
    total = len(verdict.buckets)
    if verdict.passed:
        return f"PASSED: all {total} buckets kept their floor."
    return f"REFUSED: {len(verdict.failed)} of {total} buckets fell below their floor."


def interval(bucket: BucketVerdict) -> tuple[float, float] | None:
    """The candidate's 95 % Wilson interval; None where right answers were not counted."""
    score = bucket.candidate
    return None if score is None or score.correct is None else wilson(score.correct, score.n)


HEAD = ("bucket", "n", "baseline", "floor", "candidate", "points", "95 % interval")
HEAD_PAIRED = ("lost", "gained", "p")
HEAD_POWER = ("one question", "refuses an equal")


def head(report: Report, *, power: bool) -> tuple[str, ...]:
    """The table's column names; the last one, without a name, is the result. ``power`` adds
    what the bucket can see, where that is known; a terminal is too narrow for it."""
    paired = HEAD_PAIRED if report.comparison else ()
    return (*HEAD, *paired, *(HEAD_POWER if power and report.refusals else ()), "")


def row(report: Report, bucket: BucketVerdict, *, power: bool) -> tuple[str, ...]:
    """One bucket as text, a cell a column."""
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
    if power and report.refusals:
        cells += [f"{100 / bucket.baseline.n:.2f}", f"{report.refusals[bucket.name]:.1%}"]
    return (*cells, "ok" if bucket.passed else "FAILED")


def notes(report: Report) -> list[str]:
    """What a reader has to know to weigh the table, a sentence each."""
    verdict = report.verdict
    lines = [
        "A bucket fails if it is more than "
        f"{float(verdict.tolerance * 100):g} points below its baseline."
    ]
    if report.comparison:
        lines.append(
            "lost and gained count answers that went right to wrong and wrong to right against "
            "the reference; p is the exact McNemar test: how often two equally good models "
            "would differ at least this much."
        )
    if report.refusal is not None:
        lines.append(
            f"This gate refuses a model exactly as good as the reference {report.refusal:.0%} "
            "of the time, if each of its answers is an independent draw; 'refuses an equal' is "
            "one bucket's own chance of it, 'one question' the points a single answer is worth."
        )
    if verdict.ungated:
        lines.append(f"No floor, so not gated: {', '.join(verdict.ungated)}.")
    return lines
