"""The best ledger that a heap of lines makes."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lynx_pipeline.domain.ledger.chain import Entry, Ledger, seal
from lynx_pipeline.domain.ledger.repair import Pool, Trust, best_ledger, changed_lines
from lynx_pipeline.domain.release.signing import SigningPolicy
from lynx_pipeline.errors import BadInput, Refused
from lynx_pipeline_tests.support.builders import chain, promoted

LEDGER = chain(*(promoted(f"v0.{number}.0-dev") for number in range(1, 7)))
LINES = [entry.to_line() for entry in LEDGER.entries]
FOREIGN = seal(9, "0" * 64, promoted("v9.0.0-dev")).to_line()
FORK = seal(4, LEDGER.entries[2].hash, promoted("v0.9.0-dev")).to_line()
LOST = r"can't be kept|can't be found|nothing that verifies is left"
RECORDED = {LEDGER.entries[-1].hash: "the checkpoint"}


def nothing_ignored(_: Ledger) -> Sequence[tuple[Entry, str]]:
    return ()


def best(raw: bytes, recorded: dict[str, str]) -> tuple[list[bytes], list[str]]:
    """The best ledger's lines, and what changes."""
    pool = Pool()
    pool.add(raw)
    trust = Trust(SigningPolicy(), nothing_ignored)
    found = best_ledger(pool, b"", recorded, trust, orphans=False)
    return [line.raw for line in found.lines], changed_lines(raw, found)


@given(st.data())
def test_no_order_and_no_addition_hides_the_recorded_ledger(data: st.DataObject) -> None:
    """Lines in any order, some twice, among garbage, a fork and lines of other ledgers."""
    added = st.lists(
        st.sampled_from([*LINES, FOREIGN, FORK, b"{}\n", b"\n", b"\xff\n"]), max_size=6
    )
    lines = data.draw(st.permutations([*LINES, *data.draw(added)]))
    found, changes = best(b"".join(lines), RECORDED)
    assert found == LINES
    assert bool(changes) is (lines != LINES)
    removed = [it for it in changes if it.startswith("remove")]
    assert len(removed) == len(lines) - len(LINES)


@given(st.sampled_from(range(6)), st.booleans())
def test_a_recorded_ledger_without_one_of_its_lines_is_refused(place: int, fork: bool) -> None:
    """Also if a fork is as long."""
    lines = [*LINES[:place], *LINES[place + 1 :], *([FORK] if fork else [])]
    with pytest.raises((BadInput, Refused), match=LOST):
        best(b"".join(lines), RECORDED)


@given(st.sampled_from(range(5)))
def test_without_a_record_no_line_that_verifies_is_dropped(place: int) -> None:
    """Those after the lost one may be what is left of the right ledger."""
    lines = [*LINES[:place], *LINES[place + 1 :]]
    with pytest.raises((BadInput, Refused), match=LOST):
        best(b"".join(lines), {})
