"""Fetching a promoted bundle from a real MLflow server whose store changes."""

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from lynx_pipeline.adapters import mlflow_models, mlflow_server
from lynx_pipeline.adapters.bundle_files import read_bundle
from lynx_pipeline.adapters.mlflow_candidates import find_model
from lynx_pipeline.adapters.mlflow_tracking import connected
from lynx_pipeline.config import load_settings
from lynx_pipeline.errors import LynxError, Refused, SystemFailed
from lynx_pipeline.registry import Registry, fetching
from lynx_pipeline_tests.conftest import Tracking
from lynx_pipeline_tests.support.bounded import refusal
from lynx_pipeline_tests.support.builders import bundle, project
from lynx_pipeline_tests.support.bundle_bombs import BUNDLE_BOMBS, MIB
from lynx_pipeline_tests.support.fetching import CHANGES, V, fetch
from lynx_pipeline_tests.support.world import World

PYPROJECT = f"""
registry = "registry"
[tool.lynx_pipeline.evaluation]
bundle_mib = {MIB}
"""


@pytest.fixture(params=["artifact", "logged model"])
def stored(
    request: pytest.FixtureRequest, server: tuple[Tracking, Path], tmp_path: Path
) -> tuple[World, Path]:
    """A project with a promoted candidate, and where the server keeps its bundle."""
    tracking, artifacts = server
    environ = {"MLFLOW_TRACKING_URI": tracking.uri}
    settings = project(tmp_path / "p", environ=environ, pyproject=PYPROJECT)
    world = World(settings, tracking, tmp_path)
    good = world.candidate("good")
    if request.param == "logged model":
        run_id = tracking.run()
        with connected(tracking.uri) as client:
            model = client.create_logged_model(tracking.experiment, source_run_id=run_id)
            client.log_model_artifacts(model.model_id, str(tmp_path / "good"))
            client.finalize_logged_model(model.model_id, "READY")
        good = replace(good, run_id=run_id)
        world.evaluate(good, wrong=0)
        name = model.model_id
    else:
        name = good.run_id
    world.promote(good, V)
    (folder,) = (it.parent for it in artifacts.rglob("MLmodel") if name in it.parts)
    return world, folder


@pytest.mark.slow
def test_what_a_server_changed_is_refused_and_named(
    stored: tuple[World, Path], to: Path, tmp_path: Path
) -> None:
    """Files changed, added and removed, labels and comments, one at a time in the server's store.
    Untouched, the bundle is fetched. Modes don't come through a server."""
    world, folder = stored
    saved = shutil.copytree(folder, tmp_path / "saved")
    for parameters in CHANGES:
        change, message = parameters.values
        assert callable(change)
        change(folder)
        with pytest.raises(Refused) as caught:
            fetch(world, to)
        assert str(message) in str(caught.value)
        assert not to.exists()
        shutil.rmtree(folder)
        shutil.copytree(saved, folder)
    (folder / "MLmodel").chmod(0o755)
    assert fetch(world, to).is_new


@pytest.mark.slow
def test_the_download_without_mlflow_equals_mlflows(
    server: tuple[Tracking, Path], tmp_path: Path
) -> None:
    """Empty files, an empty folder, a large file, and names that a URL has to escape."""
    tracking, artifacts = server
    made = bundle(tmp_path / "made")
    (made / "a b").mkdir()
    (made / "a b" / "ü&+.txt").write_text("x")
    (made / "a b" / "zero").write_bytes(b"")
    (made / "large").write_bytes(os.urandom(5_000_000))
    run_id = tracking.run({"my model": made})
    (stored,) = (it.parent for it in artifacts.rglob("MLmodel") if run_id in it.parts)
    (stored / "empty").mkdir()
    location = find_model(tracking.uri, run_id).location
    assert mlflow_server.serves(tracking.uri, location)
    mlflow_server.download(tracking.uri, location, tmp_path / "without")
    mlflow_models.with_client(tracking.uri, location, tmp_path / "with")
    found = read_bundle(tmp_path / "without")
    assert found == read_bundle(tmp_path / "with")
    (made / "empty").mkdir()
    assert found.digest == read_bundle(made).digest


@pytest.mark.slow
def test_a_later_logged_model_does_not_change_what_is_fetched(
    stored: tuple[World, Path], to: Path, tmp_path: Path
) -> None:
    """Its name is that of the artifact's folder, so MLflow itself would load it for the run."""
    world, _ = stored
    entry = Registry.open(world.settings).promoted()
    shutil.copytree(tmp_path / "good", tmp_path / "bad")
    (tmp_path / "bad" / "code" / "tiny_loader.py").write_text("he goed")
    with connected(world.tracking.uri) as client:
        model = client.create_logged_model(
            world.tracking.experiment, name="model", source_run_id=entry.fact.mlflow_run_id
        )
        client.log_model_artifacts(model.model_id, str(tmp_path / "bad"))
        client.finalize_logged_model(model.model_id, "READY")
    fetch(world, to)
    assert read_bundle(to).digest == entry.fact.bundle_digest


@pytest.mark.slow
def test_without_the_bundle_or_the_server_nothing_is_fetched(
    stored: tuple[World, Path], to: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bundle whose files are gone, and a server that does not answer."""
    world, folder = stored
    shutil.rmtree(folder)
    with pytest.raises(LynxError):
        fetch(world, to)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    settings = replace(world.settings, tracking_uri="http://127.0.0.1:9")
    with pytest.raises(SystemFailed, match=r"MLflow at http://127\.0\.0\.1:9 failed"):
        fetching.fetch(Registry.open(settings), V, to)
    assert not to.exists()


def fetch_again(root: Path, uri: str, to: Path) -> None:
    """Fetch the newest version of the project in ``root``."""
    settings = load_settings(root, {"MLFLOW_TRACKING_URI": uri})
    fetching.fetch(Registry.open(settings), "latest", to)


@pytest.mark.slow
def test_a_bundle_beyond_a_limit_is_not_downloaded(stored: tuple[World, Path], to: Path) -> None:
    """The server lists it, and what it lists is refused."""
    world, folder = stored
    saved = shutil.copytree(folder, to.with_name("saved"))
    for kind in ("an MLmodel with a hole of 4 GiB", "a file of 4 GiB", "1,500 nested folders"):
        change, says = BUNDLE_BOMBS[kind]
        change(folder)
        message = refusal(fetch_again, world.settings.root, world.settings.tracking_uri, to)
        assert says in message
        assert "the model at" in message
        assert not to.exists()
        subprocess.run(["rm", "-rf", str(folder)], check=True)
        shutil.copytree(saved, folder)
    fetch(world, to)
