"""Files that are written only where nothing else is."""

from pathlib import Path

import pytest

from lynx_pipeline.setup.files import File, State, extended


@pytest.mark.parametrize(
    ("before", "extends", "state", "after"),
    [
        (None, False, State.NEW, b"ours\n"),
        (b"ours\n", False, State.UNCHANGED, b"ours\n"),
        (b"theirs\n", False, State.DIFFERENT, b"theirs\n"),
        (b"theirs\n", True, State.EXTENDED, b"ours\n"),
    ],
)
def test_only_an_extension_is_written_over_a_file(
    tmp_path: Path, before: bytes | None, extends: bool, state: State, after: bytes
) -> None:
    path = tmp_path / "a/b"
    if before is not None:
        path.parent.mkdir()
        path.write_bytes(before)
    file = File(path, b"ours\n", extends=extends)
    assert file.state == state
    file.write()
    assert path.read_bytes() == after


def test_a_script_can_be_run(tmp_path: Path) -> None:
    File(tmp_path / "script", b"#!/bin/sh\n", executable=True).write()
    assert (tmp_path / "script").stat().st_mode & 0o777 == 0o755


def test_a_script_that_lost_its_mode_gets_it_back(tmp_path: Path) -> None:
    script = File(tmp_path / "script", b"#!/bin/sh\n", executable=True)
    script.write()
    script.path.chmod(0o644)
    assert script.state is State.EXTENDED
    script.write()
    assert script.path.stat().st_mode & 0o777 == 0o755
    assert File(script.path, script.content, executable=True).state is State.UNCHANGED


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, b"new\n"),
        (b"", b"new\n"),
        (b"a\n", b"a\n\nnew\n"),
        (b"a", b"a\n\nnew\n"),
        (b"\xff\r\n", b"\xff\r\n\nnew\n"),
    ],
)
def test_lines_are_added_after_what_is_there(
    tmp_path: Path, before: bytes | None, after: bytes
) -> None:
    path = tmp_path / "file"
    if before is not None:
        path.write_bytes(before)
    assert extended(path, "new\n").content == after
    assert extended(path, "new\n", missing=False).content == (before or b"")


def test_the_difference_shows_what_would_change(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("same\ntheirs\n")
    lines = File(path, b"same\nours\n").difference().splitlines()
    assert lines[:2] == ["--- now", "+++ proposed"]
    assert lines[3:] == [" same", "-theirs", "+ours"]
