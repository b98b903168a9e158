"""``minieval``: a bundle evaluated outside Dagster."""

import json
from pathlib import Path

import pytest

from lynx_pipeline.adapters.mlflow_tracking import connected
from lynx_pipeline.cli import main
from lynx_pipeline.sandbox.inside import worker
from lynx_pipeline_tests.cli.helpers import Capsys, compare, one_paragraph, write_files
from lynx_pipeline_tests.conftest import Tracking
from lynx_pipeline_tests.support.builders import (
    RUN,
    baseline_json,
    bundle,
    eval_items,
    jsonl,
    project,
)
from lynx_pipeline_tests.support.mlflow_runs import log_model_of

WORKER = """
import json, sys
print(json.dumps({"ready": 0.5}), flush=True)
for line in sys.stdin:
    batch = json.loads(line)
    answers = [p.removeprefix("Say ") for p in batch["prompts"]]
    answer = {"ids": batch["ids"], "predictions": answers, "seconds": 0.1, "peak_mib": 1}
    print(json.dumps(answer), flush=True)
"""


def test_minieval_needs_no_project(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capsys
) -> None:
    """A bundle and an eval set are enough, and ``compare-baseline`` reads the result."""
    (folder / "script.py").write_text(WORKER)
    monkeypatch.setattr(worker, "__file__", str(folder / "script.py"))
    bundle(folder / "bundle")
    Path("e.jsonl").write_bytes(jsonl(eval_items()))
    command = ["minieval", "--bundle", "bundle", "--eval-set", "e.jsonl", "--output", "o/c.json"]
    assert main(command) == 0
    assert "12 of 12 right" in capsys.readouterr().out
    measured = json.loads(Path("o/c.json").read_bytes())
    kept = {key: measured[key] for key in ("eval_set_dvc_hash", "eval_set_sha256", "buckets")}
    write_files(baseline_json(**kept), measured)
    assert compare() == 0
    assert {path.name for path in Path("o").iterdir()} == {
        "bundle_manifest.json",
        "c.json",
        "predictions.parquet",
        "timings.parquet",
    }


@pytest.fixture
def in_mlflow(
    folder: Path, tracking: Tracking, monkeypatch: pytest.MonkeyPatch
) -> dict[str, tuple[str, str]]:
    """A project, and two runs with a model; the working directory is in the project. The names of
    the models in every form that a user may give, each with the candidate's key."""
    (folder / "script.py").write_text(WORKER)
    monkeypatch.setattr(worker, "__file__", str(folder / "script.py"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking.uri)
    model = bundle(folder / "bundle")
    artifact = tracking.run({"model": model})
    run_id = tracking.run()
    model_id = log_model_of(tracking, run_id, model)
    with connected(tracking.uri) as client:
        client.create_registered_model("chosen")
        client.create_model_version("chosen", f"models:/{model_id}", model_id=model_id)
        client.set_registered_model_alias("chosen", "champion", "1")
    project(folder / "p")
    monkeypatch.chdir(folder / "p")
    return {
        "a run id": (artifact, artifact),
        "a run id and a path": (f"{artifact}:model", f"{artifact}:model"),
        "a logged model's id": (model_id, model_id),
        "a registered version": ("models:/chosen/1", model_id),
        "an alias": ("models:/chosen@champion", model_id),
    }


@pytest.mark.slow(seconds=15)
def test_a_model_in_mlflow_is_evaluated_by_any_of_its_names(
    in_mlflow: dict[str, tuple[str, str]], capsys: Capsys
) -> None:
    """On the project's eval set, which is the default. The evaluation records the candidate's key,
    and no download is left behind."""
    command = ["minieval", "--output", "o/c.json", "--json"]
    for reference, key in in_mlflow.values():
        assert main([*command, "--run-id", reference]) == 0
        measured = json.loads(capsys.readouterr().out)
        assert (measured["candidate"], measured["correct"]) == (key, 12)
        assert measured == json.loads(Path("o/c.json").read_bytes())
    assert list(Path(".lynx").rglob("MLmodel")) == []
    assert main([*command, "--run-id", "models:/chosen@challenger"]) != 0
    assert "challenger" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param([], "either --bundle or --run-id", id="neither"),
        pytest.param(["--bundle", "b", "--run-id", RUN], "either --bundle or --run-id", id="both"),
        pytest.param(["--bundle", "b", "--model", "m"], "needs --run-id", id="model of a folder"),
        pytest.param(["--run-id", RUN], "no project here", id="no project"),
    ],
)
def test_exactly_one_bundle_is_named(capsys: Capsys, options: list[str], message: str) -> None:
    """MLflow is configured by the project, so a name in it needs one."""
    Path("e.jsonl").write_bytes(jsonl(eval_items()))
    assert main(["minieval", *options, "--eval-set", "e.jsonl", "--output", "o/c.json"]) == 2
    assert message in one_paragraph(capsys)
    assert not Path("o").exists()


def test_the_default_eval_set_is_the_versioned_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capsys
) -> None:
    """From a subfolder, too. An edited file has to be named to be used."""
    (folder / "script.py").write_text(WORKER)
    monkeypatch.setattr(worker, "__file__", str(folder / "script.py"))
    bundle(folder / "bundle")
    project(folder / "p")
    (folder / "p/data/sub").mkdir()
    monkeypatch.chdir(folder / "p/data/sub")
    command = ["minieval", "--bundle", "../../../bundle", "--output", "c.json"]
    assert main(command) == 0
    assert "12 of 12 right" in capsys.readouterr().out
    edited = Path("../eval.jsonl")
    edited.chmod(0o644)
    edited.write_bytes(jsonl(eval_items(6)))
    assert main(command) == 2
    assert "the file was changed" in one_paragraph(capsys)
    assert main([*command, "--eval-set", str(edited)]) == 0
    assert "6 of 6 right" in capsys.readouterr().out


def test_without_a_project_an_eval_set_has_to_be_named(folder: Path, capsys: Capsys) -> None:
    """There is no other default."""
    bundle(folder / "bundle")
    assert main(["minieval", "--bundle", "bundle", "--output", "o/c.json"]) == 2
    assert "Give --eval-set, or run this inside the project." in one_paragraph(capsys)
    assert not Path("o").exists()


@pytest.mark.parametrize("name", ["models:/tutor/1", f"runs:/{RUN}/model", RUN, f"m-{RUN}"])
def test_a_model_in_mlflow_is_no_bundle(capsys: Capsys, name: str) -> None:
    """The message names the option for it."""
    assert main(["minieval", "--bundle", name, "--output", "o/c.json"]) == 2
    assert f"{name!r} names a model in MLflow. Give it as --run-id." in one_paragraph(capsys)


@pytest.mark.parametrize(
    ("bundle_name", "eval_text", "message"),
    [
        pytest.param("none", jsonl(eval_items()), "no bundle", id="no bundle"),
        pytest.param("empty", jsonl(eval_items()), "no MLmodel", id="no model"),
        pytest.param("bundle", b"", "no items", id="empty eval set"),
        pytest.param("bundle", b"{}", "line 1", id="not an eval set"),
        pytest.param("bundle", None, "e.jsonl", id="missing eval set"),
    ],
)
def test_an_unusable_bundle_or_eval_set_is_bad_input(
    folder: Path, capsys: Capsys, bundle_name: str, eval_text: bytes | None, message: str
) -> None:
    """No output is written."""
    bundle(folder / "bundle")
    (folder / "empty").mkdir()
    if eval_text is not None:
        Path("e.jsonl").write_bytes(eval_text)
    command = ["minieval", "--bundle", bundle_name, "--eval-set", "e.jsonl", "--output", "o/c.json"]
    assert main(command) == 2
    assert message in one_paragraph(capsys)
    assert not Path("o").exists()
