"""The bucket table: for a terminal (rich), and as Markdown. Worst buckets first."""

from lynx_pipeline.domain.gate import BucketVerdict, Verdict, points

HEAD = ("bucket", "n", "baseline", "floor", "candidate", "points", "")


def rows(verdict: Verdict) -> list[tuple[str, ...]]:
    """One row of text a bucket, failed ones first and worst first among them."""
    order = [*verdict.failed, *(b for b in verdict.buckets if b.passed)]
    return [_row(bucket) for bucket in order]


def summary(verdict: Verdict) -> str:
    """The verdict in one line."""
    total = len(verdict.buckets)
    if verdict.passed:
        return f"PASSED: all {total} buckets kept their floor."
    return f"REFUSED: {len(verdict.failed)} of {total} buckets fell below their floor."


def markdown(verdict: Verdict) -> str:
    """The table as GitHub-flavoured Markdown."""
    lines = [f"| {' | '.join(HEAD)} |", "|---|--:|--:|--:|--:|--:|---|"]
    lines += [f"| {' | '.join(map(_escaped, row))} |" for row in rows(verdict)]
    if verdict.ungated:
        lines += ["", f"No floor, so not gated: {_escaped(', '.join(verdict.ungated))}"]
    return "\n".join([f"**{summary(verdict)}**", "", *lines, ""])


def print_table(verdict: Verdict) -> None:
    """Print the table to standard output."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for index, name in enumerate(HEAD):
        table.add_column(name, justify="right" if 0 < index < 6 else "left", no_wrap=True)
    for row in rows(verdict):
        # A name is text, not markup: a bucket may be called [red].
        style = "" if row[-1] == "ok" else "bold red"
        table.add_row(*(Text(cell, style) for cell in row))
    console = Console(highlight=False, markup=False)
    # Off a terminal there is no width to fit in; bucket names must not be cut.
    console.print(table, width=None if console.is_terminal else 200)
    console.print(summary(verdict), style="green" if verdict.passed else "bold red")
    if verdict.ungated:
        console.print(f"No floor, so not gated: {', '.join(verdict.ungated)}")


def _row(bucket: BucketVerdict) -> tuple[str, ...]:
    candidate, change = bucket.candidate, bucket.change
    return (
        bucket.name,
        str(bucket.baseline.n),
        f"{float(bucket.baseline.accuracy):.2%}",
        f"{float(bucket.floor):.2%}",
        "missing" if candidate is None else f"{float(candidate.accuracy):.2%}",
        "" if change is None else points(change),
        "ok" if bucket.passed else "FAILED",
    )


def _escaped(text: str) -> str:
    for char in "\\`*_{}[]<>()#+!|~@":
        text = text.replace(char, "\\" + char)
    return text
