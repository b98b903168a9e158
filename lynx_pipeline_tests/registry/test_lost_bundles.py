"""A promoted bundle that MLflow has lost: every command gives the same reason and exit code."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lynx_pipeline.adapters.bundle_files import read_bundle
from lynx_pipeline.adapters.mlflow_models import logged_model
from lynx_pipeline.adapters.mlflow_tracking import connected
from lynx_pipeline.cli import main
from lynx_pipeline_tests.support.builders import bundle
from lynx_pipeline_tests.support.fetching import V
from lynx_pipeline_tests.support.mlflow_runs import log_model_of
from lynx_pipeline_tests.support.world import Made, World, promote_by_hand, register

Lose = Callable[[World, str, Path], None]


@pytest.fixture
def model_id(world: World, monkeypatch: pytest.MonkeyPatch) -> str:
    """A logged model that was promoted, and after it another candidate. The working directory is in
    the project."""
    made = bundle(world.folder / "made")
    found = log_model_of(world.tracking, world.tracking.run(), made)
    identity = read_bundle(made)
    register(world, Made(found, identity.canonical_sha, identity.digest, world.folder))
    promote_by_hand(world, identity.canonical_sha, V)
    world.promote(world.candidate("later"), "v0.2.0-dev")
    monkeypatch.chdir(world.settings.root)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", world.tracking.uri)
    return found


def _delete(world: World, model_id: str, _: Path) -> None:
    with connected(world.tracking.uri) as client:
        client.delete_logged_model(model_id)


def _collect(world: World, model_id: str, files: Path) -> None:
    """Delete it, and let MLflow's garbage collection remove its files."""
    _delete(world, model_id, files)
    command = [sys.executable, "-m", "mlflow", "gc", "--backend-store-uri", world.tracking.uri]
    done = subprocess.run(
        [*command, "--logged-model-ids", model_id],
        env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not files.exists()


def _remove_files(_: World, __: str, files: Path) -> None:
    shutil.rmtree(files)


def _remove_mlmodel(_: World, __: str, files: Path) -> None:
    (files / "MLmodel").unlink()


NO_MODEL = "MLflow at URI has no logged model ID. It may have been deleted. Check "
NO_MODEL += "MLFLOW_TRACKING_URI."
NO_FILES = "MLflow at URI has no files at 'FILES' any more. They may have been deleted."
NO_MLMODEL = (
    f"MLflow's copy of {V} is not the bundle that was promoted: not an MLflow model: there "
)
NO_MLMODEL += "is no MLmodel file at the top level."


@pytest.mark.slow(seconds=20)
@pytest.mark.parametrize(
    ("lose", "reason"),
    [
        pytest.param(_delete, NO_MODEL, id="logged model deleted"),
        pytest.param(_collect, NO_MODEL, id="garbage collected"),
        pytest.param(_remove_files, NO_FILES, id="files removed"),
        pytest.param(_remove_mlmodel, NO_MLMODEL, id="one file removed"),
    ],
)
def test_a_lost_bundle_is_a_refusal_with_one_reason(
    world: World,
    model_id: str,
    to: Path,
    capsys: pytest.CaptureFixture[str],
    lose: Lose,
    reason: str,
) -> None:
    """Fetch, rollback and the doctor agree. The version is right; trying again won't help."""
    with connected(world.tracking.uri) as client:
        location = logged_model(client, model_id).artifact_location
    lose(world, model_id, Path(location.removeprefix("file://")))
    for name, value in (("URI", world.tracking.uri), ("ID", model_id), ("FILES", location)):
        reason = reason.replace(f" {name}", f" {value}").replace(f"'{name}'", f"'{value}'")
    before = world.state
    capsys.readouterr()
    assert main(["registry", "fetch", V, "--to", str(to)]) == 1
    assert capsys.readouterr().err == f"lynx-pipeline: {reason} Nothing was changed.\n"
    assert not to.exists()
    assert main(["registry", "rollback", V]) == 1
    assert capsys.readouterr().err == (
        f"lynx-pipeline: {V} can't become the latest version, because its bundle can't be fetched: "
        f"{reason} 'registry doctor' lists the versions that can. Nothing was changed.\n"
    )
    world.forget_alias()
    assert main(["registry", "doctor"]) == 1
    assert capsys.readouterr().out == f"{V}  {reason}\nv0.2.0-dev  can be fetched from MLflow\n"
    assert world.state == before


def test_an_invalid_setting_is_bad_input(
    world: World,
    model_id: str,
    to: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It does not say that the bundle is lost, for a rollback neither."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://")
    for command in (["fetch", V, "--to", str(to)], ["rollback", V]):
        assert main(["registry", *command]) == 2
        assert "MLFLOW_TRACKING_URI" in capsys.readouterr().err
