"""The command that verifies a ledger, and copies of a ledger."""

import io
import re
import shutil
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from lynx_pipeline.cli import main
from lynx_pipeline_tests.adapters.ledgers.tamper.conftest import LINES, back_by_one, changed
from lynx_pipeline_tests.support.builders import project
from lynx_pipeline_tests.support.places import InFolder, OnGit, Place
from lynx_pipeline_tests.support.signing import signatures_table


def verify(place: Place, root: Path) -> tuple[int, str, str]:
    """Run ``registry verify`` in a project with this registry: exit code, output and errors."""
    if not root.exists():
        head = place.store.read().head
        table = signatures_table(unsigned_until=head)
        project(root, pyproject=f'registry = "{place.setting}"\n{table}')
    out, err = io.StringIO(), io.StringIO()
    with chdir(root), redirect_stdout(out), redirect_stderr(err):
        code = main(["registry", "verify"])
    return code, out.getvalue(), err.getvalue()


def assert_command_names_line(place: Place, root: Path, line: int) -> None:
    """Assert that the command fails with one paragraph that names the line."""
    code, out, err = verify(place, root)
    assert (code, out) == (2, "")
    assert re.search(rf"\bline {line}\b", err)
    assert "Traceback" not in err
    assert err.endswith("\n")
    assert "\n" not in err.rstrip("\n")


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_the_command_names_the_damaged_line(folder: InFolder, git: OnGit, tmp_path: Path) -> None:
    """``registry verify`` detects a changed byte, a doubled line and a cut in both stores, and a
    branch that was reset. It passes again after the damage is undone."""
    raw = folder.index()
    assert git.index() == raw
    lines = raw.splitlines(keepends=True)
    whole = f"The ledger is consistent: 50 entries, {len(raw)} bytes.\n"
    assert verify(folder, tmp_path / "folder") == (0, whole, "")
    assert verify(git, tmp_path / "git") == (0, whole, "")
    samples = {
        17: raw.replace(b'"seq":17,', b'"seq":71,'),
        31: b"".join(lines[:30] + lines[29:]),
        50: b"".join(lines[:-1]),
    }
    for line, damaged in samples.items():
        folder.overwrite(damaged)
        assert_command_names_line(folder, tmp_path / "folder", line)
        folder.overwrite(raw)
    assert verify(folder, tmp_path / "folder") == (0, whole, "")
    for line in (17, 50):
        with changed(git):
            git.overwrite(samples[line])
            assert_command_names_line(git, tmp_path / "git", line)
    with changed(git):
        back_by_one(git)
        assert_command_names_line(git, tmp_path / "git", 50)
    assert verify(git, tmp_path / "git") == (0, whole, "")


@pytest.mark.slow
def test_a_copied_ledger_reads_the_same(folder: InFolder, git: OnGit, tmp_path: Path) -> None:
    """This holds for a copy of the folder and for a clone of the repository with all its refs."""
    copied = shutil.copytree(folder.folder, tmp_path / "copy")
    git.git("clone", "--quiet", "--mirror", ".", str(tmp_path / "mirror.git"))
    expected = folder.store.read().entries
    assert len(expected) == LINES
    assert InFolder(Path(copied)).store.read().entries == expected
    assert OnGit(tmp_path / "mirror.git").store.read().entries == expected
