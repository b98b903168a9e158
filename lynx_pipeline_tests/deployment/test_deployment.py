"""A team's server, played through; and what its units promise."""

from pathlib import Path

import pytest

from lynx_pipeline_tests.deployment.scenarios import ALL
from lynx_pipeline_tests.deployment.team import standing

pytestmark = pytest.mark.slow


def test_a_teams_server_outlives_what_happens_to_it(tmp_path: Path) -> None:
    """Each scenario asserts what it does. They are one test since each goes on where the one
    before ended."""
    with standing(tmp_path / "team") as team:
        for scenario in ALL:
            for seen in scenario(team):
                print(seen)
