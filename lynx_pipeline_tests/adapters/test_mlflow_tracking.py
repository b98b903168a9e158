"""Finding and downloading models in a real MLflow store, and restoring MLflow's global state."""

import os
import shutil
import uuid
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lynx_pipeline.adapters.bundle_files import read_bundle
from lynx_pipeline.adapters.mlflow_tracking import (
    check_location,
    check_run_id,
    connected,
    download,
    find_model,
    mirror_alias,
    run_page,
    run_tags,
    tag_run,
    without_secrets,
)
from lynx_pipeline.errors import BadInput, LynxError, Refused, SystemFailed
from lynx_pipeline_tests.conftest import Tracking
from lynx_pipeline_tests.support.builders import GOOD, bundle

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A bundle to log."""
    return bundle(tmp_path / "bundle")


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


def test_a_model_among_the_artifacts_is_found(
    tracking: Tracking, folder: Path, tmp_path: Path
) -> None:
    """The model was logged the MLflow 2 way, at any depth. The download equals what was logged."""
    for path in ("model", "deep/down/here"):
        run_id = tracking.run({path: folder})
        assert find_model(tracking.uri, run_id).uri == f"runs:/{run_id}/{path}"
        got = downloaded(tracking, run_id, tmp_path / path)
        assert read_bundle(got) == read_bundle(folder)


def test_the_same_model_logged_twice_the_mlflow_3_way_has_one_sha(
    tracking: Tracking, folder: Path, tmp_path: Path
) -> None:
    """The model is found although it is not an artifact of its run. Run, id and time differ."""
    shas, uris = set(), set()
    for number in range(2):
        run_id = logged_mlflow_3(tracking, folder)
        uri = find_model(tracking.uri, run_id).uri
        assert uri.startswith("models:/m-")
        got = downloaded(tracking, run_id, tmp_path / f"{number}")
        assert "registered_model_meta" not in {path.name for path in got.iterdir()}
        uris.add(uri)
        shas.add(read_bundle(got).canonical_sha)
    assert (len(uris), len(shas)) == (2, 1)


@pytest.mark.parametrize("how", ["none", "other files", "two artifacts", "two outputs"])
def test_a_run_without_exactly_one_model_is_refused(
    tracking: Tracking, folder: Path, tmp_path: Path, how: str
) -> None:
    """The message lists what was found. The run's only model is never guessed."""
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("x")
    match how:
        case "none":
            run_id, says = tracking.run(), r"contains 0 models \(none\), .* artifacts: none"
        case "other files":
            run_id, says = tracking.run({"o": tmp_path / "other"}), "Its artifacts: o"
        case "two artifacts":
            run_id, says = tracking.run({"a": folder, "b": folder}), r"contains 2.*/a, runs.*/b"
        case _:
            run_id, says = logged_mlflow_3(tracking, folder, models=2), r"contains 2.*m-.*m-"
    with pytest.raises(BadInput, match=says):
        find_model(tracking.uri, run_id)


@pytest.mark.parametrize(
    "run_id", ["", "x", "../../../etc", "0" * 31, "0" * 33, "G" * 32, "A" * 32, "0" * 32 + "\n"]
)
def test_an_invalid_run_id_is_refused(run_id: str) -> None:
    """Run ids are used as folder names."""
    with pytest.raises(BadInput, match="32 hex digits"):
        check_run_id(run_id)


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


def test_passwords_and_query_strings_are_removed_from_text() -> None:
    """Object stores put signatures into query strings."""
    text = without_secrets(
        "GET https://me:secret@host/a?sig=secret&x=secret failed. Why? 'sftp://h/b?k=secret'"
    )
    assert text == "GET https://host/a?… failed. Why? 'sftp://h/b?…'"


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
    ],
)
def test_any_other_location_is_refused(location: str) -> None:
    """Whoever creates an experiment chooses its location, and MLflow would send its token there."""
    with pytest.raises(Refused, match="'artifact_locations' of"):
        check_location("https://:secret@mlflow.example", location, ["s3://ours/models"])


@pytest.mark.parametrize(
    "model_id", ["m-{0}#@a", "x@a/../m-{0}", "m-{0}?", "m-{0}/..", "name@a", ""]
)
def test_an_invalid_model_id_is_refused(tracking: Tracking, folder: Path, model_id: str) -> None:
    """A run's output may be any text, and the client would resolve aliases and paths in it."""
    from mlflow.entities import LoggedModelOutput

    with connected(tracking.uri) as client:
        [good] = client.get_run(logged_mlflow_3(tracking, folder)).outputs.model_outputs
        run_id = tracking.run()
        named = model_id.format(good.model_id.removeprefix("m-"))
        client.log_outputs(run_id, [LoggedModelOutput(named, 0)])
    with pytest.raises(BadInput, match="is not the id of a logged model"):
        find_model(tracking.uri, run_id)


def test_an_unknown_run_is_bad_input_and_a_broken_server_is_a_system_failure(
    tracking: Tracking, tmp_path: Path
) -> None:
    """The user can fix the run id, but not a broken server."""
    with pytest.raises(BadInput, match="not found in MLflow at"):
        find_model(tracking.uri, "0" * 32)
    with pytest.raises(BadInput, match="not found in MLflow at"):
        run_tags(tracking.uri, "0" * 32)
    (tmp_path / "broken.db").write_text("no database at all" * 100)
    with pytest.raises(SystemFailed, match=r"MLflow at sqlite.* failed"):
        find_model(f"sqlite:///{tmp_path / 'broken.db'}", "0" * 32)


def test_missing_artifacts_are_an_error(tracking: Tracking, folder: Path, tmp_path: Path) -> None:
    """When a store has lost files that its database still lists, MLflow returns an empty folder."""
    uri, _ = find_model(tracking.uri, logged_mlflow_3(tracking, folder))
    store = Path(tracking.uri.removeprefix("sqlite:///")).parent
    (model,) = store.rglob(uri.removeprefix("models:/"))
    shutil.rmtree(model)
    with pytest.raises(LynxError):
        download(tracking.uri, uri, tmp_path / "got")
        read_bundle(tmp_path / "got")


@pytest.fixture
def callers_server() -> Iterator[str]:
    """A tracking server that the caller has set for its own use."""
    import mlflow

    other = "http://127.0.0.1:1/other"
    mlflow.set_tracking_uri(other)
    yield other
    mlflow.set_tracking_uri(None)
    os.environ.pop("MLFLOW_TRACKING_URI", None)


def test_the_callers_tracking_server_is_restored(
    tracking: Tracking, folder: Path, tmp_path: Path, callers_server: str
) -> None:
    """The environment variable that MLflow sets is restored too, also after an error."""
    import mlflow

    variable = os.environ.get("MLFLOW_TRACKING_URI")
    run_id = tracking.run({"model": folder})
    downloaded(tracking, run_id, tmp_path / "got")
    with pytest.raises(BadInput):
        find_model(tracking.uri, "0" * 32)
    assert mlflow.get_tracking_uri() == callers_server
    assert os.environ.get("MLFLOW_TRACKING_URI") == variable


def test_an_unset_tracking_server_stays_unset(tracking: Tracking) -> None:
    """No environment variable is left that a child process would inherit."""
    import mlflow

    run_id = tracking.run()
    tag_run(tracking.uri, run_id, "lynx.semver", "v0.1.0-dev")
    assert run_tags(tracking.uri, run_id)["lynx.semver"] == "v0.1.0-dev"
    assert not mlflow.tracking.is_tracking_uri_set()
    assert "MLFLOW_TRACKING_URI" not in os.environ


def test_a_tracking_server_from_the_environment_is_not_kept(
    tracking: Tracking, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once the variable is gone, the process has no tracking server."""
    import mlflow

    run_id = tracking.run()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking.uri)
    run_tags(tracking.uri, run_id)
    assert mlflow.get_tracking_uri() == os.environ["MLFLOW_TRACKING_URI"] == tracking.uri
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert not mlflow.tracking.is_tracking_uri_set()


def test_mirroring_twice_changes_nothing(tracking: Tracking, folder: Path) -> None:
    """The first call creates a version and an alias. Other promotions move the alias, also back."""
    tags = [{"lynx.semver": f"v0.{k}.0-dev", "lynx.canonical_sha": f"{k}"} for k in range(2)]
    runs = [tracking.run({"model": folder}) for _ in range(2)]

    def mirror(k: int) -> tuple[str, int, str]:
        """The returned version, how many versions there are, and where the alias points."""
        version = mirror_alias(
            tracking.uri,
            model="mirrored",
            alias="dev",
            uri=f"runs:/{runs[k]}/model",
            run_id=runs[k],
            tags=tags[k],
        )
        with connected(tracking.uri) as client:
            found = client.search_model_versions("name = 'mirrored'")
            alias = client.get_registered_model("mirrored").aliases["dev"]
        return version, len(found), str(alias)

    assert mirror(0) == mirror(0) == ("1", 1, "1")
    assert mirror(1) == mirror(1) == ("2", 2, "2")
    assert mirror(0) == ("1", 2, "1")


@pytest.mark.parametrize(
    ("uri", "text"),
    [
        ("http://user:secret@host/x", "http://host/x"),
        ("http://user:s@cr@t@host/x", "http://host/x"),
        ("no http://a:b@c, no http://d:e@f", "no http://c, no http://f"),
        ("http://host/x@y", "http://host/x@y"),
        ("sqlite:////a/b.db", "sqlite:////a/b.db"),
    ],
)
def test_a_password_is_not_shown(uri: str, text: str) -> None:
    """Error messages end up in logs that anyone can read."""
    assert without_secrets(uri) == text


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


# ----- the mirror converges from any state ----------------------------------------------------

MIRRORED = {"lynx.semver": "v0.1.0-dev", "lynx.canonical_sha": "a"}


@pytest.fixture
def mirrored(tracking: Tracking, folder: Path) -> Callable[[], tuple[Any, ...]]:
    """A function that mirrors one promotion, checks the version that the alias then points to, and
    returns model, run, source and the number of versions."""
    run_id, model = tracking.run({"model": folder}), f"m{uuid.uuid4().hex}"
    uri = f"runs:/{run_id}/model"

    def mirror() -> tuple[Any, ...]:
        version = mirror_alias(
            tracking.uri, model=model, alias="dev", uri=uri, run_id=run_id, tags=MIRRORED
        )
        with connected(tracking.uri) as client:
            found = client.get_model_version_by_alias(model, "dev")
            number = len(client.search_model_versions(f"name = '{model}'"))
        assert version == str(found.version)
        assert (found.run_id, found.source, dict(found.tags)) == (run_id, uri, MIRRORED)
        return model, run_id, uri, number

    return mirror


CALLS = ("create_registered_model", "create_model_version", "set_registered_model_alias")


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_an_interrupted_mirror_is_completed_by_the_next_one(
    mirrored: Callable[[], tuple[Any, ...]],
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    after: bool,
) -> None:
    """An interruption before or after any call that writes leaves one version in the end."""
    from mlflow import MlflowClient

    real = getattr(MlflowClient, call)

    def broken(*args: Any, **kwargs: Any) -> Any:
        if after:
            real(*args, **kwargs)
        raise ConnectionError("gone")

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, call, broken)
        with pytest.raises(SystemFailed):
            mirrored()
    assert mirrored()[3] == 1
    assert mirrored()[3] == 1


def test_changes_by_others_to_the_mirror_are_repaired(
    mirrored: Callable[[], tuple[Any, ...]], tracking: Tracking, folder: Path
) -> None:
    """The alias moved or deleted, versions deleted, tags edited, or a version with our tags and
    run that points to a different model."""
    model, run_id, uri, _ = mirrored()
    other = tracking.run({"model": folder})
    with connected(tracking.uri) as client:
        client.delete_registered_model_alias(model, "dev")
        mirrored()
        evil = client.create_model_version(
            model, f"runs:/{other}/model", run_id=run_id, tags=MIRRORED
        )
        client.set_registered_model_alias(model, "dev", evil.version)
        mirrored()
        found = client.get_model_version_by_alias(model, "dev").version
        client.set_model_version_tag(model, found, "lynx.semver", "v9.9.9")
        mirrored()
        for version in client.search_model_versions(f"name = '{model}'"):
            client.delete_model_version(model, version.version)
    assert mirrored() == (model, run_id, uri, 1)


@pytest.mark.parametrize(
    ("uri", "page"),
    [
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000/#/runs/abc"),
        (
            "https://me:s3cret@mlflow.example/base/?token=s3cret#s3cret",
            "https://mlflow.example/base/#/runs/abc",
        ),
        ("https://me:s3cr@et@mlflow.example", "https://mlflow.example/#/runs/abc"),
        ("sqlite:////tmp/mlflow.db", None),
        ("databricks", None),
    ],
)
def test_a_link_to_a_run_contains_no_secret(uri: str, page: str | None) -> None:
    """The link contains server, path and run, but no user, password, query or fragment."""
    assert run_page(uri, "abc") == page
