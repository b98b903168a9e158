"""``python -m lynx_pipeline_tests.simulators.actions [NAME ...]`` plays scenarios."""

import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lynx_pipeline_tests.simulators.actions.scenarios import ALL
from lynx_pipeline_tests.simulators.actions.stage import staged


def main(names: list[str]) -> int:
    """Play those named, or all. Exit code 1 if one went otherwise than it has to."""
    known = {scenario.__name__: scenario for scenario in ALL}
    if unknown := set(names) - set(known):
        print(f"no scenario {', '.join(sorted(unknown))}; there are {', '.join(known)}")
        return 2
    console, wrong = Console(), []
    console.print("Setting up: repository, registry, MLflow, two tutors ...")
    with (
        tempfile.TemporaryDirectory(prefix="rehearsal-") as folder,
        staged(Path(folder) / "stage") as stage,
    ):
        for name in names or known:
            console.print(f"\n[bold]{name}[/]: {known[name].__doc__}")
            table = Table("case", "ended", "message", "registry", expand=True)
            try:
                for seen in known[name](stage):
                    row = (seen.what, seen.ended, seen.message[:300], seen.registry)
                    table.add_row(*map(Text, row))
            except AssertionError as error:
                wrong.append(name)
                console.print(Text(f"WENT WRONG: {error}", style="red"))
            console.print(table)
    console.print(f"\n{len(names or known) - len(wrong)} scenarios as they have to be.")
    if wrong:
        console.print(f"Went wrong: {', '.join(wrong)}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
