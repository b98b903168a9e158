"""The report as GitHub-flavoured Markdown, for pull requests and job summaries.

Everything from the model or the eval set is escaped: an answer can't become a link, a mention
or HTML. The text stays under GitHub's limit for a comment; rows that don't fit are counted.
"""

from collections.abc import Iterable, Sequence

from lynx_pipeline.domain.gate.comparison import Flip
from lynx_pipeline.domain.gate.rule import BucketVerdict
from lynx_pipeline.domain.text import COUNTS, FULL
from lynx_pipeline.reports.report import (
    CORPUS_TITLE,
    FLIP_COLUMNS,
    Report,
    columns,
    notes,
    row,
    shown_answer,
    summary,
)

# GitHub's limit for a comment is 65,536 characters; the rest is for the text around the report.
LONGEST = 60_000
_LONGEST_CELL = 200
_WITHHELD = "The setting pull_request_shows leaves out the expected answers."


def markdown(report: Report, *, folded: bool = True, shows: str = FULL) -> str:
    """The report: summary, failed buckets, then the others and the flips. ``folded`` hides the
    last two in HTML, as GitHub shows it; otherwise they get headings. ``shows`` is one of
    :data:`~lynx_pipeline.domain.text.SHOWN`: how much of the eval set."""
    section = _folded if folded else _headed
    verdict = report.verdict
    parts = [f"**{summary(verdict)}**", ""]
    parts += [f"- {key}: `{_code(value)}`" for key, value in report.facts.items()]
    parts += [""] if report.facts else []
    budget = LONGEST - sum(len(part) + 1 for part in parts) - 4_000
    budget -= 12_000 if report.corpus else 0  # escaped text can take six times its length
    if verdict.failed:
        failed = _table(report, verdict.failed, budget // 2)
        parts += [*failed, ""]
        budget -= sum(len(line) + 1 for line in failed)
    kept = [b for b in verdict.buckets if b.passed]
    if kept:
        table = _table(report, kept, budget // 2)
        parts += [*section(f"{len(kept)} buckets kept their floor", table), ""]
        budget -= sum(len(line) + 1 for line in table)
    comparison = report.comparison
    for title, flips in (
        ("answers went right to wrong", comparison.lost if comparison else ()),
        ("answers went wrong to right", comparison.gained if comparison else ()),
    ):
        if flips and shows == COUNTS:
            parts += [f"{len(flips)} {title}.", ""]
        elif flips:
            table = _flips(flips, budget * 2 // 3, answers=shows == FULL)
            parts += [*section(f"{len(flips)} {title}", table), ""]
            budget -= sum(len(line) + 1 for line in table)
    if report.corpus and shows != COUNTS:  # its texts have prompts as examples
        texts = [f"- {escaped(text, 1_000)}" for text in report.corpus.texts]
        parts += [*section(CORPUS_TITLE, texts), ""]
    parts += [f"<sub>{escaped(note, 2_000)}</sub>\n" for note in notes(report, power=True)]
    if shows != FULL and comparison and (comparison.lost or comparison.gained):
        parts += [f"<sub>{escaped(_WITHHELD)}</sub>\n"]
    return "\n".join(parts)


def _folded(title: str, lines: Sequence[str]) -> list[str]:
    return ["<details>", f"<summary>{title}</summary>", "", *lines, "", "</details>"]


def _headed(title: str, lines: Sequence[str]) -> list[str]:
    return [f"#### {title}", "", *lines]


def _table(report: Report, buckets: Sequence[BucketVerdict], budget: int) -> list[str]:
    names = columns(report, power=True)
    rows = (row(report, bucket, power=True) for bucket in buckets)
    return _rows(names, rows, len(buckets), budget, numbers=len(names) - 2)


def _flips(flips: Sequence[Flip], budget: int, *, answers: bool) -> list[str]:
    """The answers that changed: all columns if ``answers``, otherwise what the candidate's author
    knows, the prompt and the candidate's answer."""
    rows = (
        (
            flip.item.prompt,
            *((flip.item.answers[0], shown_answer(flip.reference)) if answers else ()),
            shown_answer(flip.candidate),
        )
        for flip in flips
    )
    names = FLIP_COLUMNS if answers else (FLIP_COLUMNS[0], FLIP_COLUMNS[-1])
    return _rows(names, rows, len(flips), budget)


def _rows(
    names: Sequence[str],
    rows: Iterable[Sequence[str]],
    total: int,
    budget: int,
    *,
    numbers: int = 0,
) -> list[str]:
    """A Markdown table with as many of the ``total`` rows as fit; ``numbers`` columns after the
    first are right aligned."""
    rule = "|".join("--:" if 0 < i <= numbers else "---" for i in range(len(names)))
    lines = [f"| {' | '.join(names)} |", f"|{rule}|"]
    for done, cells in enumerate(rows):
        line = f"| {' | '.join(escaped(cell) for cell in cells)} |"
        budget -= len(line) + 1
        if budget < 0:
            return [*lines, "", f"... and {total - done} more."]
        lines.append(line)
    return lines


def escaped(text: str, longest: int = _LONGEST_CELL) -> str:
    """``text`` as one line of plain text, whatever Markdown or HTML it contains."""
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    if len(text) > longest:
        text = text[: longest - 3] + "..."
    # Entities, because a backslash does not stop GitHub from linking a mention or a number.
    return "".join(f"&#{ord(c)};" if c in "\\`*_{}[]<>()#!|~@&:/$" else c for c in text)


def _code(text: str) -> str:
    return "".join(c for c in text if c.isprintable() and c != "`")[:_LONGEST_CELL]
