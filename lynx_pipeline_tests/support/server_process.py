"""Somebody else's server in its own process."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

SECONDS = 90.0


@contextmanager
def serving(
    module: str, *arguments: str, health: str, log: Path, environ: Mapping[str, str]
) -> Iterator[str]:
    """The URL of a server on a free port of this machine, for as long as the block runs.

    ``module`` is the Python module that runs it; ``--host`` and ``--port`` are added to its
    ``arguments``. The block starts when the path ``health`` is answered. ``environ`` is the whole
    environment."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    url = f"http://127.0.0.1:{port}"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments, "--host", "127.0.0.1", "--port", str(port)],
            env=dict(environ),
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        end = time.monotonic() + SECONDS
        while True:
            with suppress(OSError):
                urllib.request.urlopen(f"{url}{health}", timeout=2).close()
                break
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.1)
        yield url
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        process.wait()
