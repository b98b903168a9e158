"""Progress of an evaluation or of reading a file, as a bar or as lines. It never shows accuracy, so
that nobody stops an evaluation early because it looks good."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from math import ceil

Progress = Callable[[int, int], None]

SHORTEST_SILENCE, LONGEST_SILENCE = 1.0, 60.0  # seconds
SHORTEST_RATE = 0.05  # seconds; the rate of less says nothing
PROMPTS, BYTES = "prompts answered", "bytes read"


def lines(
    write: Callable[[str], object],
    clock: Callable[[], float] = time.monotonic,
    what: str = PROMPTS,
) -> Progress:
    """Call ``write`` with a line at every tenth of ``what``, at most once a second until the last
    one, and at least once a minute."""
    calls, tenths, start = 0, 0, (clock(), 0)
    last = start[0] - SHORTEST_SILENCE

    def report(done: int, total: int) -> None:
        nonlocal calls, start, last, tenths
        now = clock()
        calls += 1
        if calls <= 2:  # exclude loading and the answers of an earlier try from the rate
            start = (now, done)
        reached = done * 10 // total
        due = now - last >= SHORTEST_SILENCE or done == total
        if not (reached > tenths and due) and now - last < LONGEST_SILENCE:
            return
        tenths, last = reached, now
        text = f"{done:,} of {total:,} {what}"
        if done > start[1] and now - start[0] >= SHORTEST_RATE:
            rate = (done - start[1]) / (now - start[0])
            text += f", {rate:,.3g} per second" if rate < 100 else f", {rate:,.0f} per second"
            if done < total:
                text += f", {timedelta(seconds=ceil((total - done) / rate))} left"
        write(text)

    return report


@contextmanager
def shown(*, always: bool, what: str = PROMPTS) -> Iterator[Progress]:
    """Show a bar on standard error if it is a terminal; otherwise lines, if ``always``."""
    if not sys.stderr.isatty():
        as_lines = lines(lambda text: print(text, file=sys.stderr), what=what)
        yield as_lines if always else lambda *_: None
        return
    from rich import progress
    from rich.console import Console

    bar = progress.Progress(
        progress.BarColumn(None),
        progress.MofNCompleteColumn(),
        progress.TaskProgressColumn(show_speed=False),
        progress.TextColumn("{task.fields[rate]}"),
        progress.TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    with bar:
        task = bar.add_task("", total=None, rate="")

        def report(done: int, total: int) -> None:
            speed = bar.tasks[0].speed
            rate = f"{speed:,.0f}/s" if speed else ""
            bar.update(task, completed=done, total=total, rate=rate)

        yield report
