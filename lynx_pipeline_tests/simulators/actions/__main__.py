"""``python -m lynx_pipeline_tests.simulators.actions [NAME ...]`` runs scenarios."""

import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lynx_pipeline_tests.simulators.actions.scenarios import ALL
from lynx_pipeline_tests.simulators.actions.stage import staged


def main(names: list[str]) -> int:
    """Run the named scenarios, or all. Exit code 1: one failed; 2: a name is unknown."""
    known = {scenario.__name__: scenario for scenario in ALL}
    if unknown := set(names) - set(known):
        print(f"Unknown scenarios: {', '.join(sorted(unknown))}. Known: {', '.join(known)}")
        return 2
    console, failed = Console(), []
    console.print("Setting up: repository, registry, MLflow, two tutors ...")
    with (
        tempfile.TemporaryDirectory(prefix="rehearsal-") as folder,
        staged(Path(folder) / "stage") as stage,
    ):
        for name in names or known:
            console.print(f"\n[bold]{name}[/]: {known[name].__doc__}")
            table = Table("case", "result", "message", "registry", expand=True)
            try:
                for seen in known[name](stage):
                    row = (seen.what, seen.ended, seen.message[:300], seen.registry)
                    table.add_row(*map(Text, row))
            except AssertionError as error:
                failed.append(name)
                console.print(Text(f"FAILED: {error}", style="red"))
            console.print(table)
    console.print(f"\n{len(names or known) - len(failed)} scenarios passed.")
    if failed:
        console.print(f"Failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
