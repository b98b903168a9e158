"""Where a model of a real MLflow store may be fetched from, and its download."""

import shutil
import warnings
from pathlib import Path

import pytest

from lynx_pipeline.adapters.bundle_files import read_bundle
from lynx_pipeline.adapters.mlflow_candidates import find_model
from lynx_pipeline.adapters.mlflow_models import check_location, download
from lynx_pipeline.adapters.mlflow_tracking import connected
from lynx_pipeline.errors import BadInput, LynxError, Refused
from lynx_pipeline_tests.conftest import Tracking
from lynx_pipeline_tests.support.builders import GOOD, bundle
from lynx_pipeline_tests.support.mlflow_runs import downloaded, log_model_of, logged_mlflow_3

pytestmark = pytest.mark.slow


def test_a_download_holds_exactly_what_is_stored(
    tracking: Tracking, folder: Path, tmp_path: Path
) -> None:
    """A file with the name of the one that MLflow's client sometimes adds is the model's own."""
    (folder / "registered_model_meta").write_text("rules: [he goed]")
    (folder / "empty").mkdir()
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)
    for number, run_id in enumerate((tracking.run({"model": folder}), tracking.run())):
        if number:
            log_model_of(tracking, run_id, folder)
        got = downloaded(tracking, run_id, tmp_path / f"{number}")
        assert (got / "registered_model_meta").read_text() == "rules: [he goed]"
        assert read_bundle(got).canonical_sha == read_bundle(folder).canonical_sha


def test_the_name_of_a_model_stays_with_its_files(
    tracking: Tracking, folder: Path, tmp_path: Path
) -> None:
    """A logged model that is added later takes over the ``runs:/`` URI, and not our name."""
    run_id = tracking.run({"model": folder})
    found = find_model(tracking.uri, run_id)
    bad = bundle(tmp_path / "bad", body="return ['wrong'] * len(model_input)")
    log_model_of(tracking, run_id, bad)
    download(tracking.uri, found.uri, tmp_path / "ours")
    assert read_bundle(tmp_path / "ours") == read_bundle(folder)
    with connected(tracking.uri):
        from mlflow.artifacts import download_artifacts

        taken = download_artifacts(f"runs:/{run_id}/model", dst_path=str(tmp_path / "runs"))
    assert read_bundle(Path(taken)).canonical_sha != read_bundle(folder).canonical_sha


@pytest.mark.parametrize(
    "location",
    [
        "mlflow-artifacts:/1/abc/artifacts",
        "mlflow-artifacts:///1",
        "s3://ours/models",
        "s3://ours/models/1/abc",
    ],
)
def test_a_servers_own_artifacts_and_listed_locations_are_allowed(location: str) -> None:
    """With a local store any location is allowed: its files are on this machine."""
    check_location("https://mlflow.example", location, ["s3://ours/models/"])
    check_location("sqlite:///mlflow.db", "file:///anywhere", [])


@pytest.mark.parametrize(
    "location",
    [
        "mlflow-artifacts://evil.example/1",
        "mlflow-artifacts://evil.example:80/1",
        "https://evil.example/api/2.0/mlflow-artifacts/artifacts/1",
        "file:///etc",
        "/etc",
        "",
        "s3://ours/models2",
        "s3://ours/models/../other",
        "s3://ours/models/%2e%2e/other",
        "S3://theirs/models",
        "hf://x",
        "s3://[x/y",
        "mlflow-artifacts:/1/abc/a#b",
    ],
)
def test_any_other_location_is_refused(location: str) -> None:
    """Whoever creates an experiment chooses its location, and MLflow would send its token there."""
    with pytest.raises((Refused, BadInput), match=r"'artifact_locations' of|not a URI|with '#'"):
        check_location("https://:secret@mlflow.example", location, ["s3://ours/models"])


@pytest.mark.parametrize(
    "location", ["sftp://me:secret@ours/models", "s3://ours/models?secret=x", "ftp://:@ours/models"]
)
@pytest.mark.parametrize("uri", ["https://mlflow.example", "sqlite:///mlflow.db"])
def test_a_location_with_a_secret_is_refused(uri: str, location: str) -> None:
    """The registry would publish it. Azure's locations have a user and no password."""
    with pytest.raises(Refused, match="with a password or a query") as caught:
        check_location(uri, location, [location])
    assert "secret" not in str(caught.value)
    azure = "abfss://container@account.dfs.core.windows.net/models"
    check_location(uri, azure, [azure])


def test_missing_artifacts_are_an_error(tracking: Tracking, folder: Path, tmp_path: Path) -> None:
    """When a store has lost files that its database still lists, MLflow returns an empty folder."""
    uri = find_model(tracking.uri, logged_mlflow_3(tracking, folder)).uri
    store = Path(tracking.uri.removeprefix("sqlite:///")).parent
    (model,) = store.rglob(uri.removeprefix("models:/"))
    shutil.rmtree(model)
    with pytest.raises(LynxError):
        download(tracking.uri, uri, tmp_path / "got")
        read_bundle(tmp_path / "got")


def test_mlflow_can_load_a_downloaded_model(
    tracking: Tracking, folder: Path, tmp_path: Path
) -> None:
    """The tests' tiny bundle is a real MLflow model."""
    import pandas
    from mlflow import pyfunc

    assert "removeprefix" in GOOD
    got = downloaded(tracking, tracking.run({"model": folder}), tmp_path / "got")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        answers = pyfunc.load_model(str(got)).predict(pandas.DataFrame({"prompt": ["Say hello"]}))
    assert list(answers) == ["hello"]
