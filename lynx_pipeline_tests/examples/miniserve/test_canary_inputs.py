"""A model with several inputs and output columns, from its evaluation to the canary on two
servers."""

import sys
from functools import partial
from pathlib import Path
from typing import Any

import pandas
import pytest
import requests

from lynx_pipeline.adapters.bundle_files import read_bundle
from lynx_pipeline.cli import main
from lynx_pipeline.domain.scorers import NUMERIC
from lynx_pipeline.evaluation.evidence import EVAL
from lynx_pipeline.evaluation.inputs import read_eval_set
from lynx_pipeline.evaluation.run import evaluate
from lynx_pipeline.registry import Registry, fetching
from lynx_pipeline_tests.cli.helpers import Capsys
from lynx_pipeline_tests.conftest import Tracking
from lynx_pipeline_tests.examples.miniserve.running import free_port, miniserve, started
from lynx_pipeline_tests.sandbox.inside.test_worker import no_warnings, saved
from lynx_pipeline_tests.support.builders import baseline_of, eval_items, project
from lynx_pipeline_tests.support.world import Made, World

with no_warnings():
    from mlflow.models import infer_signature

pytestmark = pytest.mark.slow(seconds=60)

V = "v0.1.0-dev"
# A tenth of the length of both texts, in single precision, beside a label.
BODY = "n = model_input['question'].str.len() + model_input['context'].str.len(); "
BODY += "return pandas.DataFrame({'label': 'a', 'score': (n / 10).astype('float32')})"
SETTINGS = """registry = "registry"
scorer = "numeric/1"
evaluation.answer_column = "score"
evaluation.workers = 1
"""


def items() -> list[dict[str, object]]:
    """Twelve items with inputs; their expected answers are tenths."""
    made = []
    for number, item in enumerate(eval_items(12)):
        inputs = {"question": item.pop("prompt"), "context": "x" * number}
        length = sum(map(len, inputs.values()))
        made.append({**item, "inputs": inputs, "expected": f"{length / 10:.2f}"})
    return made


def evaluated(world: World) -> Made:
    """A candidate that was really evaluated, in the sandbox where there is one."""
    signature = infer_signature(pandas.DataFrame({"question": ["a"], "context": ["b"]}))
    folder = saved(world.folder / "model", BODY, signature)
    run_id, identity = world.tracking.run({"model": folder}), read_bundle(folder)
    output = world.folder / "evidence" / EVAL
    evidence = evaluate(
        folder,
        read_eval_set(world.settings),
        output,
        world.settings.evaluation,
        candidate=run_id,
        env=world.settings.env,
        warn=print,
        progress=lambda *_: None,
    )
    assert evidence.evaluation.counts.correct == 12
    assert evidence.evaluation.answer_column == "score"
    return Made(run_id, identity.canonical_sha, identity.digest, output.parent)


@pytest.fixture
def world(tmp_path: Path, tracking: Tracking, monkeypatch: pytest.MonkeyPatch) -> World:
    """A project, and the working directory in it."""
    settings = project(
        tmp_path / "p",
        items(),
        lambda parsed: baseline_of(parsed, scorer=NUMERIC.name),
        environ={"MLFLOW_TRACKING_URI": tracking.uri},
        pyproject=SETTINGS,
    )
    monkeypatch.chdir(settings.root)
    return World(settings, tracking, tmp_path)


def test_the_canary_asks_with_inputs_and_compares_numbers(world: World, capsys: Capsys) -> None:
    """miniserve answers with text as recorded, MLflow's server with both columns as JSON, where
    numbers of single precision look different."""
    made = evaluated(world)
    world.promote(made, V)
    log = world.folder / "log"
    with miniserve(world.settings.root, log, MLFLOW_TRACKING_URI=world.tracking.uri) as service:
        service.wait(lambda: service.serves(V))
        assert main(["canary", V, "--url", f"{service.url}/predict"]) == 0
        assert main(["canary", V, "--url", f"{service.url}/predict", "--batch", "5"]) == 0
        inputs: Any = [{"question": "a", "context": ""}, {"context": "b", "question": ""}]
        asked = partial(requests.post, f"{service.url}/predict", timeout=60)
        assert asked(json={"inputs": inputs}).json() == {"version": V, "answers": ["0.1", "0.1"]}
        for body in ({}, {"prompts": ["a"], "inputs": inputs}, {"inputs": [*inputs, {"q": "a"}]}):
            assert asked(json=body).status_code == 422
        without = asked(json={"prompts": ["a"]})
        assert (without.status_code, "needs 2 inputs" in without.text) == (500, True)

    folder, port = world.folder / "models" / V, free_port()
    fetching.fetch(Registry.open(world.settings), V, folder)
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(folder)]
    command += ["--env-manager", "local", "--port", str(port)]
    with started(command, world.folder, {"PYTHONDONTWRITEBYTECODE": "1"}, log, port) as server:
        server.wait(server.listens)
        url = f"{server.url}/invocations"
        capsys.readouterr()
        assert main(["canary", V, "--url", url, "--batch", "5"]) == 0
        assert main(["canary", V, "--url", url, "--column", "prompt"]) == 2
        assert "the eval set's items have the inputs question, context" in capsys.readouterr().err
