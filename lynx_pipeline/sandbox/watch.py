"""Measures, from outside, what all processes of one candidate use together, and kills them.

The kernel's own limits apply to single processes, or not to root. These apply to the sum, with a
delay of a fraction of a second. Under bubblewrap all processes stay descendants of the first one.
Without it, a process that leaves its parents is found by a variable in its environment, unless it
deliberately hides: one more reason why prod requires isolation.

Memory is the pages that the processes have written (private and shared, each counted once) plus
the files in the sandbox's ``/tmp`` and ``/dev/shm``; a file there that is also mapped counts
twice. Kernel memory such as full socket buffers is not counted: if the machine runs out of memory,
the kernel kills these processes first.
"""

import os
import re
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from lynx_pipeline.config import Limits
from lynx_pipeline.sandbox.isolation import SHARED, TMP

_INTERVAL = 0.2
_END_SECONDS = 10.0
_INODE = 2048  # roughly the kernel memory for an empty file
_PAGE = os.sysconf("SC_PAGE_SIZE")
_WRITTEN = re.compile(rb"^Pss_(?:Anon|Shmem): +(\d+) kB", re.MULTILINE)


class _Process(NamedTuple):
    """Fields of ``/proc/PID/stat``: ``started`` in clock ticks since boot, ``pages`` resident."""

    parent: int
    threads: int
    started: int
    pages: int
    dead: bool


class Watch:
    """Watches the process ``root``, a child of ours, and everything it starts. Without isolation,
    each of these has ``mark`` in its environment."""

    def __init__(self, root: int, limits: Limits, mark: bytes | None) -> None:
        self.root, self.limits, self.mark = root, limits, mark
        self.root_started = _processes([root])[root].started
        self.known: dict[int, int] = {}  # pid → start time: a pid alone may be reused
        self.next_check = 0.0

    def check(self, *, now: bool = False) -> str | None:
        """Which limit the processes exceed, if any. Calls are cheap: unless ``now``, it scans only
        from time to time."""
        before = time.monotonic()
        if before < self.next_check and not now:
            return None
        reason = self._exceeded(self._own(_processes()))
        duration = time.monotonic() - before
        self.next_check = before + max(_INTERVAL, min(5 * _INTERVAL, 10 * duration))
        return reason

    def end(self) -> None:
        """Kill all processes and wait until they are gone."""
        deadline = time.monotonic() + _END_SECONDS
        self._own(_processes())
        while self.known and time.monotonic() < deadline:
            for pid in self.known:
                with suppress(OSError):
                    os.kill(pid, 9)
            time.sleep(0.005)
            self._own(_processes())

    def _own(self, processes: dict[int, _Process]) -> dict[int, _Process]:
        """The candidate's processes among ``processes``. Remembers those that are alive."""
        children: dict[int, list[int]] = {}
        for pid, process in processes.items():
            children.setdefault(process.parent, []).append(pid)
        seen = {self.root: self.root_started, **self.known}
        pending = [
            pid
            for pid, started in seen.items()
            if pid in processes and processes[pid].started == started
        ]
        if self.mark is not None:
            pending += [
                pid
                for pid, process in processes.items()
                if process.started >= self.root_started and self._is_marked(pid)
            ]
        own: dict[int, _Process] = {}
        while pending:
            pid = pending.pop()
            if pid not in own:
                own[pid] = processes[pid]
                pending += children.get(pid, [])
        known = {pid: process.started for pid, process in own.items() if not process.dead}
        for pid in known.keys() - self.known.keys():
            with suppress(OSError):
                Path(f"/proc/{pid}/oom_score_adj").write_text("1000")
        self.known = known
        return own

    def _is_marked(self, pid: int) -> bool:
        try:
            return self.mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            return False

    def _exceeded(self, own: dict[int, _Process]) -> str | None:
        tasks = sum(max(process.threads, 1) for process in own.values())
        if tasks > self.limits.processes:
            return f"it ran more than {self.limits.processes} processes and threads at once"
        max_bytes = self.limits.memory_mib << 20
        in_files = self._bytes_in_files(own)
        # Cheap first: resident pages are an upper bound, since shared ones count several times.
        if in_files + _PAGE * sum(process.pages for process in own.values()) <= max_bytes:
            return None
        if in_files + sum(_written(pid, process) for pid, process in own.items()) <= max_bytes:
            return None
        return f"it used more than {self.limits.memory_mib} MiB of memory"

    def _bytes_in_files(self, own: dict[int, _Process]) -> int:
        """Bytes in the sandbox's own file systems, seen through a process that is inside: neither
        bwrap itself nor its child, which sets them up."""
        if self.mark is not None:
            return 0
        for pid, process in own.items():
            if self.root not in (pid, process.parent):
                with suppress(OSError):
                    stats = [os.statvfs(f"/proc/{pid}/root{folder}") for folder in (TMP, SHARED)]
                    return sum(
                        (s.f_blocks - s.f_bfree) * s.f_frsize + (s.f_files - s.f_ffree) * _INODE
                        for s in stats
                    )
        return 0


def _written(pid: int, process: _Process) -> int:
    """Bytes that the process has written, shared ones divided among the processes that have them;
    all its resident bytes if the kernel does not tell."""
    try:
        shares = _WRITTEN.findall(Path(f"/proc/{pid}/smaps_rollup").read_bytes())
    except OSError:
        shares = []
    return sum(int(kib) << 10 for kib in shares) if shares else process.pages * _PAGE


def _processes(pids: "list[int] | None" = None) -> dict[int, _Process]:
    """These processes, or all on this machine. psutil would take twice as long, and can't tell
    written pages from mapped files."""

    processes = {}
    for pid in pids or [int(name) for name in os.listdir("/proc") if name.isdigit()]:
        with suppress(OSError):
            # The second field, a name in brackets, may contain anything.
            fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
            parent, threads, started, pages = (int(fields[k]) for k in (1, 17, 19, 21))
            processes[pid] = _Process(parent, threads, started, pages, fields[0] in b"ZX")
    return processes
