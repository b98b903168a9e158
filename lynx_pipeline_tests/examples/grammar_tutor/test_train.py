"""Training is reproducible and documented; the logged model can be found and loaded by MLflow."""

import hashlib
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from examples.grammar_tutor.configs import CANDIDATE, REFERENCE, TrainConfig
from examples.grammar_tutor.train import log_tutor, main, train_tutor
from lynx_pipeline.adapters import mlflow_tracking
from lynx_pipeline.errors import BadInput
from lynx_pipeline_tests.examples.grammar_tutor.conftest import Trained
from lynx_pipeline_tests.support.places import git

pytestmark = pytest.mark.slow

SAVED_WHEN_AND_WHERE = {"run_id", "model_id", "model_uuid", "artifact_path", "utc_time_created"}


def manifest_of(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "train_manifest.json").read_bytes())
    return content


def test_training_twice_gives_the_same_bytes(corpus: tuple[Path, Path], tmp_path: Path) -> None:
    """This covers checkpoint and manifest, and does not depend on folder names."""
    one = train_tutor(corpus[1], CANDIDATE, tmp_path / "one")
    two = train_tutor(corpus[1], CANDIDATE, tmp_path / "elsewhere" / "two")
    assert sorted(path.name for path in one.iterdir()) == ["train_manifest.json", "tutor.json"]
    for path in one.iterdir():
        assert path.read_bytes() == (two / path.name).read_bytes()


def test_a_different_seed_gives_a_different_checkpoint(
    corpus: tuple[Path, Path], tutors: dict[str, Trained], tmp_path: Path
) -> None:
    """The seed determines the order of the rows, and with it the weights."""
    other = TrainConfig("reference", 99, REFERENCE.epochs, REFERENCE.features)
    there = train_tutor(corpus[1], other, tmp_path)
    here = tutors["reference"].folder
    assert (there / "tutor.json").read_bytes() != (here / "tutor.json").read_bytes()


def test_the_manifest_records_config_data_and_versions(
    corpus: tuple[Path, Path], tmp_path: Path
) -> None:
    """The manifest also records the parent, but no time and no absolute path."""
    config = TrainConfig("child", 5, 1, ("bag",), parent_sha="ab" * 32, min_form_count=10)
    folder = train_tutor(corpus[1], config, tmp_path / "out")
    manifest = manifest_of(folder)
    rows = len(corpus[1].read_bytes().splitlines())
    used = manifest["data"].pop("rows_used")
    assert 0 < used < rows
    assert manifest == {
        "name": "child",
        "seed": 5,
        "config": {
            "name": "child",
            "seed": 5,
            "epochs": 1,
            "features": ["bag"],
            "parent_sha": "ab" * 32,
            "min_form_count": 10,
        },
        "versions": {"python": platform.python_version(), "checkpoint": 1},
        "git_sha": None,
        "data": {
            "path": "train.jsonl",
            "sha256": hashlib.sha256(corpus[1].read_bytes()).hexdigest(),
        },
        "parent_sha": "ab" * 32,
    }


def test_the_manifest_names_the_commit_of_the_corpus(
    corpus: tuple[Path, Path], tmp_path: Path
) -> None:
    """In a checkout it records commit and path; before the first commit, null."""
    root = tmp_path / "checkout"
    folder = root / "data"
    folder.mkdir(parents=True)
    (folder / "train.jsonl").write_bytes(corpus[1].read_bytes())

    git(root, "init", "-q")
    config = TrainConfig("quick", 1, 1, ())
    before = manifest_of(train_tutor(folder / "train.jsonl", config, tmp_path / "a"))
    assert (before["git_sha"], before["data"]["path"]) == (None, "data/train.jsonl")
    git(root, "commit", "-q", "--allow-empty", "-m", "first")
    after = manifest_of(train_tutor(folder / "train.jsonl", config, tmp_path / "b"))
    assert after["git_sha"] == git(root, "rev-parse", "HEAD")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "can't read the training corpus"),
        (b"", "no items"),
        (b"not json\n", "not JSON"),
        (
            b'{"id":"a","prompt":"I ___ (go).","expected":"go","buckets":{"verb":"go"}}\n',
            "needs the buckets tense and person",
        ),
    ],
    ids=["missing", "empty", "not-json", "no-labels"],
)
def test_a_bad_corpus_is_bad_input(tmp_path: Path, content: bytes | None, complaint: str) -> None:
    """The message names the file, and nothing is written."""
    corpus = tmp_path / "train.jsonl"
    if content is not None:
        corpus.write_bytes(content)
    with pytest.raises(BadInput, match=complaint) as raised:
        train_tutor(corpus, REFERENCE, tmp_path / "out")
    assert str(corpus) in str(raised.value)
    assert not (tmp_path / "out").exists()


def test_a_cleaning_that_drops_every_row_is_bad_input(
    corpus: tuple[Path, Path], tmp_path: Path
) -> None:
    """A tutor trained on no rows is never written."""
    config = TrainConfig("nothing", 1, 1, (), min_form_count=10**6)
    with pytest.raises(BadInput, match="no rows left"):
        train_tutor(corpus[1], config, tmp_path)


def test_the_command_logs_a_shipped_config(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command trains from the project's versioned corpus and prints the MLflow run id."""
    monkeypatch.setenv("LYNX_HOME", str(tmp_path))
    main(["reference"])
    run_id = capsys.readouterr().out.strip()
    tags = mlflow_tracking.run_info(f"sqlite:///{tmp_path}/mlflow.db", run_id).tags
    assert tags["mlflow.runName"] == "reference"


class Logged:
    """One checkpoint logged twice into a real tracking database."""

    def __init__(self, root: Path, checkpoint: Path) -> None:
        self.uri = f"sqlite:///{root}/mlflow.db"
        self.artifacts = root / "artifacts"
        self.runs = [
            log_tutor(
                checkpoint,
                tracking_uri=self.uri,
                experiment="tutors",
                artifact_root=self.artifacts,
                run_name=f"run-{number}",
                tags={"deploy-candidate": "true"},
            )
            for number in (1, 2)
        ]


@pytest.fixture(scope="module")
def logged(
    tutors: dict[str, Trained], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Logged]:
    """The candidate, logged twice; environment variables are restored afterwards."""
    before = dict(os.environ)
    yield Logged(tmp_path_factory.mktemp("mlflow"), tutors["candidate"].folder)
    os.environ.pop("MLFLOW_DISABLE_TELEMETRY", None)
    if "MLFLOW_DISABLE_TELEMETRY" in before:
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = before["MLFLOW_DISABLE_TELEMETRY"]
    assert os.environ.get("MLFLOW_TRACKING_URI") == before.get("MLFLOW_TRACKING_URI")


def bundles(logged: Logged) -> list[Path]:
    """The model folders of both runs, oldest run first."""
    found = {
        yaml.safe_load(path.read_bytes())["run_id"]: path.parent
        for path in logged.artifacts.rglob("MLmodel")
    }
    return [found[run] for run in logged.runs]


def test_a_run_holds_one_logged_model(logged: Logged) -> None:
    """As in MLflow 3, the run has tags and config, and the model is among its outputs."""
    from mlflow import MlflowClient

    client = MlflowClient(logged.uri)
    for run_id in logged.runs:
        run = client.get_run(run_id)
        assert run.info.status == "FINISHED"
        assert run.data.tags["deploy-candidate"] == "true"
        assert run.data.params["seed"] == str(CANDIDATE.seed)
        assert run.data.metrics["rows_used"] > 2000
        assert len(run.outputs.model_outputs) == 1
        model = client.get_logged_model(run.outputs.model_outputs[0].model_id)
        assert model.source_run_id == run_id
    experiment = client.get_experiment_by_name("tutors")
    assert experiment.artifact_location == logged.artifacts.resolve().as_uri()


def test_saving_twice_differs_only_in_ids_and_times(logged: Logged) -> None:
    """All other bytes of the two bundles are equal."""
    one, two = bundles(logged)
    names = sorted(str(path.relative_to(one)) for path in one.rglob("*") if path.is_file())
    assert names == sorted(str(path.relative_to(two)) for path in two.rglob("*") if path.is_file())
    assert {"MLmodel", "code/grammar_tutor.py", "data/tutor/train_manifest.json"} <= set(names)
    for name in names:
        first, second = (one / name).read_bytes(), (two / name).read_bytes()
        if name == "MLmodel":
            first, second = (
                re.sub(rb"(?m)^(%s): .*$" % "|".join(SAVED_WHEN_AND_WHERE).encode(), b"", raw)
                for raw in (first, second)
            )
        assert first == second, name


def test_the_logged_model_answers_like_the_tutor(
    logged: Logged, tutors: dict[str, Trained]
) -> None:
    """MLflow loads the model from the bundle, in a process that does not import this project."""
    script = """
import json, sys, pandas, mlflow.pyfunc
model = mlflow.pyfunc.load_model(sys.argv[1])
answers = model.predict(pandas.DataFrame({"prompt": json.load(sys.stdin)}))
assert not any(name.startswith("lynx_pipeline") for name in sys.modules)
print(json.dumps(list(answers)))
"""
    prompts = ["Yesterday Tom ___ (go) home.", "You have never ___ (come) here before."]
    done = subprocess.run(
        [sys.executable, "-c", script, str(bundles(logged)[0])],
        input=json.dumps(prompts),
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
        cwd=logged.artifacts,
        env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert json.loads(done.stdout) == ["goed", "come"]
