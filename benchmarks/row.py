"""One row of the table."""

from dataclasses import dataclass

from benchmarks.measure import Run, cpu_ratio, middle, ratio


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. ``met`` says whether the target was met."""

    what: str
    ours: str
    reference: str
    measured: str
    target: str
    met: bool


def timed(what: str, reference: str, found: tuple[list[Run], list[Run]], most: float) -> Row:
    """A row for the wall times of two commands. ``most`` is the greatest ratio that meets the
    target."""
    times = ratio(*found)
    return Row(
        what,
        f"{middle(found[0]):.2f} s",
        f"{reference}, {middle(found[1]):.2f} s",
        f"{times:.2f} x (CPU {cpu_ratio(*found):.2f} x)",
        f"<= {most:g} x",
        times <= most,
    )
