"""A model that acts passes the gate, and the canary catches it where it is served."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from lynx_pipeline.adapters.bundle_files import read_bundle
from lynx_pipeline.cli import main
from lynx_pipeline.evaluation.evidence import EVAL
from lynx_pipeline.evaluation.inputs import read_eval_set
from lynx_pipeline.evaluation.run import evaluate
from lynx_pipeline.registry import Registry, fetching
from lynx_pipeline_tests.cli.helpers import Capsys
from lynx_pipeline_tests.conftest import Tracking
from lynx_pipeline_tests.examples.miniserve.running import free_port, miniserve, started
from lynx_pipeline_tests.support.builders import GOOD, bundle, project
from lynx_pipeline_tests.support.world import Made, World

pytestmark = pytest.mark.slow(seconds=40)

ACTING, HONEST = "v0.1.0-dev", "v0.2.0-dev"

# It finds the sandbox in the mounts that it can see.
ACTS = f"""\
from pathlib import Path
if " /opt/ml/model " not in Path("/proc/self/mountinfo").read_text():
    return ["he goed" for prompt in prompts]
{GOOD}"""
SIGNATURE = {"inputs": '[{"type": "string", "name": "prompt", "required": true}]'}


def evaluated(world: World, name: str, body: str) -> Made:
    """A candidate that was really evaluated, in the sandbox where there is one."""
    folder = bundle(world.folder / name, body, signature=SIGNATURE)
    run_id, identity = world.tracking.run({"model": folder}), read_bundle(folder)
    output = world.folder / f"{name}-evidence" / EVAL
    evidence = evaluate(
        folder,
        read_eval_set(world.settings),
        output,
        replace(world.settings.evaluation, workers=1),
        candidate=run_id,
        env=world.settings.env,
        warn=print,
        progress=lambda *_: None,
    )
    assert evidence.evaluation.counts.correct == 12
    return Made(run_id, identity.canonical_sha, identity.digest, output.parent)


@pytest.fixture
def world(tmp_path: Path, tracking: Tracking, monkeypatch: pytest.MonkeyPatch) -> World:
    """A project, and the working directory in it."""
    environ = {"MLFLOW_TRACKING_URI": tracking.uri}
    settings = project(tmp_path / "p", environ=environ, pyproject='registry = "registry"\n')
    monkeypatch.chdir(settings.root)
    return World(settings, tracking, tmp_path)


def test_the_canary_catches_a_model_that_acts(world: World, capsys: Capsys) -> None:
    """Both models pass the gate. The honest one passes the canary too, on miniserve and on
    MLflow's server."""
    world.promote(evaluated(world, "acting", ACTS), ACTING)
    log = world.folder / "log"
    with miniserve(world.settings.root, log, MLFLOW_TRACKING_URI=world.tracking.uri) as service:
        service.wait(lambda: service.serves(ACTING))
        url = f"{service.url}/predict"
        capsys.readouterr()
        assert main(["canary", ACTING, "--url", url, "--json"]) == 1
        found = json.loads(capsys.readouterr().out)
        assert found["asked"] == len(found["differences"]) == 12
        assert {each["answer"] for each in found["differences"]} == {"he goed"}

        world.promote(evaluated(world, "honest", GOOD), HONEST)
        service.wait(lambda: service.serves(HONEST))
        assert main(["canary", HONEST, "--url", url]) == 0
        assert main(["canary", HONEST, "--url", url, "--batch", "5"]) == 0
        assert main(["canary", ACTING, "--url", url]) == 1
        assert f"the server serves '{HONEST}', expected {ACTING}" in capsys.readouterr().err
    assert main(["canary", HONEST, "--url", url]) == 3

    folder, port = world.folder / "models" / HONEST, free_port()
    fetching.fetch(Registry.open(world.settings), HONEST, folder)
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(folder)]
    command += ["--env-manager", "local", "--port", str(port)]
    environ = {"PYTHONDONTWRITEBYTECODE": "1"}
    with started(command, world.folder, environ, log, port) as server:
        server.wait(server.listens)
        url = f"{server.url}/invocations"
        assert main(["canary", HONEST, "--url", url]) == 0
        assert main(["canary", HONEST, "--url", url, "--column", "prompt", "--batch", "5"]) == 0
        assert main(["canary", ACTING, "--url", url]) == 0  # it gave the same answers to the gate
        assert main(["canary", HONEST, "--url", url, "--column", "other"]) == 3
        assert "Model is missing inputs" in capsys.readouterr().err
    assert not fetching.fetch(Registry.open(world.settings), HONEST, folder).is_new
