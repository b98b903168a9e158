"""Whole commands measured in pairs, so that what else the machine does falls on both alike."""

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median


@dataclass(frozen=True, slots=True)
class Command:
    """A command, where it runs, and what has to be done before each run, untimed."""

    words: Sequence[str | Path]
    cwd: Path
    environ: Mapping[str, str]
    before: Callable[[], object] = lambda: None


@dataclass(frozen=True, slots=True)
class Run:
    """Seconds of wall time, MiB at the most in one process, and what was printed."""

    seconds: float
    peak_mib: float
    output: str


def run(command: Command) -> Run:
    """Run it once.

    Raises:
        RuntimeError: it failed.
    """
    command.before()
    begun = time.perf_counter()
    process = subprocess.Popen(
        [str(word) for word in command.words],
        cwd=command.cwd,
        env=dict(command.environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert process.stdout
    output = process.stdout.read().decode(errors="replace")
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stdout.close()
    if process.returncode:
        raise RuntimeError(f"{command.words}: exit code {process.returncode}\n{output}")
    return Run(seconds, usage.ru_maxrss / 1024, output)


def pairs(ours: Command, reference: Command, times: int) -> tuple[list[Run], list[Run]]:
    """Both in turn, after a round that isn't counted if a single one would be short."""
    if times > 1:
        run(ours), run(reference)
    found: tuple[list[Run], list[Run]] = ([], [])
    for _ in range(times):
        found[0].append(run(ours))
        found[1].append(run(reference))
    return found


def middle(runs: Sequence[Run]) -> float:
    """The median of the seconds."""
    return median(each.seconds for each in runs)


def ratio(ours: Sequence[Run], reference: Sequence[Run]) -> float:
    """The median of the pairs' ratios."""
    return median(a.seconds / b.seconds for a, b in zip(ours, reference, strict=True))
