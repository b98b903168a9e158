"""What the processes of one candidate use together, seen from outside, and their end.

Limits that the kernel keeps for us hold for one process, or not for root; these hold for the
sum, a fraction of a second later. Under bubblewrap the processes are its descendants, and none
can get out of there. Without it, one that leaves its parents is known by a variable of its
environment, unless it sets out to hide: one more reason why prod wants isolation.

Memory is what the processes have written (their own pages and shared ones, each counted once)
and what lies in the sandbox's ``/tmp`` and ``/dev/shm``; a file there that is also mapped counts
twice. What the kernel keeps for them elsewhere, such as full socket buffers, is not seen: should
the machine run out of memory, its kernel ends these processes first.
"""

import os
import re
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from lynx_pipeline.config import Limits
from lynx_pipeline.sandbox.isolation import SHARED, TMP

_EVERY = 0.2
_END_SECONDS = 10.0
_INODE = 2048  # about what the kernel keeps in memory for an empty file
_PAGE = os.sysconf("SC_PAGE_SIZE")
_WRITTEN = re.compile(rb"^Pss_(?:Anon|Shmem): +(\d+) kB", re.MULTILINE)


class _Process(NamedTuple):
    parent: int
    threads: int
    started: int
    pages: int
    dead: bool


class Watch:
    """Looks after the process ``root``, a child of ours, and all that it starts. Without
    isolation each of them has ``mark`` in its environment."""

    def __init__(self, root: int, limits: Limits, mark: bytes | None) -> None:
        self.root, self.limits, self.mark = root, limits, mark
        self.born = _processes([root])[root].started
        self.known: dict[int, int] = {}
        self.next = 0.0

    def look(self, *, now: bool = False) -> str | None:
        """What they use too much of. It is cheap to ask often: unless it has to be ``now``, it
        looks from time to time."""
        before = time.monotonic()
        if before < self.next and not now:
            return None
        how = self._too_much(self._found(_processes()))
        took = time.monotonic() - before
        self.next = before + max(_EVERY, min(5 * _EVERY, 10 * took))
        return how

    def end(self) -> None:
        """Kill them all, and wait until they are gone."""
        deadline = time.monotonic() + _END_SECONDS
        self._found(_processes())
        while self.known and time.monotonic() < deadline:
            for pid in self.known:
                with suppress(OSError):
                    os.kill(pid, 9)
            time.sleep(0.005)
            self._found(_processes())

    def _found(self, here: dict[int, _Process]) -> dict[int, _Process]:
        """Those of the processes ``here`` that are ours; what lives is known from then on."""
        children: dict[int, list[int]] = {}
        for pid, process in here.items():
            children.setdefault(process.parent, []).append(pid)
        seen = {self.root: self.born, **self.known}
        waiting = [p for p, born in seen.items() if p in here and here[p].started == born]
        if self.mark is not None:
            waiting += [p for p in here if here[p].started >= self.born and self._marked(p)]
        ours: dict[int, _Process] = {}
        while waiting:
            pid = waiting.pop()
            if pid not in ours:
                ours[pid] = here[pid]
                waiting += children.get(pid, [])
        known = {pid: process.started for pid, process in ours.items() if not process.dead}
        for pid in known.keys() - self.known.keys():
            with suppress(OSError):
                Path(f"/proc/{pid}/oom_score_adj").write_text("1000")
        self.known = known
        return ours

    def _marked(self, pid: int) -> bool:
        try:
            return self.mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            return False

    def _too_much(self, ours: dict[int, _Process]) -> str | None:
        tasks = sum(max(process.threads, 1) for process in ours.values())
        if tasks > self.limits.processes:
            return f"it ran more than {self.limits.processes} processes and threads at once"
        most = self.limits.memory_mib << 20
        in_files = self._in_files(ours)
        # Each page that several have counts as often here: no less than there are, and cheap.
        if in_files + _PAGE * sum(process.pages for process in ours.values()) <= most:
            return None
        if in_files + sum(_written(pid, process) for pid, process in ours.items()) <= most:
            return None
        return f"it used more than {self.limits.memory_mib} MiB of memory"

    def _in_files(self, ours: dict[int, _Process]) -> int:
        """Bytes in the sandbox's own file systems, seen through a process that is inside: not
        bwrap itself, nor its child that sets them up."""
        if self.mark is not None:
            return 0
        for pid, process in ours.items():
            if self.root not in (pid, process.parent):
                with suppress(OSError):
                    found = [os.statvfs(f"/proc/{pid}/root{folder}") for folder in (TMP, SHARED)]
                    return sum(
                        (f.f_blocks - f.f_bfree) * f.f_frsize + (f.f_files - f.f_ffree) * _INODE
                        for f in found
                    )
        return 0


def _written(pid: int, process: _Process) -> int:
    try:
        shares = _WRITTEN.findall(Path(f"/proc/{pid}/smaps_rollup").read_bytes())
    except OSError:
        shares = []
    return sum(int(kib) << 10 for kib in shares) if shares else process.pages * _PAGE


def _processes(pids: "list[int] | None" = None) -> dict[int, _Process]:
    """All processes of this machine, or some."""
    found = {}
    for pid in pids or [int(name) for name in os.listdir("/proc") if name.isdigit()]:
        with suppress(OSError):
            # The second field, a name in brackets, may hold anything.
            fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
            parent, threads, started, pages = (int(fields[k]) for k in (1, 17, 19, 21))
            found[pid] = _Process(parent, threads, started, pages, fields[0] in b"ZX")
    return found
