"""Rearranged lines are detected: deleted, doubled, inserted or swapped ones, and cuts."""

import re
from collections.abc import Iterator
from itertools import combinations

import pytest

from lynx_pipeline.domain.ledger import chain as rules
from lynx_pipeline.domain.ledger.chain import seal
from lynx_pipeline_tests.adapters.ledgers.tamper.conftest import LINES, assert_names_line, changed
from lynx_pipeline_tests.support.builders import fact
from lynx_pipeline_tests.support.places import InFolder, OnGit


def foreign(raw: bytes, place: int, *, chained: bool) -> bytes:
    """A valid line of a different ledger with the right number; if ``chained``, also with the right
    previous hash."""
    before = rules.parse_ledger(b"".join(raw.splitlines(True)[:place]), "f").head
    entry = seal(place + 1, before if chained else "0" * 64, fact(model="foreign"))
    return entry.to_line()


def rearranged(raw: bytes, first_recorded: int) -> Iterator[tuple[str, int, bytes]]:
    """Every change of whole lines: its name, the line that the error must name, and the bytes.

    Tags or the checkpoint record the hashes of the lines from ``first_recorded`` on. A foreign line
    among them is detected itself, an earlier one at the line after it.
    """
    lines = raw.splitlines(keepends=True)
    for k in range(LINES):
        yield f"deleted {k}", k + 1, b"".join(lines[:k] + lines[k + 1 :])
        yield f"doubled {k}", k + 2, b"".join(lines[: k + 1] + lines[k:])
        yield f"cut {k}", k + 1, b"".join(lines[:k])
        yield f"cut {k} and half a line", k + 1, b"".join(lines[:k]) + lines[k][:-50]
        follows = [*lines[:k], foreign(raw, k, chained=True), *lines[k:]]
        found = k + 1 if k + 1 >= first_recorded else k + 2
        yield f"foreign but chained {k}", found, b"".join(follows)
    for k in range(LINES + 1):
        inserted = [*lines[:k], foreign(raw, k, chained=False), *lines[k:]]
        yield f"foreign {k}", k + 1, b"".join(inserted)
        yield f"blank {k}", k + 1, b"".join([*lines[:k], b"\n", *lines[k:]])
    for i, j in combinations(range(LINES), 2):
        order = list(lines)
        order[i], order[j] = order[j], order[i]
        yield f"swapped {i} and {j}", i + 1, b"".join(order)


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_lines_in_a_folder_cannot_be_rearranged(folder: InFolder) -> None:
    """Any line deleted, doubled or inserted, any two swapped, or the file cut at any line."""
    raw, tried = folder.index(), 0
    for _, line, damaged in rearranged(raw, LINES):
        folder.overwrite(damaged)
        assert_names_line(folder, line)
        tried += 1
    folder.overwrite(raw)
    assert len(folder.store.read().entries) == LINES
    assert tried == 5 * LINES + 2 * (LINES + 1) + LINES * (LINES - 1) // 2


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    "kind", ["deleted", "doubled", "cut", "foreign", "foreign but chained", "blank", "swapped"]
)
def test_lines_on_a_branch_cannot_be_rearranged(git: OnGit, kind: str) -> None:
    """Each change is pushed as a further commit: at the start, in the middle and at the end."""
    form = re.compile(rf"{kind} \d+(?: and \d+)?")
    all_of_a_kind = [each for each in rearranged(git.index(), 1) if form.fullmatch(each[0])]
    step = len(all_of_a_kind) // 3
    for _, line, damaged in [*all_of_a_kind[:-1:step], all_of_a_kind[-1]]:
        with changed(git):
            git.overwrite(damaged)
            assert_names_line(git, line)
