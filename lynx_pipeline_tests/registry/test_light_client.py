"""The light client: the package without its extras, in an environment of its own. It resolves,
fetches and verifies what the full installation promoted, from a real MLflow server."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lynx_pipeline.errors import GATE_MODULES
from lynx_pipeline_tests.conftest import Tracking
from lynx_pipeline_tests.support import REPO
from lynx_pipeline_tests.support.builders import project
from lynx_pipeline_tests.support.fetching import V
from lynx_pipeline_tests.support.package_index import index
from lynx_pipeline_tests.support.places import OnGit
from lynx_pipeline_tests.support.wheels import our_wheel
from lynx_pipeline_tests.support.world import World

LOCK = REPO / "requirements-light.lock"
MIB = 1 << 20
LARGEST = 30 * MIB  # with bytecode, as pip installs it
INSTALLED = {"click", "filelock", "lynx-pipeline", "pyyaml", "rfc8785"}
SIGNATURES = {"cffi", "cryptography", "pycparser"}  # what checking signatures needs
API = """
import sys
from pathlib import Path
from lynx_pipeline import Registry, fetch, resolve, verify
print(*sys.modules)
version = resolve().semver
print(version, len(verify().entries), Registry.open().resolve(version).semver)
print(fetch(version, Path("models") / version).is_new)
print(*sys.modules)
"""


@pytest.fixture(scope="module")
def light(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel and its locked requirements."""
    folder = tmp_path_factory.mktemp("light")
    wheel = our_wheel(folder)
    venv, environ = folder / "venv", {**os.environ, **index()}
    install = ["uv", "pip", "install", "--quiet", "--compile-bytecode", "--python", str(venv)]
    for command in (
        ["uv", "venv", "--quiet", "--python", sys.executable, str(venv)],
        [*install, "--require-hashes", "-r", str(LOCK)],
        [*install, "--no-deps", "--no-index", str(wheel)],
    ):
        subprocess.run(command, check=True, env=environ)
    return venv


def size(light: Path) -> int:
    """Bytes of all installed packages."""
    (site,) = light.glob("lib/python3*/site-packages")
    return sum(it.stat().st_size for it in site.rglob("*") if it.is_file())


def packages(light: Path) -> set[str]:
    """The names of all installed packages."""
    listed = ["uv", "pip", "list", "--python", str(light), "--format", "json"]
    return {it["name"] for it in json.loads(subprocess.check_output(listed))}


@pytest.mark.slow(seconds=40)
@pytest.mark.parametrize("kind", ["folder", "git"])
def test_the_light_client_resolves_fetches_and_verifies(
    light: Path, server: tuple[Tracking, Path], tmp_path: Path, kind: str
) -> None:
    """From a registry of each kind. The server's folder has a file with three lines. What is
    missing is said in one paragraph."""
    tracking, _ = server
    on_git = OnGit.new(tmp_path / "registry.git", partial=True)
    registry = on_git.setting if kind == "git" else str(tmp_path / "registry")
    settings = project(
        tmp_path / "p",
        environ={"MLFLOW_TRACKING_URI": tracking.uri},
        pyproject=f'registry = "{registry}"\nbundle_store = "store"\n',
    )
    world = World(settings, tracking, tmp_path)
    good = world.candidate(f"light-{kind}")
    world.promote(good, V)

    here = tmp_path / "server"
    here.mkdir()
    (here / "pyproject.toml").write_text(
        f'[tool.lynx_pipeline]\nmodel = "tiny"\nregistry = "{registry}"\n'
    )

    def run(*command: str, uri: str = tracking.uri) -> subprocess.CompletedProcess[str]:
        environ = {**os.environ, "MLFLOW_TRACKING_URI": uri, "COLUMNS": "80"}
        program = str(light / "bin" / command[0])
        return subprocess.run(
            [program, *command[1:]],
            cwd=here,
            env=environ,
            capture_output=True,
            text=True,
            check=False,
        )

    def cli(*arguments: str) -> str:
        done = run("lynx-pipeline", *arguments)
        assert (done.returncode, done.stderr) == (0, ""), done
        return done.stdout

    assert json.loads(cli("registry", "resolve", "--json"))["bundle_digest"] == good.digest
    assert "is now in" in cli("registry", "fetch", "--to", "fetched")
    assert "was already in" in cli("registry", "fetch", "--to", "fetched")
    assert "The ledger is consistent: 1 entry, " in cli("registry", "verify")
    assert "can be fetched" in cli("registry", "doctor")
    assert V in cli("registry", "list")

    fetch = ["lynx-pipeline", "registry", "fetch", "--to", "stored"]
    elsewhere = "sqlite:////nowhere/mlflow.db"
    for store, code, message in (
        (None, 2, "Install it (pip install mlflow), or set 'bundle_store' in"),
        (
            "s3://bucket/bundles",
            2,
            "can't be fetched: the bundle store s3://bucket/bundles is",
        ),
        (settings.bundle_store, 0, ""),
    ):
        table = f'[tool.lynx_pipeline]\nmodel = "tiny"\nregistry = "{registry}"\n'
        more = f'bundle_store = "{store}"\n' if store else ""
        (here / "pyproject.toml").write_text(table + more)
        done = run(*fetch, uri=elsewhere)
        assert (done.returncode, done.stderr.count("\n")) == (code, min(code, 1)), done
        assert message in done.stderr

    done = run("python", "-c", API)
    assert done.returncode == 0, done.stderr
    imported, versions, is_new, used = done.stdout.splitlines()
    assert (versions, is_new) == (f"{V} 1 {V}", "True")
    names = {it.partition(".")[0] for it in used.split()}
    assert not GATE_MODULES & names
    assert not {"yaml", "ssl", "http", "tomllib"} & {*imported.split()}

    run_id = "0123456789abcdef" * 2
    candidate, baseline = str(good.evidence / "candidate_eval.json"), str(settings.baseline)
    for program, *command in (
        ["lynx-pipeline", "request", "--run-id", run_id, "--semver", "v0.2.0-dev"],
        ["lynx-pipeline", "registry", "register", run_id],
        ["python", "-m", "lynx_pipeline", "ci", "request"],
        ["lynx-pipeline", "compare-baseline", "--candidate", candidate, "--baseline", baseline],
    ):
        done = run(program, *command)
        assert done.returncode == 2, done
        assert "Traceback" not in done.stderr
        assert "Install the extra 'gate'" in done.stderr.splitlines()[-1], done
    done = run("lynx-pipeline", "registry", "rollback", V)  # it is the latest version already
    assert done.returncode == 0
    assert "not all that mirrors it: this needs the Python package 'mlflow'" in done.stderr
    assert "ModuleNotFoundError" in run("python", "-c", "import lynx_pipeline.definitions").stderr


@pytest.mark.slow
def test_the_light_client_stays_small(light: Path) -> None:
    """As pip installs it, with the library that verifies signatures."""
    assert packages(light) == INSTALLED | SIGNATURES
    assert size(light) < LARGEST
