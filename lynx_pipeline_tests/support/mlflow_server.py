"""A real MLflow server for tests, over HTTP."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from lynx_pipeline_tests.conftest import OURS
from lynx_pipeline_tests.support.server_process import serving


@contextmanager
def running(
    folder: Path,
    *artifacts: str,
    workers: int = 1,
    variables: Mapping[str, str] | None = None,
) -> Iterator[str]:
    """An MLflow server that also serves artifacts, unless the options ``artifacts`` say otherwise;
    yields its URL. ``variables`` are added to its environment."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith(OURS)}
    served = ("--serve-artifacts", "--artifacts-destination", str(folder / "artifacts"))
    with serving(
        *("mlflow", "server", "--workers", str(workers)),
        *("--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"),
        *(artifacts or served),
        health="/health",
        log=folder / "mlflow.log",
        environ={
            **environ,
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # eight idle processes
            # Older servers accept any artifact location.
            "MLFLOW_ALLOWED_HOST_ADDRESSED_ARTIFACT_SCHEMES": "mlflow-artifacts",
            **(variables or {}),
        },
    ) as url:
        yield url
