"""A separate machine for a test: a container with systemd and all services, without a network.

Its file system is this machine's, under an overlay that takes all changes and is removed when the
test ends. This needs root, or ``sudo`` without a password.
"""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

SECONDS = 60.0
_UP = ("running\n", "degraded\n")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Machine:
    """A booted machine. ``leader`` is the outer process id of its process 1."""

    leader: int
    environ: dict[str, str]

    def run(self, script: str, seconds: float = 600) -> "subprocess.CompletedProcess[str]":
        """Run a script on the machine, as root."""
        given = {"PATH": _PATH, "HOME": "/root", "LANG": "C.UTF-8", **self.environ}
        variables = [f"{name}={value}" for name, value in given.items()]
        return _as_root(
            *("nsenter", f"--target={self.leader}", "--all", "--root", "env", "-i", *variables),
            *("bash", "-euo", "pipefail", "-c", f"cd /root\n{script}"),
            seconds=seconds,
        )


@contextmanager
def booted(
    folder: Path, files: dict[str, str], shown: dict[str, Path], environ: dict[str, str]
) -> Iterator[Machine]:
    """A new machine for as long as the block runs: with these ``files``, the folders ``shown``
    mounted read-only at the given paths, and ``environ`` for its scripts.

    Raises:
        AssertionError: the machine can't be created here, or does not boot.
    """
    for program in ("systemd-nspawn", "nsenter", "dbus-daemon"):
        assert shutil.which(program), f"{program} is missing (apt install systemd-container dbus)"
    # Not in a folder that a cleanup may empty while this machine's files are mounted in it.
    layer = Path(tempfile.mkdtemp(prefix="lynx-machine-"))
    # In memory, since not every file system can hold an overlay's upper layer.
    _done("mount", "-t", "tmpfs", "-o", "size=6g,mode=755", "lynx-machine", str(layer))
    try:
        root = layer / "root"
        _done("mkdir", *(str(layer / name) for name in ("upper", "work", "root")))
        places = f"lowerdir=/,upperdir={layer / 'upper'},workdir={layer / 'work'}"
        _done("mount", "-t", "overlay", "-o", places, "lynx-machine", str(root))
        try:
            for path, text in files.items():
                _done("tee", f"{root}{path}", given=text)
            with (folder / "console").open("wb") as console:
                yield from _running(root, shown, environ, console)
        finally:
            _done("umount", "--recursive", str(root))
    finally:
        _done("umount", str(layer))
        layer.rmdir()


def _running(
    root: Path, shown: dict[str, Path], environ: dict[str, str], console: IO[bytes]
) -> Iterator[Machine]:
    name = f"lynx-{os.getpid()}"
    binds = [f"--bind-ro={place}:{path}" for path, place in shown.items()]
    process = subprocess.Popen(
        _rooted(
            *("systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--boot"),
            *("--private-network", "--console=pipe", f"--machine={name}"),
            *(f"--directory={root}", *binds),
        ),
        stdin=subprocess.DEVNULL,
        stdout=console,
        stderr=console,
    )
    leader = None
    try:
        leader = _leader(process)
        it = Machine(leader, environ)
        end = time.monotonic() + SECONDS
        # "degraded": for example, a service of the host needs a network.
        while (up := it.run("systemctl is-system-running")).stdout not in _UP:
            assert time.monotonic() < end, (up.stdout, up.stderr)
            time.sleep(0.2)
        yield it
    finally:
        _done("kill", "-KILL", str(leader or process.pid))  # ends all its processes
        process.wait()


def _leader(process: "subprocess.Popen[bytes]") -> int:
    """The container's process 1: the descendant that has the id 1 in its own namespace."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        assert process.poll() is None, "the container ended; see its console"
        for pid in _descendants(process.pid):
            status = Path(f"/proc/{pid}/status").read_text()
            numbers = next(line.split() for line in status.splitlines() if line[:6] == "NSpid:")
            if len(numbers) > 2 and numbers[-1] == "1":
                return pid
        time.sleep(0.1)
    raise AssertionError("the container did not start; see its console")


def _descendants(pid: int) -> Iterator[int]:
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, file.read_text().split()):
            yield child
            yield from _descendants(child)


def _rooted(*command: str) -> list[str]:
    return [*command] if os.geteuid() == 0 else ["sudo", "--non-interactive", *command]


def _as_root(*command: str, seconds: float, given: str = "") -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        _rooted(*command), input=given, capture_output=True, text=True, timeout=seconds, check=False
    )


def _done(*command: str, given: str = "") -> None:
    done = _as_root(*command, seconds=SECONDS, given=given)
    assert done.returncode == 0, (command, done.stderr)
