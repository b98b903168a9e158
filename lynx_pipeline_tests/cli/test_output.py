"""Printed commands work where they are read."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lynx_pipeline.cli.output import command_line
from lynx_pipeline.config import Settings

SHOW = ["sh", "-c", 'pwd; echo "$LYNX_HOME|$LYNX_REGISTRY|$MLFLOW_TRACKING_URI"']


def pasted(line: str) -> list[str]:
    """What the line prints in a shell in the working directory."""
    return subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, check=True
    ).stdout.splitlines()


def test_a_command_moves_to_the_root_from_a_subfolder(
    promoted: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the root it is shown as it is."""
    assert command_line(promoted, ["dagster", "x y"]).endswith("dagster 'x y'")
    assert pasted(command_line(promoted, SHOW))[0] == str(promoted.root)
    below = promoted.root / "a b" / "c"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert command_line(promoted, ["./dev", "run"]) == f"cd {promoted.root} && ./dev run"
    assert pasted(command_line(promoted, SHOW))[0] == str(promoted.root)


@pytest.mark.parametrize("uri", ["sqlite:///m.db", "mlruns"])
def test_relative_variables_still_name_the_same_places(
    promoted: Settings, monkeypatch: pytest.MonkeyPatch, uri: str
) -> None:
    """They are relative to the folder that the command leaves."""
    below = promoted.root / "data"
    monkeypatch.chdir(below)
    for name, value in (("HOME", "h"), ("REGISTRY", "../r")):
        monkeypatch.setenv(f"LYNX_{name}", value)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    root, variables = pasted(command_line(promoted, SHOW))
    home, registry, tracking = variables.split("|")
    assert (root, home) == (str(promoted.root), str(below / "h"))
    assert os.path.normpath(registry) == str(promoted.root / "r")
    assert tracking == uri.replace("m.db", f"{below}/m.db").replace("mlruns", f"{below}/mlruns")


@pytest.mark.parametrize("uri", ["sqlite:////a/m.db", "/a/mlruns", "http://u:secret@h:5000"])
def test_other_variables_are_not_shown(
    promoted: Settings, monkeypatch: pytest.MonkeyPatch, uri: str
) -> None:
    """Their values are valid everywhere, and may contain a password."""
    monkeypatch.chdir(promoted.root / "data")
    monkeypatch.setenv("LYNX_REGISTRY", "git+file:///r#b")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert command_line(promoted, ["true"]) == f"cd {promoted.root} && true"


def test_a_program_of_this_environment_is_found_by_any_shell(
    promoted: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reader's shell may not have the environment's programs in its PATH."""
    dagster = Path(sys.executable).with_name("dagster")
    monkeypatch.setenv("PATH", os.defpath)
    assert command_line(promoted, ["dagster", "dev"]) == f"{dagster} dev"
    monkeypatch.chdir(promoted.root / "data")
    assert command_line(promoted, ["dagster", "dev"]) == f"cd {promoted.root} && {dagster} dev"
