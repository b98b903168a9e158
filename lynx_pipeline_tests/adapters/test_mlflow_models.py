"""Where a model of a real MLflow store may be fetched from, and its download."""

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from lynx_pipeline.adapters.bundle_files import read_bundle
from lynx_pipeline.adapters.mlflow_candidates import find_model
from lynx_pipeline.adapters.mlflow_models import check_location, download, with_client
from lynx_pipeline.adapters.mlflow_tracking import connected
from lynx_pipeline.config import load_settings
from lynx_pipeline.errors import BadInput, LynxError, Refused, SystemFailed
from lynx_pipeline_tests.conftest import Tracking
from lynx_pipeline_tests.support import s3_server
from lynx_pipeline_tests.support.builders import GOOD, bundle
from lynx_pipeline_tests.support.mlflow_runs import downloaded, log_model_of, logged_mlflow_3
from lynx_pipeline_tests.support.mlflow_server import running
from lynx_pipeline_tests.support.s3_server import BUCKET

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


def test_the_size_of_a_large_model_is_reported(
    tracking: Tracking, folder: Path, tmp_path: Path
) -> None:
    """Before the download, which can take minutes. A small one is not worth a line."""
    steps: list[str] = []
    for size in (1, 17 << 20):
        assert not steps
        (folder / "weights").write_bytes(bytes(size))
        found = find_model(tracking.uri, tracking.run({"model": folder}))
        download(tracking.uri, found.location, tmp_path / f"{size}", say=steps.append)
    first, second = steps
    assert first == "Downloading the model: 3 files, 17 MiB."
    assert second.startswith("Downloaded after ")


def _grows(tracking: Tracking, folder: Path, to: Path, grow: Callable[[str], None]) -> None:
    """A file that grows after the listing is the last that is downloaded."""
    (folder / "weights").write_bytes(bytes(1000))
    (folder / "zebra").mkdir()
    (folder / "zebra/last").write_bytes(bytes(1000))
    location = find_model(tracking.uri, tracking.run({"model": folder})).location
    with pytest.raises(SystemFailed) as caught:
        with_client(tracking.uri, location, to, listed=lambda _: grow(f"{location}/weights"))
    assert f"the model at '{location}' changed while it was downloaded: 'weights' is longer" in str(
        caught.value
    )
    assert "than the 1000 bytes that were listed. Run this again." in str(caught.value)
    assert (to / "MLmodel").is_file()
    assert not (to / "zebra/last").exists()


def test_a_file_that_grows_after_the_listing_ends_the_download(
    tracking: Tracking, folder: Path, tmp_path: Path
) -> None:
    """In a folder, such as a share that others can write to."""

    def grow(file: str) -> None:
        Path(file).write_bytes(bytes(5000))

    _grows(tracking, folder, tmp_path / "to", grow)


def test_an_object_that_grows_after_the_listing_ends_the_download(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In S3. Without a change, everything arrives."""
    with s3_server.running(tmp_path) as s3:
        for name, value in s3.environ.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr("boto3.DEFAULT_SESSION", None)  # it keeps another test's credentials
        uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
        with connected(uri) as client:
            tracking = Tracking(uri, client.create_experiment("tiny", f"s3://{BUCKET}/mlflow"))
        got = downloaded(tracking, tracking.run({"model": folder}), tmp_path / "got")
        assert read_bundle(got) == read_bundle(folder)

        def grow(file: str) -> None:
            key = file.removeprefix(f"s3://{BUCKET}/")
            s3.client().put_object(Bucket=BUCKET, Key=key, Body=bytes(5000))

        _grows(tracking, folder, tmp_path / "to", grow)


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
        "mlruns/1",
        "file:mlruns/1",
        "//nas/share/1",
        "/mnt/nfs/mlruns2",
        "/mnt/nfs/mlruns/../other",
        "/mnt/nfs/mlruns/%2e%2e/other",
        "file://evil.example/mnt/nfs/mlruns",
        "wasbs://theirs@account.blob.core.windows.net/models",
        "s3://ours/models/\n1",
    ],
)
def test_any_other_location_is_refused(location: str) -> None:
    """Whoever creates an experiment chooses its location, and MLflow would send its token there."""
    azure = "wasbs://ours@account.blob.core.windows.net/models"
    listed = ["s3://ours/models", "/mnt/nfs/mlruns", azure]
    with pytest.raises(
        (Refused, BadInput), match=r"'artifact_locations' of|can't be fetched|with '#'"
    ):
        check_location("https://:secret@mlflow.example", location, listed)


@pytest.mark.parametrize(
    "location",
    [
        "sftp://me:secret@ours/models",
        "s3://ours/models?secret=x",
        "ftp://:@ours/models",
        "https://secret@ours/models",
    ],
)
@pytest.mark.parametrize("uri", ["https://mlflow.example", "sqlite:///mlflow.db"])
def test_a_location_with_a_secret_is_refused(uri: str, location: str) -> None:
    """The registry would publish it. Azure's locations have a user and no password."""
    with pytest.raises(Refused, match="with a password or a query") as caught:
        check_location(uri, location, [location])
    assert "secret" not in str(caught.value)
    azure = "abfss://container@account.dfs.core.windows.net/models"
    check_location(uri, azure, [azure])


IN_A_RUN = f"1/{'a' * 32}/artifacts/model"
IN_A_MODEL = f"12/models/m-{'b' * 32}/artifacts"


@pytest.mark.parametrize(
    ("location", "root"),
    [
        (f"/mnt/nfs/mlruns/{IN_A_RUN}", "/mnt/nfs/mlruns"),
        (f"/mnt/team share/mlruns/{IN_A_MODEL}", "/mnt/team share/mlruns"),
        (f"file:///mnt/nfs/mlruns/{IN_A_RUN}", "file:///mnt/nfs/mlruns"),
        (f"s3://ours/{IN_A_MODEL}", "s3://ours"),
        (f"s3://ours/own/{'a' * 32}/artifacts", "s3://ours/own"),
        (f"gs://ours/models/{IN_A_RUN}", "gs://ours/models"),
        (f"dbfs:/databricks/mlflow/{IN_A_RUN}", "dbfs:/databricks/mlflow"),
        (f"dbfs:/{IN_A_RUN}", "dbfs:"),
        (f"hdfs://name:8020/models/{IN_A_RUN}", "hdfs://name:8020/models"),
        (f"wasbs://c@a.blob.core.windows.net/m/{IN_A_RUN}", "wasbs://c@a.blob.core.windows.net/m"),
        (f"mlflow-artifacts://host:80/{IN_A_MODEL}", "mlflow-artifacts://host:80"),
        (f"sftp://me@host/models/{IN_A_RUN}", "sftp://me@host/models"),
        (f"/{IN_A_RUN}", "/1"),
        (f"file:///{IN_A_RUN}", f"file:///{IN_A_RUN}"),
        ("s3://ours/anything/else", "s3://ours/anything/else"),
    ],
)
def test_the_advice_works_when_it_is_pasted(tmp_path: Path, location: str, root: str) -> None:
    """The error has the line for the settings, with the locations that are already there."""
    server = "https://mlflow.example"
    with pytest.raises(Refused) as caught:
        check_location(server, location, ["s3://before"])
    line = str(caught.value).partition("write there: ")[2]
    (tmp_path / "pyproject.toml").write_text(f'[tool.lynx_pipeline]\nmodel = "m"\n{line}\n')
    allowed = load_settings(tmp_path, {}).artifact_locations
    assert allowed == ("s3://before", root)
    check_location(server, location, allowed)


@pytest.mark.parametrize(
    "listed", ["/mnt/nfs/runs", "file:/mnt/nfs/runs/", "file:///mnt/nfs//runs"]
)
@pytest.mark.parametrize(
    "location", ["/mnt/nfs/runs/1", "file:///mnt/nfs/runs/1", "file://localhost/mnt/nfs/%72uns"]
)
def test_a_folder_is_the_same_as_a_path_and_as_a_uri(listed: str, location: str) -> None:
    """MLflow stores either form, depending on how the server was started."""
    check_location("https://mlflow.example", location, [listed])


def test_models_in_a_folder_that_the_server_does_not_serve(folder: Path, tmp_path: Path) -> None:
    """A server whose artifact root is a bare path on a shared file system."""
    shared = tmp_path / "nfs"
    with running(tmp_path, "--no-serve-artifacts", "--default-artifact-root", str(shared)) as uri:
        tracking = Tracking(uri, "0")
        runs = [tracking.run({"model": folder}), logged_mlflow_3(tracking, folder)]
        for number, run_id in enumerate(runs):
            with pytest.raises(Refused) as caught:
                find_model(uri, run_id)
            allowed = json.loads(str(caught.value).partition("artifact_locations = ")[2])
            assert allowed == [str(shared)]
            location = find_model(uri, run_id, allowed).location
            download(uri, location, tmp_path / f"{number}")
            assert (tmp_path / f"{number}" / "MLmodel").is_file()


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
