"""The table of faults, as it is written down in docs/faults.md."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from lynx_pipeline_tests.simulators.faults.disk import DISK_FAULTS, disk_fails
from lynx_pipeline_tests.simulators.faults.full_disk import disk_is_full
from lynx_pipeline_tests.simulators.faults.git_commands import GIT_FAULTS, git_fails
from lynx_pipeline_tests.simulators.faults.remote import HEARS, REMOTE_FAULTS, remote_fails
from lynx_pipeline_tests.simulators.faults.trial import Table

DISK, GIT, REMOTE = "The directory store", "The git store", "The git store's remote"
COLUMNS: Mapping[str, tuple[str, ...]] = {DISK: DISK_FAULTS, GIT: GIT_FAULTS, REMOTE: HEARS}
INTRO = """\
# What a fault leaves

Written by `python -m lynx_pipeline_tests.simulators.faults`; a test compares.

Each row is a step of a promotion, each column what happens there. **old**: the ledger is what it
was. **new**: the entry and all its evidence are there. Both in one cell: it depends on the state
the ledger was in, or on the moment. In every case the same promotion again leads to the new
ledger, once, and the next one works.
"""
ABOUT = {
    DISK: "Every system call, from seven states: empty, one entry, several, a torn tail, only a "
    "torn tail,\na checkpoint that lags, and one that is missing. ENOSPC from four of them.",
    GIT: "Every git command, from three states: no branch, three entries, and the promotion "
    "without its tag\n(which is not read, so old).",
    REMOTE: "What the other side does, over file:// and over ssh://.",
}


def rendered(section: str, table: Mapping[tuple[str, str], Iterable[str]]) -> str:
    """A section as Markdown, a line a failpoint, in the order they were found."""
    columns = COLUMNS[section]
    lines = [f"| | {' | '.join(columns)} |", f"|{'---|' * (len(columns) + 1)}"]
    for failpoint in dict.fromkeys(name for name, _ in table):
        cells = [", ".join(sorted(table.get((failpoint, c), ()), reverse=True)) for c in columns]
        lines.append(f"| {failpoint} | {' | '.join(cells)} |")
    return f"## {section}\n\n{ABOUT[section]}\n\n" + "\n".join(lines) + "\n"


def parsed(text: str) -> dict[tuple[str, str, str], set[str]]:
    """What :func:`rendered` wrote: section, failpoint, fault, and what was found."""
    found = {}
    for block in text.split("## ")[1:]:
        section = block.split("\n", 1)[0]
        rows = [line.strip("| ").split(" | ") for line in block.splitlines() if "| " in line]
        for name, *cells in rows[1:]:
            for column, cell in zip(COLUMNS[section], cells, strict=False):
                if cell.strip(" |"):
                    found[section, name, column] = set(cell.strip(" |").split(", "))
    return found


def everything(tmp: Path) -> str:
    """The whole document."""
    disk: Table = {}
    git: Table = {}
    remote: Table = {}
    for number, fault in enumerate(DISK_FAULTS):
        disk |= disk_fails(tmp / f"disk{number}", fault)
    disk |= disk_is_full(tmp / "full", "directory")
    for number, fault in enumerate(GIT_FAULTS):
        (tmp / f"git{number}").mkdir()
        git |= git_fails(tmp / f"git{number}", fault)
    for number, happens in enumerate(REMOTE_FAULTS):
        (tmp / f"remote{number}").mkdir()
        remote |= remote_fails(tmp / f"remote{number}", happens)
    remote |= disk_is_full(tmp / "full", "git")
    tables = {DISK: disk, GIT: git, REMOTE: remote}
    return "\n".join([INTRO, *(rendered(name, table) for name, table in tables.items())])
