"""Finding the model of a candidate in a real MLflow store."""

from pathlib import Path
from typing import Any

import pytest

from lynx_pipeline.adapters.bundle_files import read_bundle
from lynx_pipeline.adapters.mlflow_candidates import find_model
from lynx_pipeline.adapters.mlflow_tracking import connected
from lynx_pipeline.errors import BadInput, SystemFailed
from lynx_pipeline_tests.conftest import Tracking
from lynx_pipeline_tests.support.mlflow_runs import downloaded, log_model_of, logged_mlflow_3

pytestmark = pytest.mark.slow


def test_a_model_among_the_artifacts_is_found(
    tracking: Tracking, folder: Path, tmp_path: Path
) -> None:
    """The model was logged the MLflow 2 way, at any depth. The download equals what was logged."""
    for path in ("model", "deep/down/here"):
        run_id = tracking.run({path: folder})
        found = find_model(tracking.uri, run_id)
        assert found.uri == found.location == f"{tracking.artifacts(run_id)}/{path}"
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
            run_id, says = tracking.run(), r"has 0 models, .*: none\. Its artifacts: none"
        case "other files":
            run_id, says = tracking.run({"o": tmp_path / "other"}), "Its artifacts: 'o'"
        case "two artifacts":
            run_id, says = tracking.run({"a": folder, "b": folder}), r"has 2 models.*/a' .*/b' "
        case _:
            run_id, says = logged_mlflow_3(tracking, folder, models=2), r"has 2 models.*m-.*m-"
    with pytest.raises(BadInput, match=says):
        find_model(tracking.uri, run_id)


def test_a_logged_model_beside_a_models_artifacts_is_never_ignored(
    tracking: Tracking, folder: Path
) -> None:
    """A teacher's model among the artifacts would otherwise be evaluated in place of the run's own
    model. Both are listed."""
    run_id = logged_mlflow_3(tracking, folder)
    with connected(tracking.uri) as client:
        client.log_artifacts(run_id, str(folder), "teacher")
    with pytest.raises(
        BadInput, match=r"has 2 models.*/teacher' \(an artifact\), m-.* 'model0', RE"
    ):
        find_model(tracking.uri, run_id)


def test_a_logged_model_that_is_not_an_output_is_counted(
    tracking: Tracking, folder: Path, tmp_path: Path
) -> None:
    """It is found if it is the run's only model, and makes an artifact ambiguous."""
    alone = tracking.run()
    model_id = log_model_of(tracking, alone, folder)
    assert find_model(tracking.uri, alone).uri == f"models:/{model_id}"
    assert read_bundle(downloaded(tracking, alone, tmp_path / "got")) == read_bundle(folder)
    with_artifact = tracking.run({"model": folder})
    log_model_of(tracking, with_artifact, folder)
    with pytest.raises(BadInput, match="has 2 models"):
        find_model(tracking.uri, with_artifact)


def test_a_long_list_of_models_is_cut(tracking: Tracking, tmp_path: Path, folder: Path) -> None:
    """Names are quoted, so that no character of theirs reaches a terminal."""
    (tmp_path / "many").mkdir()
    for number in range(12):
        (tmp_path / "many" / f"\x1b[31m{number:02}").mkdir()
        (tmp_path / "many" / f"\x1b[31m{number:02}" / "notes").write_text("x")
    run_id = tracking.run({"": tmp_path / "many"})
    with pytest.raises(BadInput, match=r"'\\x1b\[31m09' and 2 more\. Log") as caught:
        find_model(tracking.uri, run_id)
    assert "\x1b" not in str(caught.value)


def test_an_external_model_is_named_as_such(tracking: Tracking, folder: Path) -> None:
    """MLflow creates one for a program whose traces it collects. It counts, since anybody could
    tag any model as external."""
    run_id = logged_mlflow_3(tracking, folder)
    with connected(tracking.uri) as client:
        client.create_logged_model(
            tracking.experiment,
            name="agent",
            source_run_id=run_id,
            tags={"mlflow.model.isExternal": "true"},
        )
        made = client.search_logged_models([tracking.experiment], filter_string="name = 'agent'")
        client.finalize_logged_model(made[0].model_id, "READY")
    with pytest.raises(BadInput, match=r"has 2 models.*\(an external model 'agent', READY\)"):
        find_model(tracking.uri, run_id)


def test_a_folder_named_mlmodel_is_not_a_model(
    tracking: Tracking, folder: Path, tmp_path: Path
) -> None:
    """The good model beside it is found."""
    (tmp_path / "odd" / "MLmodel").mkdir(parents=True)
    (tmp_path / "odd" / "MLmodel" / "x").write_text("x")
    run_id = tracking.run({"model": folder, "odd": tmp_path / "odd"})
    assert find_model(tracking.uri, run_id).location.endswith("/model")


def test_a_folder_with_a_logged_models_name_is_not_a_model(
    tracking: Tracking, folder: Path, tmp_path: Path
) -> None:
    """MLflow's client lists the logged model's files in a run's folder of the same name."""
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "notes.txt").write_text("x")
    run_id = tracking.run({"model": tmp_path / "notes"})
    model_id = log_model_of(tracking, run_id, folder)
    assert find_model(tracking.uri, run_id).uri == f"models:/{model_id}"


def test_artifacts_nested_too_deep_are_refused(
    tracking: Tracking, folder: Path, tmp_path: Path
) -> None:
    """A second model could be below, so the first one is not taken for the only one."""
    (tmp_path / "nested" / "/".join("d" * 70)).mkdir(parents=True)
    run_id = tracking.run({"model": folder, "z": tmp_path / "nested"})
    with pytest.raises(BadInput, match="nested more than 64 deep"):
        find_model(tracking.uri, run_id)


def test_a_deleted_logged_model_is_left_out(tracking: Tracking, folder: Path) -> None:
    """The run's other model is then its only one."""
    run_id = logged_mlflow_3(tracking, folder, models=2)
    with connected(tracking.uri) as client:
        first, second = client.get_run(run_id).outputs.model_outputs
        client.delete_logged_model(first.model_id)
    assert find_model(tracking.uri, run_id).uri == f"models:/{second.model_id}"


@pytest.mark.parametrize("status", ["PENDING", "FAILED"])
def test_a_logged_model_that_is_not_ready_is_not_a_candidate(
    tracking: Tracking, folder: Path, status: str
) -> None:
    """Its upload did not end well, so its files may be incomplete. The message shows its status."""
    run_id = tracking.run()
    model_id = log_model_of(tracking, run_id, folder, status)
    with pytest.raises(BadInput, match=rf"has 0 models.*{model_id} .*'model', {status}\)"):
        find_model(tracking.uri, run_id)


@pytest.mark.parametrize("state", ["RUNNING", "FAILED", "KILLED", "DELETED"])
def test_a_run_that_is_deleted_or_not_finished_is_refused(
    tracking: Tracking, folder: Path, state: str
) -> None:
    """A run that goes on can still change its model."""
    if state == "DELETED":
        run_id = tracking.run({"model": folder})
        with connected(tracking.uri) as client:
            client.delete_run(run_id)
    else:
        run_id = tracking.run({"model": folder}, state)
    with pytest.raises(BadInput, match=f"is {state}: expected FINISHED"):
        find_model(tracking.uri, run_id)


def test_a_server_without_logged_models_has_none(
    tracking: Tracking, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow 2 answers with a plain 404. Any other failure is reported."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import ENDPOINT_NOT_FOUND, INTERNAL_ERROR

    run_id = tracking.run({"model": folder})
    for code, expected in ((ENDPOINT_NOT_FOUND, None), (INTERNAL_ERROR, SystemFailed)):

        def answer(*_: Any, code: int = code, **__: Any) -> None:
            raise MlflowException("not found", error_code=code)

        monkeypatch.setattr(MlflowClient, "search_logged_models", answer)
        if expected is None:
            assert find_model(tracking.uri, run_id).uri.endswith("/model")
        else:
            with pytest.raises(expected):
                find_model(tracking.uri, run_id)


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
