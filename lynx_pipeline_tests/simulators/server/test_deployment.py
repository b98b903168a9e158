"""The scenarios of a team's server, and its systemd units."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lynx_pipeline_tests.simulators.server.scenarios import ALL
from lynx_pipeline_tests.simulators.server.team import DEPLOY, UNITS, team_server

pytestmark = pytest.mark.slow(seconds=280)


def test_a_teams_server_recovers_from_faults(tmp_path: Path) -> None:
    """All scenarios are one test, since each continues where the one before ended."""
    with team_server(tmp_path / "team") as team:
        for scenario in ALL:
            for observation in scenario(team):
                print(observation)


def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    """systemd knows every setting and finds every program in a clone."""
    shutil.copytree(DEPLOY / "systemd", tmp_path / "units")
    units = [it for it in (tmp_path / "units").iterdir() if it.is_file()]
    assert {it.stem.removeprefix("lynx-") for it in units} == {*UNITS, "backup", "lynx"}
    clone = tmp_path / "clone"
    clone.mkdir()
    (clone / "deploy").symlink_to(DEPLOY)
    (clone / ".venv").symlink_to(sys.prefix)
    for unit in units:
        unit.write_text(unit.read_text().replace("/srv/lynx", str(clone)))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units],
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path / 'units'}:"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
