"""A real MLflow server for tests, over HTTP."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lynx_pipeline_tests.conftest import OURS

SECONDS = 90.0


@contextmanager
def running(folder: Path, *artifacts: str) -> Iterator[str]:
    """An MLflow server that also serves artifacts, unless the options ``artifacts`` say otherwise;
    yields its URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    environ = {k: v for k, v in os.environ.items() if not k.startswith(OURS)}
    destination = str(folder / "artifacts")
    with (folder / "mlflow.log").open("wb") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"),
                *("--port", str(port), "--workers", "1"),
                *("--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"),
                *(artifacts or ("--serve-artifacts", "--artifacts-destination", destination)),
            ],
            env={
                **environ,
                "MLFLOW_DISABLE_TELEMETRY": "true",
                "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # eight idle processes
                # Older servers accept any artifact location.
                "MLFLOW_ALLOWED_HOST_ADDRESSED_ARTIFACT_SCHEMES": "mlflow-artifacts",
            },
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        end = time.monotonic() + SECONDS
        while True:
            with suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).close()
                break
            assert process.poll() is None, (folder / "mlflow.log").read_text()
            assert time.monotonic() < end, (folder / "mlflow.log").read_text()
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        process.wait()
