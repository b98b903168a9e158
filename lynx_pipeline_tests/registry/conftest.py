"""For the registry's tests: a project with candidates."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lynx_pipeline.adapters.mlflow_tracking import connected
from lynx_pipeline_tests.conftest import Tracking
from lynx_pipeline_tests.support import mlflow_server
from lynx_pipeline_tests.support.builders import project
from lynx_pipeline_tests.support.signing import RELEASE, signatures_table
from lynx_pipeline_tests.support.world import World


@pytest.fixture
def world(tmp_path: Path, tracking: Tracking) -> World:
    """A project with twelve questions, a perfect baseline and a tolerance of two points."""
    settings = project(
        tmp_path / "project",
        environ={"MLFLOW_TRACKING_URI": tracking.uri},
        pyproject=f'registry = "registry"\n{signatures_table(RELEASE)}',
    )
    return World(settings, tracking, tmp_path)


@pytest.fixture
def to(tmp_path: Path) -> Path:
    """The folder to create, in a folder that does not exist yet either."""
    return tmp_path / "models" / "current"


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Tracking, Path]]:
    """An MLflow server, and the folder of its artifacts."""
    folder = tmp_path_factory.mktemp("server")
    with mlflow_server.running(folder) as uri:
        with connected(uri) as client:
            experiment = client.create_experiment("tiny")
        yield Tracking(uri, experiment), folder / "artifacts"
