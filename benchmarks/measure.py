"""Measures whole commands in alternating pairs, so that other load on the machine affects both."""

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median


@dataclass(frozen=True, slots=True)
class Command:
    """A command, its working folder and environment, and untimed preparation before each run."""

    words: Sequence[str | Path]
    cwd: Path
    environ: Mapping[str, str]
    before: Callable[[], object] = lambda: None


@dataclass(frozen=True, slots=True)
class Run:
    """Wall time and CPU time in seconds, the latter of the process and all that it started; peak
    memory of the process in MiB, and its output."""

    seconds: float
    cpu_seconds: float
    peak_mib: float
    output: str


def run(command: Command) -> Run:
    """Run the command once.

    Raises:
        RuntimeError: its exit code was not 0.
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
    return Run(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, output)


def pairs(ours: Command, reference: Command, times: int) -> tuple[list[Run], list[Run]]:
    """Run both alternately. With more than one round, a warm-up round comes first and is not
    counted."""
    if times > 1:
        run(ours), run(reference)
    found: tuple[list[Run], list[Run]] = ([], [])
    for _ in range(times):
        found[0].append(run(ours))
        found[1].append(run(reference))
    return found


def middle(runs: Sequence[Run]) -> float:
    """The median wall time in seconds."""
    return median(each.seconds for each in runs)


def ratio(ours: Sequence[Run], reference: Sequence[Run]) -> float:
    """The median ratio of the pairs' wall times."""
    return median(a.seconds / b.seconds for a, b in zip(ours, reference, strict=True))


def cpu_ratio(ours: Sequence[Run], reference: Sequence[Run]) -> float:
    """The median ratio of the pairs' CPU times. Other load on the machine affects it less."""
    return median(a.cpu_seconds / b.cpu_seconds for a, b in zip(ours, reference, strict=True))
