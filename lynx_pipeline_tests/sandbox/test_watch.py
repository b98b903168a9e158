"""What the watch sees of real processes, and that it ends them. What it does for an evaluation
is in ``test_hostile.py``."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lynx_pipeline.config import Limits
from lynx_pipeline.sandbox.watch import Watch

MARK, OTHER = b"LYNX_TEST_MARK=1", b"LYNX_TEST_MARK=2"


@contextmanager
def running(code: str, mark: bytes = MARK) -> Iterator["subprocess.Popen[str]"]:
    """A Python program, which sleeps in the end."""
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


def said(process: "subprocess.Popen[str]") -> str:
    """Its next line."""
    assert process.stdout
    return process.stdout.readline().strip()


def test_it_is_cheap_to_ask_often() -> None:
    """It looks now and then, and whenever it has to be now."""
    with running("print('here', flush=True)") as process:
        assert said(process) == "here"
        watch = Watch(process.pid, Limits(processes=1, memory_mib=1), MARK)
        assert watch.look() == "it used more than 1 MiB of memory"
        assert watch.look() is None
        assert watch.look(now=True) == "it used more than 1 MiB of memory"


def test_the_kernel_ends_them_first() -> None:
    """If the machine runs out of memory: children too, whose number is told."""
    with running("child = os.fork()\nif child: print(child, flush=True)") as process:
        child = int(said(process))
        Watch(process.pid, Limits(), MARK).look()
        for pid in (process.pid, child):
            assert Path(f"/proc/{pid}/oom_score_adj").read_text() == "1000\n"


def test_the_end_is_waited_for() -> None:
    """With those that left their parents, and not with anybody else."""
    code = "if os.fork() == 0:\n    os.setsid()\n    child = os.fork()\n"
    code += "    child and (print(child, flush=True), os._exit(0))"
    with running(code) as process, running("print('other', flush=True)", OTHER) as other:
        orphan = Path("/proc", said(process), "stat")
        assert said(other) == "other"
        assert b") Z " not in orphan.read_bytes()
        Watch(process.pid, Limits(), MARK).end()
        assert not orphan.exists() or b") Z " in orphan.read_bytes()
        assert process.wait(5) == -9
        assert other.poll() is None


def test_a_number_that_was_given_again_is_not_killed() -> None:
    """A process is known by when it started, too."""
    with running("print('here', flush=True)") as process:
        assert said(process) == "here"
        watch = Watch(process.pid, Limits(), None)
        watch.known[process.pid] = watch.born = watch.born - 1
        watch.end()
        assert process.poll() is None
