"""The report as one HTML page: a figure of every bucket, the table, the flipped sentences.

Self-contained: no script, no font and no picture from elsewhere, so it can be attached to a
run and opened years later. Everything from outside is escaped.
"""

from collections.abc import Callable, Sequence
from html import escape

from lynx_pipeline.domain.comparison import Flip
from lynx_pipeline.domain.gate import BucketVerdict
from lynx_pipeline.reports.report import Report, head, interval, notes, row, summary

# The page's colours and the figure's marks; the figure alone takes both with it.
_COLOURS = """
:root { color-scheme: light dark; --ink: #1c2430; --dim: #667085; --line: #d8dde5; --bg: #fff;
  --good: #1a7f4b; --bad: #c4320a; --floor: #98a2b3; --band: #f4f6f9; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ef; --dim: #98a2b3; --line: #344054;
  --bg: #12161c; --good: #47cd89; --bad: #ff8a66; --floor: #667085; --band: #1a2029; } }
svg text { fill: var(--ink); font-size: 13px; } svg .dim { fill: var(--dim); }
svg .grid { stroke: var(--line); } svg .band { fill: var(--band); }
svg .floor { stroke: var(--floor); stroke-width: 3; }
svg .baseline { fill: none; stroke: var(--dim); stroke-width: 1.5; }
svg .good { stroke: var(--good); fill: var(--good); }
svg .bad { stroke: var(--bad); fill: var(--bad); }
"""
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
_NAME_WIDTH, _PLOT_WIDTH, _ROW = 190, 620, 24


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
        f'<div class="wide">{_figure(report)}</div>',
        *(f'<p class="note">{escape(note)}</p>' for note in notes(report)),
        "<h2>The figures</h2>",
        f'<div class="wide">{_table(report)}</div>',
        *flips,
    ]
    title = escape(summary(verdict))
    return (
        '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title>\n<style>{_COLOURS}{_STYLE}</style></head>\n<body>\n"
        + "\n".join(part for part in body if part)
        + "\n</body>\n</html>\n"
    )


def figure(report: Report) -> str:
    """The figure alone, as an SVG file: every bucket against its floor."""
    # A size of its own: the UI shows pictures in a window that is as narrow as they let it.
    width = f'width="{_NAME_WIDTH + _PLOT_WIDTH + 40}"'
    drawn = _figure(report).removeprefix("<svg ").replace('width="100%"', width, 1)
    name, ground = 'xmlns="http://www.w3.org/2000/svg"', 'style="background: var(--bg)"'
    opened, _, rest = drawn.partition(">")
    return f"<svg {name} {ground} {opened}><style>{_COLOURS}</style>{rest}"


def _figure(report: Report) -> str:
    buckets = report.buckets
    low = _axis_start(buckets)
    height = _ROW * len(buckets) + 56

    def x(share: float) -> float:
        return _NAME_WIDTH + _PLOT_WIDTH * (max(share, low) - low) / (1 - low)

    step = 0.1 if low < 0.65 else 0.05 if low < 0.85 else 0.02
    marks = [1 - step * k for k in range(int((1 - low) / step + 1e-9) + 1)]
    parts = [
        f'<line class="grid" x1="{x(m):.1f}" x2="{x(m):.1f}" y1="24" y2="{height - 30}"/>'
        f'<text class="dim" x="{x(m):.1f}" y="16" text-anchor="middle">{m:.0%}</text>'
        for m in marks
    ]
    for index, bucket in enumerate(buckets):
        parts.append(_mark(bucket, 24 + _ROW * index, x, band=index % 2 == 0))
    parts.append(_legend(height - 10))
    width = _NAME_WIDTH + _PLOT_WIDTH + 40
    return (
        f'<svg viewBox="0 0 {width} {height}" width="100%" role="img" '
        f'aria-label="{escape(summary(report.verdict))}">{"".join(parts)}</svg>'
    )


def _axis_start(buckets: Sequence[BucketVerdict]) -> float:
    """A share just below everything drawn, on a round ten per cent."""
    shares = [float(bucket.floor) for bucket in buckets]
    for bucket in buckets:
        span = interval(bucket)
        shares += [span[0]] if span else []
        shares += [float(bucket.candidate.accuracy)] if bucket.candidate else []
    return max(0.0, min(0.9, int(min(shares) * 10 - 0.2) / 10))


def _mark(bucket: BucketVerdict, top: int, x: Callable[[float], float], *, band: bool) -> str:
    middle = top + _ROW / 2
    tone = "good" if bucket.passed else "bad"
    floor, baseline = x(float(bucket.floor)), x(float(bucket.baseline.accuracy))
    parts = []
    if band:
        width = _NAME_WIDTH + _PLOT_WIDTH + 40
        parts.append(f'<rect class="band" x="0" y="{top}" width="{width}" height="{_ROW}"/>')
    parts += [
        f'<text x="{_NAME_WIDTH - 12}" y="{middle + 4}" text-anchor="end">'
        f"{escape(bucket.name)}</text>",
        f'<line class="floor" x1="{floor:.1f}" x2="{floor:.1f}" y1="{top + 4}" '
        f'y2="{top + _ROW - 4}"/>',
        f'<circle class="baseline" cx="{baseline:.1f}" cy="{middle}" r="5"/>',
    ]
    span = interval(bucket)
    if span:
        parts.append(
            f'<line class="{tone}" x1="{x(span[0]):.1f}" x2="{x(span[1]):.1f}" y1="{middle}" '
            f'y2="{middle}" stroke-width="2"/>'
        )
    if bucket.candidate:
        here = x(float(bucket.candidate.accuracy))
        parts.append(f'<circle class="{tone}" cx="{here:.1f}" cy="{middle}" r="4.5"/>')
    else:
        parts.append(f'<text class="{tone}" x="{_NAME_WIDTH}" y="{middle + 4}">missing</text>')
    label = escape(bucket.reason)
    return f"<g><title>{label}</title>{''.join(parts)}</g>"


def _legend(y: int) -> str:
    left = _NAME_WIDTH
    return (
        f'<line class="floor" x1="{left}" x2="{left}" y1="{y - 12}" y2="{y + 2}"/>'
        f'<text class="dim" x="{left + 8}" y="{y}">floor</text>'
        f'<circle class="baseline" cx="{left + 70}" cy="{y - 5}" r="5"/>'
        f'<text class="dim" x="{left + 80}" y="{y}">baseline</text>'
        f'<circle class="good" cx="{left + 160}" cy="{y - 5}" r="4.5"/>'
        f'<text class="dim" x="{left + 170}" y="{y}">candidate with 95 % interval, passed</text>'
        f'<circle class="bad" cx="{left + 440}" cy="{y - 5}" r="4.5"/>'
        f'<text class="dim" x="{left + 450}" y="{y}">failed</text>'
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
