"""The watch on real processes: what it measures, and that it kills them. ``test_hostile.py`` tests
it during an evaluation."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lynx_pipeline.config import Limits
from lynx_pipeline.sandbox.watch import Watch

# This process's own, since other pytest workers run these tests at the same time.
MARK, OTHER = (f"LYNX_TEST_MARK={os.getpid()}-{number}".encode() for number in (1, 2))


@contextmanager
def running(code: str, mark: bytes = MARK) -> Iterator["subprocess.Popen[str]"]:
    """A Python program that runs ``code`` and then sleeps."""
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", f"import os, time\n{code}\ntime.sleep(60)"],
        stdout=subprocess.PIPE,
        text=True,
        env=dict([mark.decode().split("=")]),
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            Watch(process.pid, Limits(), mark).end()
        process.communicate()


def next_line(process: "subprocess.Popen[str]") -> str:
    """The next line that the process prints."""
    assert process.stdout
    return process.stdout.readline().strip()


def test_frequent_checks_are_cheap() -> None:
    """The watch scans only from time to time, unless a scan is requested."""
    with running("print('ready', flush=True)") as process:
        assert next_line(process) == "ready"
        watch = Watch(process.pid, Limits(processes=1, memory_mib=1), MARK)
        assert watch.check() == "it used more than 1 MiB of memory"
        assert watch.check() is None
        assert watch.check(now=True) == "it used more than 1 MiB of memory"


def test_the_kernel_kills_watched_processes_first() -> None:
    """The out-of-memory scores of a process and its children are raised."""
    with running("child = os.fork()\nif child: print(child, flush=True)") as process:
        child = int(next_line(process))
        Watch(process.pid, Limits(), MARK).check()
        for pid in (process.pid, child):
            assert Path(f"/proc/{pid}/oom_score_adj").read_text() == "1000\n"


def test_end_kills_all_and_waits() -> None:
    """Processes that left their parents are killed too, but not those with a different mark."""
    code = "if os.fork() == 0:\n    os.setsid()\n    child = os.fork()\n"
    code += "    child and (print(child, flush=True), os._exit(0))"
    with running(code) as process, running("print('other', flush=True)", OTHER) as other:
        orphan = Path("/proc", next_line(process), "stat")

        assert next_line(other) == "other"
        assert b") Z " not in orphan.read_bytes()
        Watch(process.pid, Limits(), MARK).end()
        assert not orphan.exists() or b") Z " in orphan.read_bytes()
        assert process.wait(5) == -9
        assert other.poll() is None


def test_a_reused_pid_is_not_killed() -> None:
    """A process is identified by its pid and start time."""
    with running("print('ready', flush=True)") as process:
        assert next_line(process) == "ready"
        watch = Watch(process.pid, Limits(), None)
        watch.known[process.pid] = watch.root_started = watch.root_started - 1
        watch.end()
        assert process.poll() is None
