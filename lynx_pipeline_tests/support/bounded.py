"""Calls that have to end early, with little time and memory: a hostile input must be refused before
it is read."""

import json
import multiprocessing
import os
import resource
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

from lynx_pipeline.errors import LynxError

SECONDS = 1.0
MIB = 200
# The json module reads this in about a second, and in more on a busy machine. A call that takes
# more than SECONDS may take twice as long as that, in one of three attempts.
_LISTS = b"[" + b"[]," * 1_398_100 + b"1]"
_MOST_MIB = 6 << 10  # of address space, so that a failing test does not fill the machine


def refusal(function: Callable[..., Any], /, *args: Any) -> str:
    """The message of the error that ``function`` raises, in a process of its own and within the
    bounds. It is called twice, because the first call may import libraries."""
    _pool().submit(_refused, function, *args).result()
    message, seconds, mib = _pool().submit(_refused, function, *args).result()
    assert message is not None, "it was not refused"
    assert mib < MIB, message
    assert len(message) < 1000
    assert seconds < SECONDS or any(_is_quick(function, *args) for _ in range(3)), message
    return message


def _is_quick(function: Callable[..., Any], *args: Any) -> bool:
    seconds = _pool().submit(_refused, function, *args).result()[1]
    return seconds < 2 * _pool().submit(_reference).result()


@cache
def _pool() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _limit_memory)


def _limit_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_MOST_MIB << 20, _MOST_MIB << 20))


def _refused(function: Callable[..., Any], *args: Any) -> tuple[str | None, float, float]:
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before, started = _peak(), time.process_time()
    message = None
    try:
        function(*args)
    except LynxError as error:
        message = str(error)
    return message, time.process_time() - started, _peak() - before


def _reference() -> float:
    started = time.process_time()
    json.loads(_LISTS)
    return time.process_time() - started


def _peak() -> float:
    """The highest resident memory so far, in MiB."""
    status = Path(f"/proc/{os.getpid()}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024
