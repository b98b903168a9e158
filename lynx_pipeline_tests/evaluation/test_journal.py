"""Answers survive whatever ends an evaluation, whole batches only."""

import json
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lynx_pipeline.errors import SystemFailed
from lynx_pipeline.evaluation.journal import Journal
from lynx_pipeline.sandbox.engine import Answered

KEY = {"canonical_sha": "a" * 64}
SIZE = 100


def batch(*rows: int) -> Answered:
    """Answers to these rows, with everything that JSON and Unicode can make difficult."""
    odd = ["went", None, "", "\n\r\x85", "Ж\U0001f600", '"\\', "\x00"]
    return Answered(list(rows), [odd[r % len(odd)] for r in rows], 0.1 + rows[0], 0.5, 9.25, "none")


BATCHES = [batch(5, 3, 99), batch(0), batch(*range(10, 20))]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the journal goes; its folder is not there yet."""
    return tmp_path / "evidence" / "journal"


@pytest.fixture
def raw(path: Path) -> bytes:
    """The bytes of a journal of three batches."""
    with Journal(path, KEY, SIZE) as journal:
        for each in BATCHES:
            journal.add(each)
    return path.read_bytes()


def held(path: Path, key: dict[str, str] = KEY, size: int = SIZE) -> list[Answered]:
    """The batches there are, which are the ones that count as answered."""
    with Journal(path, key, size) as journal:
        found = list(journal)
        rows = sorted(row for each in found for row in each.rows)
        assert [row for row in range(size) if journal.answered[row]] == rows
        assert journal.done == len(rows)
    return found


def test_it_holds_what_was_added_in_that_order(path: Path, raw: bytes) -> None:
    """To the last bit of a float; and adding goes on."""
    assert held(path) == BATCHES
    with Journal(path, KEY, SIZE) as journal:
        journal.add(batch(50))
    assert held(path) == [*BATCHES, batch(50)]
    assert path.read_bytes().startswith(raw)


def test_a_cut_at_any_byte_leaves_the_whole_batches(path: Path, raw: bytes) -> None:
    """And what is added then comes right after them."""
    ends = [k + 1 for k, byte in enumerate(raw) if byte == 10]
    for cut in range(len(raw)):
        path.write_bytes(raw[:cut])
        whole = max(0, sum(end <= cut for end in ends) - 1)
        assert held(path) == BATCHES[:whole]
        with Journal(path, KEY, SIZE) as journal:
            journal.add(batch(50))
        assert held(path) == [*BATCHES[:whole], batch(50)]


@given(tail=st.binary(min_size=1, max_size=50))
def test_rubbish_at_the_end_is_dropped(
    tmp_path_factory: pytest.TempPathFactory, tail: bytes
) -> None:
    """Zeros after a power cut, say."""
    path = tmp_path_factory.mktemp("journal") / "journal"
    with Journal(path, KEY, SIZE) as journal:
        journal.add(BATCHES[0])
    good = path.read_bytes()
    path.write_bytes(good + tail + b"\n")
    assert held(path) == BATCHES[:1]
    assert path.read_bytes() == good


@pytest.mark.parametrize(
    "line",
    [
        pytest.param({**batch(7)._asdict(), "rows": [100]}, id="a row too far"),
        pytest.param({**batch(7)._asdict(), "rows": [-1]}, id="a row before the first"),
        pytest.param({**batch(7)._asdict(), "rows": [7, 8]}, id="too few answers"),
        pytest.param({**batch(7)._asdict(), "rows": [], "answers": []}, id="no rows"),
        pytest.param({**batch(7)._asdict(), "more": 1}, id="an unknown key"),
        pytest.param([7], id="no object"),
    ],
)
def test_a_line_that_is_no_batch_ends_what_counts(path: Path, raw: bytes, line: object) -> None:
    """Whatever stands after it is asked again."""
    path.write_bytes(raw + json.dumps(line).encode() + b"\n" + raw.splitlines(True)[-1])
    assert held(path) == BATCHES
    assert path.read_bytes() == raw


def test_another_key_begins_anew(path: Path, raw: bytes) -> None:
    """Answers of another bundle, or to another eval set."""
    assert held(path, {"canonical_sha": "b" * 64}) == []
    assert not path.exists()


def test_two_cannot_write_at_once(path: Path, raw: bytes) -> None:
    """The second is told so, and the first goes on."""
    with Journal(path, KEY, SIZE) as first:
        with pytest.raises(SystemFailed, match="another process is evaluating into it"):
            Journal(path, KEY, SIZE)
        first.add(batch(50))
    assert held(path) == [*BATCHES, batch(50)]


def test_a_full_disk_leaves_whole_batches(path: Path, raw: bytes) -> None:
    """A short write is taken back, so that nothing stands after half a line."""

    def fill() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        most = len(raw) + 30
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        with Journal(path, KEY, SIZE) as journal:
            for row in (50, 51):
                with pytest.raises(SystemFailed, match="can't be written"):
                    journal.add(batch(row))

    assert in_a_process_of_its_own(fill) == 0
    assert path.read_bytes() == raw


def test_a_killed_process_loses_nothing_that_was_added(path: Path) -> None:
    """And its lock goes with it."""

    def die() -> None:
        journal = Journal(path, KEY, SIZE)
        for each in BATCHES:
            journal.add(each)
        os.kill(os.getpid(), signal.SIGKILL)

    assert in_a_process_of_its_own(die) == -signal.SIGKILL
    assert held(path) == BATCHES


def in_a_process_of_its_own(work: Callable[[], object]) -> int:
    """How it ended."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_journal_without_answers_leaves_no_file(path: Path) -> None:
    """A candidate that does not even load leaves nothing behind."""
    with Journal(path, KEY, SIZE):
        assert path.exists()
    assert not path.exists()
