"""Naming the model that a candidate is, in a real MLflow store."""

import sqlite3
import uuid
from pathlib import Path
from urllib.parse import quote

import pytest

from lynx_pipeline.adapters.bundle_files import read_bundle
from lynx_pipeline.adapters.mlflow_candidates import Model, choose_model, find_model
from lynx_pipeline.adapters.mlflow_models import download
from lynx_pipeline.adapters.mlflow_tracking import connected
from lynx_pipeline.domain import bundle as domain
from lynx_pipeline.errors import BadInput
from lynx_pipeline_tests.conftest import Tracking
from lynx_pipeline_tests.support.builders import bundle
from lynx_pipeline_tests.support.mlflow_runs import log_model_of

pytestmark = pytest.mark.slow


class Several:
    """A run with six models: an artifact "student", an artifact "checkpoints/step 100", two
    checkpoints "adapter", a logged model "student" and a logged "teacher"."""

    def __init__(self, tracking: Tracking, folder: Path) -> None:
        from mlflow.entities import LoggedModelOutput

        self.run_id = tracking.run({"student": folder, "checkpoints/step 100": folder})
        names = ("student", "teacher", "adapter", "adapter")
        self.ids = [log_model_of(tracking, self.run_id, folder, name=name) for name in names]
        with connected(tracking.uri) as client:
            for model_id, step in zip(self.ids[2:], (100, 200), strict=True):
                client.log_outputs(self.run_id, [LoggedModelOutput(model_id, step)])

    def key(self, path: str) -> str:
        """The key of an artifact."""
        return f"{self.run_id}:{quote(path)}"


@pytest.fixture(scope="module")
def several(tracking: Tracking, tmp_path_factory: pytest.TempPathFactory) -> Several:
    """The run with many models, which no test changes."""
    return Several(tracking, bundle(tmp_path_factory.mktemp("several") / "bundle"))


def chosen(tracking: Tracking, reference: str, name: str | None = None) -> Model:
    """The model; its key finds the same one."""
    model = choose_model(tracking.uri, reference, name)
    assert find_model(tracking.uri, str(model.key)) == model
    return model


def test_one_of_a_runs_models_is_named_by_name_step_id_or_path(
    tracking: Tracking, several: Several, folder: Path, tmp_path: Path
) -> None:
    """Whatever it was named by, its key is its id, or its path if it has no id."""
    _, teacher, first, second = several.ids
    expected = {
        "teacher": teacher,
        teacher: teacher,
        "adapter@100": first,
        "adapter@200": second,
        "checkpoints/step 100": several.key("checkpoints/step 100"),
    }
    found = {name: chosen(tracking, several.run_id, name) for name in expected}
    assert {name: str(model.key) for name, model in found.items()} == expected
    assert {model.run_id for model in found.values()} == {several.run_id}
    assert found["teacher"].uri == f"models:/{teacher}"
    download(tracking.uri, found["checkpoints/step 100"].location, tmp_path / "got")
    assert read_bundle(tmp_path / "got") == read_bundle(folder)
    for key in (teacher, several.key("student")):
        assert str(chosen(tracking, key).key) == key


@pytest.mark.parametrize(
    ("name", "says"),
    [
        pytest.param(None, r"has 6 models, expected exactly one", id="not named"),
        pytest.param("student", r"has 2 models named 'student'", id="an artifact and a model"),
        pytest.param("adapter", r"has 2 models named 'adapter'", id="two checkpoints"),
        pytest.param("adapter@300", r"has 0 models named 'adapter@300'", id="no such step"),
        pytest.param("../student", r"has 0 models named '\.\./student'", id="another path"),
        pytest.param("", r"has 0 models named ''", id="empty"),
    ],
)
def test_a_name_that_is_not_exactly_one_models_is_refused(
    tracking: Tracking, several: Several, name: str | None, says: str
) -> None:
    """The message lists all models with their steps, and how to name one."""
    with pytest.raises(BadInput, match=says) as caught:
        choose_model(tracking.uri, several.run_id, name)
    text = str(caught.value)
    assert f"{several.ids[3]} (the logged model 'adapter', step 200, READY)" in text
    assert "/checkpoints/step 100' (an artifact)" in text
    assert text.endswith("Name one of them by its name, NAME@STEP, its id or its path.")


def test_a_version_of_a_registered_model_is_resolved_to_its_model(
    tracking: Tracking, several: Several
) -> None:
    """By number or alias, however it was registered. A moved alias leaves the key what it was."""
    teacher = several.ids[1]
    artifact = f"{tracking.artifacts(several.run_id)}/student"
    sources = {
        f"models:/{teacher}": teacher,
        artifact: several.key("student"),
        f"runs:/{several.run_id}/student": several.key("student"),
    }
    name = f"tutor-{uuid.uuid4().hex}"
    with connected(tracking.uri) as client:
        client.create_registered_model(name)
        for source in sources:
            model_id = teacher if source.startswith("models:/") else None
            client.create_model_version(name, source, several.run_id, model_id=model_id)
        client.set_registered_model_alias(name, "champion", "1")
    found = [str(chosen(tracking, f"models:/{name}/{n}").key) for n in (1, 2, 3)]
    assert found == list(sources.values())
    assert str(chosen(tracking, f"models:/{teacher}").key) == teacher
    before = chosen(tracking, f"models:/{name}@champion")
    with connected(tracking.uri) as client:
        client.set_registered_model_alias(name, "champion", "2")
    assert str(chosen(tracking, f"models:/{name}@champion").key) == several.key("student")
    assert find_model(tracking.uri, str(before.key)) == before


@pytest.mark.parametrize(
    ("reference", "name", "says"),
    [
        ("models:/no-such-model/1", None, "not found in MLflow"),
        ("models:/no-such-model@champion", None, "not found in MLflow"),
        ("models:/grammar-tutor/Production", None, "A stage or 'latest' does not name one model"),
        ("models:/grammar-tutor/latest", None, "A stage or 'latest' does not name one model"),
        ("models:/grammar-tutor", None, "expected models:/NAME/VERSION"),
        ("models:/grammar-tutor@", None, "expected models:/NAME/VERSION"),
        ("models:/@champion", None, "expected models:/NAME/VERSION"),
        ("models:/grammar-tutor@a@b", None, "expected models:/NAME/VERSION"),
        ("models:/grammar-tutor/99999999999", None, "expected models:/NAME/VERSION"),
        ("models:/grammar-tutor/\u0663", None, "expected models:/NAME/VERSION"),
        ("models:/\udcff/1", None, "expected models:/NAME/VERSION"),
        ("models://profile/x/1", None, "expected models:/NAME/VERSION"),
        ("m-" + "0" * 32, None, r"has no logged model m-0+\. It may have been deleted"),
        ("0" * 32, None, "not found in MLflow"),
        ("m-" + "0" * 32, "student", "already names one model"),
        ("0" * 32 + ":model", "student", "already names one model"),
        ("runs:/" + "0" * 32 + "/model", None, "is not a candidate"),
        ("s3://bucket/model", None, "is not a candidate"),
    ],
)
def test_a_reference_that_names_no_model_is_refused(
    tracking: Tracking, reference: str, name: str | None, says: str
) -> None:
    """Nothing is guessed."""
    with pytest.raises(BadInput, match=says):
        choose_model(tracking.uri, reference, name)


def test_an_artifact_that_is_named_needs_no_list_of_the_others(
    tracking: Tracking, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run may have more artifacts than a bundle."""
    for number in range(4):
        (tmp_path / "many" / str(number)).mkdir(parents=True)
        (tmp_path / "many" / str(number) / "notes").write_text("x")
    run_id = tracking.run({"model": folder, "many": tmp_path / "many"})
    monkeypatch.setattr(domain, "MOST_FOLDERS", 3)
    with pytest.raises(BadInput, match="has more than 3 folders"):
        find_model(tracking.uri, run_id)
    assert find_model(tracking.uri, f"{run_id}:model").location.endswith(
        f"{run_id}/artifacts/model"
    )


def test_a_version_from_elsewhere_is_refused(tracking: Tracking, folder: Path) -> None:
    """Its source is a location outside its run, so nothing says that a run made it."""
    name, run_id = f"tutor-{uuid.uuid4().hex}", tracking.run({"model": folder})
    with connected(tracking.uri) as client:
        client.create_registered_model(name)
        client.create_model_version(name, str(folder))
        client.create_model_version(name, f"{tracking.artifacts(run_id)}/../other/model", run_id)
    for number, says in ((1, "has the source"), (2, "is not a candidate")):
        with pytest.raises(BadInput, match=says):
            choose_model(tracking.uri, f"models:/{name}/{number}")


def test_a_logged_model_of_no_finished_run_is_refused(tracking: Tracking, folder: Path) -> None:
    """It was logged outside a run, its run is deleted, or its upload failed."""
    run_id = tracking.run()
    deleted = log_model_of(tracking, run_id, folder)
    failed = log_model_of(tracking, tracking.run(), folder, "FAILED")
    with connected(tracking.uri) as client:
        client.delete_run(run_id)
        alone = client.create_logged_model(tracking.experiment, name="alone").model_id
        client.finalize_logged_model(alone, "READY")
    for model_id, says in (
        (alone, "has the status READY and the source run none: expected"),
        (deleted, "is DELETED: expected FINISHED"),
        (failed, "has the status FAILED and the source run"),
    ):
        with pytest.raises(BadInput, match=says):
            find_model(tracking.uri, model_id)


@pytest.mark.parametrize(
    "run_id", ["5f3b1c9e-0000-4000-8000-1234567890ab", "calm_door_abc123", "A" * 32]
)
def test_a_run_id_of_another_form_is_found(
    tracking: Tracking, folder: Path, tmp_path: Path, run_id: str
) -> None:
    """Other tracking servers give runs other ids than MLflow's own."""
    old = tracking.run({"model": folder})
    database = sqlite3.connect(tracking.uri.removeprefix("sqlite:///"))
    with database:
        database.execute("DELETE FROM tags WHERE run_uuid = ?", (run_id,))
        database.execute("DELETE FROM runs WHERE run_uuid = ?", (run_id,))
        database.execute("UPDATE runs SET run_uuid = ? WHERE run_uuid = ?", (run_id, old))
        database.execute("UPDATE tags SET run_uuid = ? WHERE run_uuid = ?", (run_id, old))
    database.close()
    model = chosen(tracking, run_id)
    assert (str(model.key), model.run_id) == (run_id, run_id)
    assert str(chosen(tracking, run_id, "model").key) == f"{run_id}:model"
    download(tracking.uri, model.location, tmp_path / "got")
    assert read_bundle(tmp_path / "got") == read_bundle(folder)
