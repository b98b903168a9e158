"""How far an evaluation is: a bar, or lines. How well it goes is not told, so that nobody stops
one because it looks good."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from math import ceil

Progress = Callable[[int, int], None]

LONGEST_SILENCE = 60.0  # seconds


def lines(say: Callable[[str], object], clock: Callable[[], float] = time.monotonic) -> Progress:
    """Tell ``say`` at every tenth of the prompts, and once a minute when a tenth takes longer."""
    calls, tenths, last = 0, 0, clock()
    begun = (last, 0)

    def report(done: int, total: int) -> None:
        nonlocal begun, calls, last, tenths
        now = clock()
        calls += 1
        if calls <= 2:  # neither loading nor what an earlier try answered belongs to the rate
            begun = (now, done)
        reached = done * 10 // total
        if reached <= tenths and now - last < LONGEST_SILENCE:
            return
        tenths, last = reached, now
        text = f"{done:,} of {total:,} prompts answered"
        if done > begun[1] and now > begun[0]:
            rate = (done - begun[1]) / (now - begun[0])
            text += f", {rate:,.3g} a second" if rate < 100 else f", {rate:,.0f} a second"
            if done < total:
                text += f", {timedelta(seconds=ceil((total - done) / rate))} left"
        say(text)

    return report


@contextmanager
def shown(*, always: bool) -> Iterator[Progress]:
    """A bar on standard error if that is a terminal; otherwise lines there if ``always``."""
    if not sys.stderr.isatty():
        yield lines(lambda text: print(text, file=sys.stderr)) if always else lambda *_: None
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
