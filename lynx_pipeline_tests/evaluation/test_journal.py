"""Answered batches survive however an evaluation ends, each completely or not at all."""

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
    """Answers to these rows, with characters that are difficult for JSON and Unicode."""
    odd = ["went", None, "", "\n\r\x85", "Ж\U0001f600", '"\\', "\x00"]
    return Answered(list(rows), [odd[r % len(odd)] for r in rows], 0.1 + rows[0], 0.5, 9.25, "none")


BATCHES = [batch(5, 3, 99), batch(0), batch(*range(10, 20))]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The journal's path, in a folder that does not exist yet."""
    return tmp_path / "evidence" / "journal"


@pytest.fixture
def raw(path: Path) -> bytes:
    """The bytes of a journal of three batches."""
    with Journal(path, KEY, SIZE) as journal:
        for each in BATCHES:
            journal.add(each)
    return path.read_bytes()


def stored(path: Path, key: dict[str, str] = KEY, size: int = SIZE) -> list[Answered]:
    """The stored batches, after checking that exactly their rows count as answered."""
    with Journal(path, key, size) as journal:
        found = list(journal)
        rows = sorted(row for each in found for row in each.rows)
        assert [row for row in range(size) if journal.answered[row]] == rows
        assert journal.done == len(rows)
    return found


def test_batches_read_back_equal_and_in_order(path: Path, raw: bytes) -> None:
    """Floats are equal to the last bit, and more batches can be added."""
    assert stored(path) == BATCHES
    with Journal(path, KEY, SIZE) as journal:
        journal.add(batch(50))
    assert stored(path) == [*BATCHES, batch(50)]
    assert path.read_bytes().startswith(raw)


def test_truncation_at_any_byte_keeps_the_complete_batches(path: Path, raw: bytes) -> None:
    """The next batch is written directly after the last complete one."""
    ends = [k + 1 for k, byte in enumerate(raw) if byte == 10]
    for cut in range(len(raw)):
        path.write_bytes(raw[:cut])
        complete = max(0, sum(end <= cut for end in ends) - 1)
        assert stored(path) == BATCHES[:complete]
        with Journal(path, KEY, SIZE) as journal:
            journal.add(batch(50))
        assert stored(path) == [*BATCHES[:complete], batch(50)]


@given(tail=st.binary(min_size=1, max_size=50))
def test_garbage_at_the_end_is_dropped(
    tmp_path_factory: pytest.TempPathFactory, tail: bytes
) -> None:
    """A power cut may leave zeros, for example."""
    path = tmp_path_factory.mktemp("journal") / "journal"
    with Journal(path, KEY, SIZE) as journal:
        journal.add(BATCHES[0])
    good = path.read_bytes()
    path.write_bytes(good + tail + b"\n")
    assert stored(path) == BATCHES[:1]
    assert path.read_bytes() == good


@pytest.mark.parametrize(
    "line",
    [
        pytest.param({**batch(7)._asdict(), "rows": [100]}, id="a row past the end"),
        pytest.param({**batch(7)._asdict(), "rows": [-1]}, id="a negative row"),
        pytest.param({**batch(7)._asdict(), "rows": [7, 8]}, id="too few answers"),
        pytest.param({**batch(7)._asdict(), "rows": [], "answers": []}, id="no rows"),
        pytest.param({**batch(7)._asdict(), "more": 1}, id="an unknown key"),
        pytest.param([7], id="not an object"),
    ],
)
def test_batches_after_an_invalid_line_are_dropped(path: Path, raw: bytes, line: object) -> None:
    """The questions of these batches are asked again."""
    path.write_bytes(raw + json.dumps(line).encode() + b"\n" + raw.splitlines(True)[-1])
    assert stored(path) == BATCHES
    assert path.read_bytes() == raw


def test_a_journal_with_a_different_key_is_overwritten(path: Path, raw: bytes) -> None:
    """The answers in it belong to a different bundle or eval set."""
    assert stored(path, {"canonical_sha": "b" * 64}) == []
    assert not path.exists()


def test_a_second_writer_is_refused(path: Path, raw: bytes) -> None:
    """The error gives the reason, and the first writer continues."""
    with Journal(path, KEY, SIZE) as first:
        with pytest.raises(SystemFailed, match="another process is evaluating into it"):
            Journal(path, KEY, SIZE)
        first.add(batch(50))
    assert stored(path) == [*BATCHES, batch(50)]


def test_a_full_disk_leaves_only_complete_batches(path: Path, raw: bytes) -> None:
    """An incomplete write is undone, so that no batch follows half a line."""

    def fill() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        limit = len(raw) + 30
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        with Journal(path, KEY, SIZE) as journal:
            for row in (50, 51):
                with pytest.raises(SystemFailed, match="can't be written"):
                    journal.add(batch(row))

    assert exit_code_of(fill) == 0
    assert path.read_bytes() == raw


def test_a_killed_process_loses_no_added_batch(path: Path) -> None:
    """The lock is released, too."""

    def die() -> None:
        journal = Journal(path, KEY, SIZE)
        for each in BATCHES:
            journal.add(each)
        os.kill(os.getpid(), signal.SIGKILL)

    assert exit_code_of(die) == -signal.SIGKILL
    assert stored(path) == BATCHES


def exit_code_of(work: Callable[[], object]) -> int:
    """The exit code of a forked process that does ``work``."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_journal_without_answers_leaves_no_file(path: Path) -> None:
    """A candidate that fails to load leaves nothing behind."""
    with Journal(path, KEY, SIZE):
        assert path.exists()
    assert not path.exists()
