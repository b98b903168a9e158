"""The figure of a report: every bucket against its floor, as SVG. Everything from outside is
escaped."""

from collections.abc import Callable, Sequence
from html import escape

from lynx_pipeline.domain.gate.rule import BucketVerdict
from lynx_pipeline.reports.report import Report, interval, summary

# CSS of the page's colours and of the figure; an SVG file embeds it.
COLOURS = """
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
_NAME_WIDTH, _PLOT_WIDTH, _ROW = 190, 620, 24
_WIDTH = _NAME_WIDTH + _PLOT_WIDTH + 40


def figure(report: Report) -> str:
    """The figure for a page that includes :data:`COLOURS`, as wide as the page allows."""
    return _svg(report, 'width="100%"')


def figure_file(report: Report) -> str:
    """The figure as an SVG file. It has a fixed width, because the UI shrinks the window around a
    picture without one."""
    attributes = f'xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}"'
    return _svg(report, f'{attributes} style="background: var(--bg)"', f"<style>{COLOURS}</style>")


def _svg(report: Report, attributes: str, style: str = "") -> str:
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
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" {attributes} role="img" '
        f'aria-label="{escape(summary(report.verdict))}">{style}{"".join(parts)}</svg>'
    )


def _axis_start(buckets: Sequence[BucketVerdict]) -> float:
    """A multiple of ten per cent below everything that is drawn."""
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
        parts.append(f'<rect class="band" x="0" y="{top}" width="{_WIDTH}" height="{_ROW}"/>')
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
