"""The real service as a process, and a connection that can be cut."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lynx_pipeline_tests.conftest import OURS
from lynx_pipeline_tests.support import REPO

SECONDS = 90.0
POLL = 0.2


def wait_until(condition: Callable[[], object], log: Path, seconds: float = SECONDS) -> None:
    """Wait until the condition holds. If it doesn't in time, show the log."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.05)


def free_port() -> int:
    """A port on which nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def command_line(pid: int) -> bytes:
    """The command line of a process; empty if it has ended."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def children(pid: int) -> list[int]:
    """The ids of the processes that this process has started."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found += [int(child) for child in task.read_text().split()]
    return found


@dataclass
class Running:
    """A started server, its log and its URL."""

    process: "subprocess.Popen[bytes]"
    log: Path
    url: str

    def get(self, path: str) -> tuple[int, Any]:
        """The status and the JSON of a response; 0 if there is none."""
        try:
            with urllib.request.urlopen(f"{self.url}{path}", timeout=10) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)
        except OSError:
            return 0, None

    def listens(self) -> bool:
        """Whether it accepts connections."""
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", urlsplit(self.url).port or 0), 1).close()
            return True
        return False

    def serves(self, version: str) -> bool:
        """Whether this version is loaded."""
        status, found = self.get("/version")
        return status == 200 and found["semver"] == version

    def wait(self, condition: Callable[[], object]) -> None:
        """Wait until the condition holds."""
        wait_until(lambda: condition() or self.process.poll() is not None, self.log)
        assert self.process.poll() is None, self.log.read_text()

    def model_processes(self) -> list[int]:
        """The ids of the processes that run models: they are forked from a server of forks."""
        servers = [it for it in children(self.process.pid) if b"forkserver" in command_line(it)]
        return [it for server in servers for it in children(server)]


@contextmanager
def started(
    command: list[str], folder: Path, environ: dict[str, str], log: Path, port: int
) -> Iterator[Running]:
    """A server for as long as the block runs."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(OURS)}
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**inherited, "PYTHONPATH": str(REPO), **environ},
            stdout=output,
            stderr=output,
        )
    try:
        yield Running(process, log, f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        process.kill()
        process.wait()


@contextmanager
def miniserve(folder: Path, log: Path, **environ: str) -> Iterator[Running]:
    """The service of the project in ``folder``."""
    port = free_port()
    command = [sys.executable, "-m", "examples.miniserve", "--port", str(port), "--poll", str(POLL)]
    variables = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", **environ}
    with started(command, folder, variables, log, port) as running:
        running.wait(running.listens)
        yield running


class Cable:
    """Forwards connections to a port, until it is cut."""

    def __init__(self, target: int) -> None:
        self.port = free_port()
        self._target = target
        self._open: list[socket.socket] = []

    @property
    def url(self) -> str:
        """Where to connect."""
        return f"http://127.0.0.1:{self.port}"

    def plug(self) -> None:
        """Accept connections."""
        listener = socket.create_server(("127.0.0.1", self.port))
        self._open = [listener]
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def cut(self) -> None:
        """Break all connections, and refuse new ones."""
        for each in self._open:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self._open[0].close()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                self._open += [near, far]
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=_copy, args=(source, sink), daemon=True).start()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while part := source.recv(1 << 16):
            sink.sendall(part)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
