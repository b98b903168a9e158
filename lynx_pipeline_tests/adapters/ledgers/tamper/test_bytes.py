"""A changed byte anywhere in a ledger is detected, and the error names its line."""

import os

import pytest

from lynx_pipeline.errors import BadInput
from lynx_pipeline_tests.adapters.ledgers.tamper.conftest import (
    LINES,
    SHORT,
    assert_names_line,
    changed,
)
from lynx_pipeline_tests.support.places import InFolder, OnGit

SHARDS = 4


def put(handle: int, at: int, byte: int) -> None:
    """Change one byte of a file."""
    assert os.pwrite(handle, bytes([byte]), at) == 1


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("shard", range(SHARDS))
def test_every_changed_byte_in_a_folder_is_detected(short: InFolder, shard: int) -> None:
    """At every position in twenty lines: the lowest, the highest or the case bit is flipped, or a
    newline is written."""
    raw, tried = short.index(), 0
    handle = os.open(short.store.file, os.O_RDWR)
    try:
        for place in range(shard, len(raw), SHARDS):
            line = raw[:place].count(b"\n") + 1
            for changed in {raw[place] ^ flip for flip in (0x01, 0x20, 0x80)} | {0x0A}:
                if changed == raw[place]:
                    continue
                put(handle, place, changed)
                with pytest.raises(BadInput, match=rf"\bline {line}\b"):
                    short.store.read()
                tried += 1
            put(handle, place, raw[place])
    finally:
        os.close(handle)
    assert tried > 3 * len(raw) // SHARDS
    assert len(short.store.read().entries) == SHORT


def test_changed_bytes_are_detected_without_the_cache(folder: InFolder) -> None:
    """One byte is changed in each line, and every line is parsed again."""
    raw, start = folder.index(), 0
    for number, line in enumerate(raw.splitlines(keepends=True), start=1):
        damaged = bytearray(raw)
        damaged[start + number * 7 % len(line)] ^= 0x01
        folder.overwrite(bytes(damaged))
        assert_names_line(folder, number)
        start += len(line)
    folder.overwrite(raw)
    assert len(folder.store.read().entries) == LINES


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("flip", [0x01, 0x20, 0x80, 0xFF])
def test_changed_bytes_on_a_branch_are_detected(git: OnGit, flip: int) -> None:
    """Pushed as a further commit: positions in every part of a line, the first byte, the last byte
    and its newline."""
    raw = git.index()
    for place in [0, *range(211 + flip, len(raw), 5003), len(raw) - 2, len(raw) - 1]:
        damaged = bytearray(raw)
        damaged[place] ^= flip
        with changed(git):
            git.overwrite(bytes(damaged))
            assert_names_line(git, raw[:place].count(b"\n") + 1)
