"""``python -m lynx_pipeline_tests.simulators.server`` plays a team's server through."""

import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.text import Text

from lynx_pipeline_tests.simulators.server.scenarios import ALL
from lynx_pipeline_tests.simulators.server.team import standing


def main() -> int:
    """Play all, in order; they build on one another. Exit code 1 if one went otherwise."""
    console, start = Console(), time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="deployment-") as folder,
        standing(Path(folder) / "team") as team,
    ):
        for scenario in ALL:
            console.print(f"\n[bold]{scenario.__name__}[/]: {scenario.__doc__}")
            try:
                for seen in scenario(team):
                    console.print(Text(f"{time.monotonic() - start:6.1f} s  {seen}"))
            except AssertionError as error:
                console.print(Text(f"WENT WRONG: {error}", style="red"))
                return 1
    console.print(f"\n{len(ALL)} scenarios as they have to be.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
