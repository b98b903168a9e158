"""``demo``: the example project, from training to promotion and refusal."""

import contextlib
import importlib
import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click

import lynx_pipeline
from lynx_pipeline.adapters import git
from lynx_pipeline.cli.framework import Command
from lynx_pipeline.config import NoProject, Settings, load_settings
from lynx_pipeline.errors import BadInput, SystemFailed
from lynx_pipeline.registry.authorization import require_dev

EXAMPLE = "examples/grammar_tutor/demo.py"
FOLDER = "grammar-tutor"
# In an installed package. In a clone the example project is the repository itself.
_PACKAGED = Path(lynx_pipeline.__file__).parent / "example"
_TABLES = ("[tool.lynx_pipeline", "[tool.dg")
# Imports what the demo needs after the first training, in the order of use.
LATER = """
import sqlalchemy.orm, alembic.command, lynx_pipeline.definitions, lynx_pipeline.cli.run
from dagster import DagsterInstance
with DagsterInstance.local_temp():
    import scipy.stats
"""
_AUTHOR = ("-c", "user.name=lynx-pipeline", "-c", "user.email=lynx-pipeline@localhost")


@click.command(cls=Command, settings=False, example="lynx-pipeline demo")
def demo() -> int:
    """Run the example project: promote a good model, refuse a regressed one.

    Trains two grammar tutors, evaluates both on the versioned eval set, promotes the good one as
    v0.1.0-dev and refuses the regressed one. Outside a project, the example project is first
    written to the folder grammar-tutor.
    """
    settings = _example()
    _compile_ahead()
    sys.path.insert(0, str(settings.root))
    with contextlib.chdir(settings.root):
        importlib.import_module("examples.grammar_tutor.demo").run(settings)
    return 0


def _compile_ahead() -> None:
    """In a new installation, let a second process compile what is imported later. The demo uses one
    core, and spends a third of its first run on compiling."""
    found = importlib.util.find_spec("dagster")
    if sys.dont_write_bytecode or found is None or found.cached is None:
        return
    if not Path(found.cached).exists():
        quiet = subprocess.DEVNULL
        subprocess.Popen([sys.executable, "-c", LATER], stdin=quiet, stdout=quiet, stderr=quiet)


def _example() -> Settings:
    """The settings of the example project, which is written if there is no project here."""
    try:
        settings = load_settings()
    except NoProject:
        settings = _written(Path(FOLDER).absolute())
    require_dev(settings, "the demo")
    if not (settings.root / EXAMPLE).is_file():
        raise BadInput(
            f"the project {settings.root} has no {EXAMPLE}: the demo trains and promotes the "
            "example project's models. Run it in an empty folder. In your own project, use "
            "'lynx-pipeline run'."
        )
    return settings


def _written(folder: Path) -> Settings:
    """The example project in ``folder``, which is a new git repository unless it exists."""
    if not folder.exists():
        if not _PACKAGED.is_dir():
            raise BadInput(
                f"{Path.cwd()} is not in a project, and this installation of lynx-pipeline uses a "
                "clone's files. Run the demo in that clone."
            )
        write_example(folder)
        print(f"The example project is now in {folder}. Run the commands below there.")
    try:
        return load_settings(folder)
    except NoProject:
        raise BadInput(
            f"{folder} exists, and is not the example project. Run the demo in an empty folder."
        ) from None


def write_example(folder: Path) -> None:
    """Write the example project to ``folder``, as a git repository with one commit.

    Raises:
        SystemFailed: git failed.
    """
    shutil.copytree(_PACKAGED, folder, ignore=shutil.ignore_patterns("__pycache__"))
    settings = folder / "pyproject.toml"
    settings.write_text("".join(_own_tables(settings.read_text())))
    (folder / ".gitignore").write_text("/.lynx/\n__pycache__/\n")
    for command in (
        ("init", "--quiet", "--initial-branch=main"),
        ("add", "--all"),
        (*_AUTHOR, "commit", "--quiet", "--no-gpg-sign", "--message", "The example project"),
    ):
        done = git.run(folder, *command)
        if done.returncode != 0:
            raise SystemFailed(f"{folder}: git {command[0]} failed: {git.stderr_sentence(done)}")


def _own_tables(text: str) -> Iterator[str]:
    """The lines of a ``pyproject.toml`` that a project without code needs."""
    kept = False
    for line in text.splitlines(keepends=True):
        if line.startswith("["):
            kept = line.startswith(_TABLES)
        if kept:
            yield line
