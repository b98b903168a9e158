"""``python -m lynx_pipeline_tests.simulators.act [NAME ...]`` runs scenarios of the deploy
workflow. It prints the time of each step, and the comment."""

import sys
import tempfile
from pathlib import Path

from lynx_pipeline_tests.simulators.act.scenarios import ALL
from lynx_pipeline_tests.simulators.actions.stage import staged


def main(names: list[str]) -> int:
    """Run the named scenarios, or all. Exit code 2: a name is unknown."""
    known = {scenario.__name__: scenario for scenario in ALL}
    if unknown := set(names) - set(known):
        print(f"Unknown scenarios: {', '.join(sorted(unknown))}. Known: {', '.join(known)}")
        return 2
    with tempfile.TemporaryDirectory(prefix="act-") as folder, staged(Path(folder, "s")) as stage:
        for name in names or known:
            done, text = known[name](stage)
            print(f"\n== {name}: {done.seconds:.1f} s")
            for step in done.steps:
                print(f"{step.seconds:7.1f} s  {step.job:9} {step.result:8} {step.name}")
            print(f"\n{text}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
