"""The statistical power of a gate: as a table on the terminal, as JSON, and as an SVG figure of its
operating characteristic, one curve per bucket."""

from dataclasses import asdict
from html import escape
from typing import Any

from lynx_pipeline.domain.gate.power import (
    TARGET_POWER,
    TARGET_REFUSAL,
    BucketPower,
    GatePower,
    passes,
)
from lynx_pipeline.reports.report import FALSE_REFUSALS, SMALLEST_DROP
from lynx_pipeline.reports.terminal import print_table

_COLUMNS = (
    "bucket",
    "n",
    "accuracy",
    SMALLEST_DROP,
    "tolerated misses",
    FALSE_REFUSALS,
    "detectable drop",
    "n needed",
)

TRIED_DROPS = (0.0, 0.03, 0.05, 0.1)  # all in DROPS
_COLOURS = ("#2563eb", "#c4320a", "#1a7f4b", "#7c3aed", "#b45309", "#0e7490")
_WIDTH, _HEIGHT, _LEFT, _TOP = 760, 420, 60, 30


def print_power(power: GatePower) -> None:
    """Print the table and its explanation to standard output."""
    rows = [_row(bucket) for bucket in power.buckets]
    console = print_table(_COLUMNS, rows, [False] * len(rows), numbers=range(1, len(_COLUMNS)))
    for line in explanation(power):
        console.print(line)


def explanation(power: GatePower) -> list[str]:
    """The false-refusal rate of the whole gate, and what the table's columns mean."""
    limit = "" if power.refusal_limit is None else f" (at most {power.refusal_limit:.1%})"
    return [
        "",
        f"This gate of {len(power.buckets)} buckets with {power.tolerance * 100:g} points of "
        f"tolerance refuses a model exactly as good as the reference "
        f"{power.refusal:.1%}{limit} of the "
        "time, assuming that each of its answers is an independent draw. A model that shares most "
        "of its answers with the reference is refused less often.",
        *_perfect(power),
        "",
        f"{SMALLEST_DROP}: the weight of one answer, in points.",
        "tolerated misses: how many more wrong answers than the reference still pass.",
        f"{FALSE_REFUSALS}: how often this bucket alone refuses a model that is just as good.",
        f"detectable drop: the smallest true drop, in points, that this bucket refuses "
        f"{TARGET_POWER:.0%} of the time.",
        "n needed: about how many questions would bring the false-refusal rate down to "
        f"{TARGET_REFUSAL:.0%}.",
    ]


def _perfect(power: GatePower) -> list[str]:
    """What a reference without a mistake can and can't promise, for the smallest such bucket."""
    if not power.perfect:
        return []
    bucket = min(power.perfect, key=lambda it: it.n)
    assert bucket.lowest_accuracy is not None  # by the definition of perfect
    count = len(power.perfect)
    return [
        "",
        f"In {count} bucket{'s' if count > 1 else ''} the reference made no mistake. That does not "
        f"show a true accuracy of 100 %: {bucket.n} of {bucket.n} right in {bucket.name} shows at "
        f"least {bucket.lowest_accuracy:.1%}, with 95 % confidence. The rates of these buckets are "
        f"those of a model with that accuracy, which {bucket.name} refuses {bucket.refusal:.1%} of "
        "the time. A model that gives the same answers as the reference always passes.",
    ]


def print_tries(power: GatePower, tries: int) -> None:
    """Print how likely one of several worse candidates passes, by their true drop."""
    names = ("bucket", "n", *(f"{drop * 100:g} points" for drop in TRIED_DROPS))
    rows = [
        (it.name, str(it.n), *(f"{passes(power, it, d, tries):.1%}" for d in TRIED_DROPS))
        for it in power.buckets
    ]
    console = print_table(names, rows, [False] * len(rows), numbers=range(1, len(names)))
    for line in (
        "",
        f"The chance that this bucket lets at least one of {tries:,} candidates pass, if each of "
        "them has truly dropped by so many points in it, and is as good as the reference "
        "elsewhere. It assumes that their answers are independent draws. Candidates that share "
        "most answers pass or fail together, so more tries help them less. The other buckets can "
        "only refuse more.",
    ):
        console.print(line)


def power_json(power: GatePower, tries: int | None = None) -> dict[str, Any]:
    """The numbers as JSON; shares are fractions, not points."""
    if tries is None:
        return asdict(power)
    by_bucket = {
        it.name: {f"{drop:g}": passes(power, it, drop, tries) for drop in TRIED_DROPS}
        for it in power.buckets
    }
    return {**asdict(power), "tries": tries, "passes": by_bucket}


def figure(power: GatePower) -> str:
    """The operating characteristic as a complete SVG file.

    x: how much worse a candidate truly is in a bucket. y: how often the bucket refuses it.
    """
    right, bottom = _WIDTH - 150, _HEIGHT - 50
    most = max(power.drops)

    def x(drop: float) -> float:
        return _LEFT + (right - _LEFT) * drop / most

    def y(chance: float) -> float:
        return bottom - (bottom - _TOP) * chance

    dimensions = list(dict.fromkeys(bucket.name.split(".")[0] for bucket in power.buckets))
    colour = {name: _COLOURS[i % len(_COLOURS)] for i, name in enumerate(dimensions)}
    parts = [f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>']
    for tenth in range(0, 11, 2):
        level = y(tenth / 10)
        parts.append(
            f'<line x1="{_LEFT}" x2="{right}" y1="{level}" y2="{level}" stroke="#e4e7ec"/>'
            f'<text x="{_LEFT - 8}" y="{level + 4}" text-anchor="end">{tenth * 10} %</text>'
        )
    for point in range(int(most * 100) + 1):
        parts.append(
            f'<text x="{x(point / 100):.1f}" y="{bottom + 18}" text-anchor="middle">{point}</text>'
        )
    limit = x(power.tolerance)
    parts.append(
        f'<line x1="{limit:.1f}" x2="{limit:.1f}" y1="{_TOP}" y2="{bottom}" stroke="#667085" '
        f'stroke-dasharray="4 4"/><text x="{limit + 5:.1f}" y="{_TOP - 8}">tolerance</text>'
    )
    for bucket in power.buckets:
        points = " ".join(
            f"{x(d):.1f},{y(c):.1f}" for d, c in zip(power.drops, bucket.curve, strict=True)
        )
        line = colour[bucket.name.split(".")[0]]
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{line}" stroke-width="1.6" '
            f'stroke-opacity="0.7"><title>{escape(bucket.name)}, n = {bucket.n}</title></polyline>'
        )
    for index, name in enumerate(dimensions):
        sizes = sorted({b.n for b in power.buckets if b.name.split(".")[0] == name})
        label = f"{name}, n = {'/'.join(map(str, sizes[:3]))}"
        level = _TOP + 20 + 22 * index
        parts.append(
            f'<line x1="{right + 12}" x2="{right + 32}" y1="{level - 4}" y2="{level - 4}" '
            f'stroke="{colour[name]}" stroke-width="3"/>'
            f'<text x="{right + 38}" y="{level}">{escape(label)}</text>'
        )
    middle = (_LEFT + right) / 2
    parts.append(
        f'<text x="{middle}" y="{_HEIGHT - 10}" text-anchor="middle">true drop in a bucket, in '
        "percentage points</text>"
        f'<text x="16" y="{(_TOP + bottom) / 2}" text-anchor="middle" '
        f'transform="rotate(-90 16 {(_TOP + bottom) / 2})">chance that the bucket refuses</text>'
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'width="{_WIDTH}" height="{_HEIGHT}" font-family="system-ui, sans-serif" font-size="12" '
        f'fill="#1c2430">{"".join(parts)}</svg>\n'
    )


def _row(bucket: BucketPower) -> tuple[str, ...]:
    drop = bucket.caught_drop
    return (
        bucket.name,
        str(bucket.n),
        f"{bucket.accuracy:.2%}",
        f"{bucket.smallest_drop * 100:.2f}",
        str(bucket.allowed),
        f"{'' if bucket.lowest_accuracy is None else 'up to '}{bucket.refusal:.1%}",
        "never" if drop is None else f"{drop * 100:.1f}",
        str(bucket.needed_n or "-"),
    )
