"""The wheel is enough: what is in it, and the demo from it alone, in an empty folder."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from lynx_pipeline_tests.conftest import OURS
from lynx_pipeline_tests.simulators.actions.stage import copy_of_ours
from lynx_pipeline_tests.support import REPO
from lynx_pipeline_tests.support.package_index import index
from lynx_pipeline_tests.support.places import GIT_ENV, git
from lynx_pipeline_tests.support.wheels import our_wheel

pytestmark = pytest.mark.slow

PACKAGED = ("lynx_pipeline/example/", "lynx_pipeline/repository/")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This project's wheel."""
    return our_wheel(tmp_path_factory.mktemp("wheel"))


def test_the_wheel_has_the_package_the_example_project_and_the_workflows(wheel: Path) -> None:
    """Byte for byte what git tracks, all of package and example, and nothing else."""
    subprocess.run([sys.executable, "-m", "twine", "check", "--strict", wheel], check=True)
    tracked = git(REPO, "ls-files").splitlines()
    with zipfile.ZipFile(wheel) as file:
        info = {name for name in file.namelist() if ".dist-info/" in name}
        ours = {name for name in file.namelist() if name.startswith("lynx_pipeline/")}
        example, workflows = ({it for it in ours if it.startswith(part)} for part in PACKAGED)
        assert info | ours == {*file.namelist()}
        own = {it for it in tracked if it.startswith("lynx_pipeline/")}
        assert ours - example - workflows == own
        for name in ours:
            original = name
            for part in PACKAGED:
                original = original.removeprefix(part)
            assert file.read(name) == (REPO / original).read_bytes(), name
    names = {name.removeprefix(PACKAGED[0]) for name in example}
    assert names <= {*tracked}
    for folder in ("data/", "examples/grammar_tutor/"):
        assert {it for it in names if it.startswith(folder)} == {
            it for it in tracked if it.startswith(folder)
        }


def test_a_clone_with_another_example_can_be_installed(tmp_path: Path) -> None:
    """Its workflow installs the clone: what has been removed from the example is left out."""
    clone = tmp_path / "clone"
    copy_of_ours(clone)
    (clone / "eval_baseline.json").unlink()
    shutil.rmtree(clone / "data")
    with zipfile.ZipFile(our_wheel(tmp_path, clone)) as file:
        names = {*file.namelist()}
    assert {"lynx_pipeline/cli/main.py", "lynx_pipeline/example/dagster.yaml"} <= names
    assert not any("eval_baseline.json" in it or "/data/" in it for it in names)


@pytest.mark.slow(seconds=60)
def test_the_demo_runs_in_an_empty_folder_from_the_wheel_alone(wheel: Path, tmp_path: Path) -> None:
    """Installed without a network from what was downloaded before. Its project is a git repository
    in which the other commands work, and running it again uses the same one."""
    venv, empty = tmp_path / "venv", tmp_path / "empty"
    empty.mkdir()
    install = ["uv", "pip", "install", "--quiet", "--offline", "--python", str(venv)]
    inherited = {k: v for k, v in os.environ.items() if not k.startswith((*OURS, "VIRTUAL_ENV"))}
    environ = {**inherited, **index(), **GIT_ENV, "PYTHONPATH": "", "PATH": os.defpath}
    for command in (
        ["uv", "venv", "--quiet", "--offline", "--python", sys.executable, str(venv)],
        [*install, "--require-hashes", "-r", str(REPO / "requirements.lock")],
        [*install, "--no-deps", "--no-index", str(wheel)],
    ):
        subprocess.run(command, check=True, env={**environ, "PATH": os.environ["PATH"]})

    def lynx(folder: Path, *arguments: str) -> str:
        done = subprocess.run(
            [venv / "bin/lynx-pipeline", *arguments],
            cwd=folder,
            env=environ,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    project = empty / "grammar-tutor"
    output = lynx(empty, "demo")
    assert output.startswith(f"The example project is now in {project}. ")
    assert "Promoted as v0.1.0-dev." in output
    assert "v0.1.1-dev was refused. The registry is unchanged." in output
    assert "./dev" not in output
    assert {it.name for it in empty.iterdir()} == {project.name}
    assert git(project, "status", "--porcelain") == ""
    assert "v0.1.0-dev" in lynx(project, "registry", "list")
    assert "PASSED" in lynx(project / "data", "audit", "v0.1.0-dev")


def test_a_folder_in_the_way_is_not_touched(tmp_path: Path, wheel: Path) -> None:
    """The package is imported from the unpacked wheel."""
    with zipfile.ZipFile(wheel) as file:
        file.extractall(tmp_path / "packages")
    (tmp_path / "here/grammar-tutor").mkdir(parents=True)
    done = subprocess.run(
        [sys.executable, "-m", "lynx_pipeline", "demo"],
        cwd=tmp_path / "here",
        env={**os.environ, "PYTHONPATH": str(tmp_path / "packages")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "grammar-tutor exists, and is not the example project." in done.stderr
    assert not [*(tmp_path / "here/grammar-tutor").iterdir()]
