"""The report as one HTML page: a figure of every bucket, the table, the flipped sentences.

Self-contained: no script, no font and no picture from elsewhere, so it can be attached to a
run and opened years later. Everything from outside is escaped.
"""

from collections.abc import Sequence
from html import escape

from lynx_pipeline.domain.gate.comparison import Flip
from lynx_pipeline.reports.figure import COLOURS, figure
from lynx_pipeline.reports.report import Report, head, notes, row, summary

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--bg);
  max-width: 74rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h1.bad { color: var(--bad); } h1.good { color: var(--good); }
h2 { font-size: 1.1rem; margin-top: 2rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; }
dt { color: var(--dim); } dd { margin: 0; font-family: ui-monospace, monospace; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums;
  font-size: .85rem; }
th, td { padding: .25rem .6rem; text-align: left; border-bottom: 1px solid var(--line); }
th { color: var(--dim); font-weight: 500; }
td.number, th.number { text-align: right; white-space: nowrap; }
tr.bad td { color: var(--bad); font-weight: 600; }
p.note { color: var(--dim); margin: .3rem 0; }
.wide { overflow-x: auto; } summary { cursor: pointer; }
"""


def page(report: Report) -> str:
    """The report as a complete HTML document."""
    verdict = report.verdict
    tone = "good" if verdict.passed else "bad"
    facts = "".join(
        f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in report.facts.items()
    )
    comparison = report.comparison
    flips = [
        _flips("Answers that went right to wrong", comparison.lost if comparison else (), True),
        _flips("Answers that went wrong to right", comparison.gained if comparison else (), False),
    ]
    body = [
        f'<h1 class="{tone}">{escape(summary(verdict))}</h1>',
        f"<dl>{facts}</dl>" if facts else "",
        "<h2>Every bucket against its floor</h2>",
        f'<div class="wide">{figure(report)}</div>',
        *(f'<p class="note">{escape(note)}</p>' for note in notes(report)),
        "<h2>The figures</h2>",
        f'<div class="wide">{_table(report)}</div>',
        *flips,
    ]
    title = escape(summary(verdict))
    return (
        '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title>\n<style>{COLOURS}{_STYLE}</style></head>\n<body>\n"
        + "\n".join(part for part in body if part)
        + "\n</body>\n</html>\n"
    )


def _table(report: Report) -> str:
    names = head(report, power=True)
    last = len(names) - 1
    cells = "".join(_cell("th", name, number=0 < i < last) for i, name in enumerate(names))
    lines = [f"<tr>{cells}</tr>"]
    for bucket in report.buckets:
        cells = "".join(
            _cell("td", cell, number=0 < i < last)
            for i, cell in enumerate(row(report, bucket, power=True))
        )
        tone = "" if bucket.passed else ' class="bad"'
        lines.append(f"<tr{tone}>{cells}</tr>")
    return f"<table>{''.join(lines)}</table>"


def _cell(tag: str, text: str, *, number: bool) -> str:
    kind = ' class="number"' if number else ""
    return f"<{tag}{kind}>{escape(text)}</{tag}>"


def _flips(title: str, flips: Sequence[Flip], open_: bool) -> str:
    if not flips:
        return ""
    names = ("prompt", "expected", "reference", "candidate")
    lines = ["<tr>" + "".join(f"<th>{name}</th>" for name in names) + "</tr>"]
    for flip in flips:
        cells = (flip.item.prompt, flip.item.answers[0], flip.reference, flip.candidate)
        lines.append(
            "<tr>"
            + "".join(f"<td>{escape('(no answer)' if c is None else c)}</td>" for c in cells)
            + "</tr>"
        )
    return (
        f"<h2>{title}</h2><details{' open' if open_ else ''}><summary>{len(flips)} answers"
        f'</summary><div class="wide"><table>{"".join(lines)}</table></div></details>'
    )
