"""Runs and logged models in an MLflow store."""

from pathlib import Path

from lynx_pipeline.adapters.mlflow_candidates import find_model
from lynx_pipeline.adapters.mlflow_models import download
from lynx_pipeline.adapters.mlflow_tracking import connected
from lynx_pipeline_tests.conftest import Tracking


def logged_mlflow_3(tracking: Tracking, folder: Path, models: int = 1) -> str:
    """A run with models logged the MLflow 3 way: under its outputs."""
    with connected(tracking.uri):
        import mlflow

        with mlflow.start_run(experiment_id=tracking.experiment) as run:
            for number in range(models):
                mlflow.pyfunc.log_model(
                    name=f"model{number}",
                    loader_module="tiny_loader",
                    code_paths=[str(folder / "code")],
                    pip_requirements=[],
                )
    run_id: str = run.info.run_id
    return run_id


def downloaded(tracking: Tracking, run_id: str, to: Path) -> Path:
    """The run's model, downloaded."""
    download(tracking.uri, find_model(tracking.uri, run_id).location, to)
    return to


def log_model_of(
    tracking: Tracking, run_id: str, folder: Path, status: str = "READY", name: str = "model"
) -> str:
    """Add a logged model whose source is a run, as anybody can at any time. It is not among the
    run's outputs. Returns its id."""
    with connected(tracking.uri) as client:
        made = client.create_logged_model(tracking.experiment, name=name, source_run_id=run_id)
        if status != "PENDING":
            client.log_model_artifacts(made.model_id, str(folder))
            client.finalize_logged_model(made.model_id, status)
        return str(made.model_id)
