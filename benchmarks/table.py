"""Measure everything and write the table: ``python -m benchmarks.table [ROW...]``.

Each row compares a command of this project with a minimal reference for the same result. The two
run alternately on one machine, and the row shows the median ratio. If rows are named, only those
are measured and replaced in the table. Headings below the table, written by hand, are kept.
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path

from benchmarks import data, evaluating, reading, running
from benchmarks.place import REPO, Place
from benchmarks.row import Row

RESULT = REPO / "benchmarks" / "results.md"
ROWS = (
    *(running.promotion, evaluating.minieval, evaluating.peer, reading.compare),
    *(evaluating.counting, evaluating.worker, evaluating.on_ray, reading.resolve, reading.signed),
    *(running.unchanged, running.run_command, running.fresh, running.workflow),
    *(data.corpus, data.importing, data.checking, running.definitions),
    *(running.ending, reading.quick_way, reading.light_client),
)


def main() -> None:
    """Run the rows named on the command line, or all, and write the table."""
    chosen = [row for row in ROWS if row.__name__ in sys.argv[1:] or len(sys.argv) == 1]
    old, _, notes = RESULT.read_text().partition("\n## ")
    known = old.splitlines() if len(chosen) < len(ROWS) else []
    table = {line.split(" | ")[0]: line for line in known if line.startswith("| ")}
    head = _HEAD.format(cores=os.cpu_count())
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        for measure in chosen:
            place = Place(Path(folder) / measure.__name__)
            line = _line(measure(place))
            print(line, file=sys.stderr)
            shutil.rmtree(place.folder)
            # Written at once: a later row may fail.
            table[line.split(" | ")[0]] = line
            rows = [row for row in table.values() if row not in head]
            after = f"\n## {notes}" if notes else ""
            RESULT.write_text(head + "\n".join(rows) + "\n" + after)
    print(f"Written: {RESULT.relative_to(REPO)}")


_HEAD = """\
# Benchmarks

Written by `just benchmarks`. Each row compares a command of this project with a minimal reference
that does the same without checks or isolation. Both run alternately on the same machine ({cores}
cores). Seconds are medians; the ratio is the median of the pairs' ratios, and so is that of the CPU
times, which is less affected by other load.

| what | this project | reference | measured | target | met |
| --- | --- | --- | --- | --- | --- |
"""


def _line(row: Row) -> str:
    cells = (row.what, row.ours, row.reference, row.measured, row.target)
    return f"| {' | '.join(cells)} | {'yes' if row.met else '**no**'} |"


if __name__ == "__main__":
    main()
