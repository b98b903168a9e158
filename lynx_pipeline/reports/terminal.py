"""The report on a terminal: the bucket table, worst first, and some flipped answers."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lynx_pipeline.domain.gate.comparison import Flip
from lynx_pipeline.reports.report import Report, columns, notes, row, summary

if TYPE_CHECKING:
    from rich.console import Console


def print_report(report: Report, *, flips: int = 0) -> None:
    """Print the report to standard output, with at most ``flips`` of the lost answers."""
    rows = [row(report, bucket, power=False) for bucket in report.buckets]
    red = [not bucket.passed for bucket in report.buckets]
    names = columns(report, power=False)
    console = print_table(names, rows, red, numbers=range(1, len(names) - 1))
    console.print(summary(report.verdict), style="green" if report.verdict.passed else "bold red")
    for bucket in report.verdict.failed:
        console.print(f"  {bucket.reason}")
    for note in notes(report, power=False):
        console.print(note, style="dim")
    for text in report.corpus.texts if report.corpus else ():
        console.print(text, style="dim")
    lost = report.comparison.lost if report.comparison else ()
    if flips and lost:
        console.print(
            f"\n{len(lost)} answers went right to wrong. {min(flips, len(lost))} of them:"
        )
        for flip in spread(lost, flips):
            console.print(
                f"  {flip.item.prompt}  expected {flip.item.answers[0]!r}, was "
                f"{flip.reference!r}, now {flip.candidate!r}"
            )


def print_table(
    names: Sequence[str], rows: Sequence[Sequence[str]], red: Sequence[bool], numbers: range
) -> "Console":
    """Print rows of text, some of them ``red``; the columns in ``numbers`` are right aligned.

    Returns the console, so that the caller can print more to it.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for index, name in enumerate(names):
        table.add_column(name, justify="right" if index in numbers else "left", no_wrap=True)
    for cells, marked in zip(rows, red, strict=True):
        # A name is text, not markup: a bucket may be called [red].
        table.add_row(*(Text(cell, "bold red" if marked else "") for cell in cells))
    # A bucket's name must not be cut, so the table may be wider than the terminal.
    console = Console(highlight=False, markup=False, soft_wrap=True, width=10_000)
    console.print(table)
    return console


def spread(flips: tuple[Flip, ...], most: int) -> list[Flip]:
    """At most ``most`` of the flips, spread evenly over the eval set."""
    if len(flips) <= most:
        return list(flips)
    return [flips[index * len(flips) // most] for index in range(most)]
