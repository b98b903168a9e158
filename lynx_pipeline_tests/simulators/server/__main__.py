"""``python -m lynx_pipeline_tests.simulators.server`` runs the scenarios of a team's server."""

import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.text import Text

from lynx_pipeline_tests.simulators.server.scenarios import ALL
from lynx_pipeline_tests.simulators.server.team import team_server


def main() -> int:
    """Run all scenarios in order, since each builds on the one before. Exit code 1: one failed."""
    console, start = Console(), time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="deployment-") as folder,
        team_server(Path(folder) / "team") as team,
    ):
        for scenario in ALL:
            console.print(f"\n[bold]{scenario.__name__}[/]: {scenario.__doc__}")
            try:
                for observation in scenario(team):
                    console.print(Text(f"{time.monotonic() - start:6.1f} s  {observation}"))
            except AssertionError as error:
                console.print(Text(f"FAILED: {error}", style="red"))
                return 1
    console.print(f"\nAll {len(ALL)} scenarios passed.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
