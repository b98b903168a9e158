"""A repair that is interrupted, raced or declined leaves the old state or the complete new one."""

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import pytest
from filelock import FileLock

from lynx_pipeline.adapters import git
from lynx_pipeline.adapters.ledgers import directory_repair
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.errors import SystemFailed
from lynx_pipeline.registry import Registry
from lynx_pipeline.registry.repair import planned_repair
from lynx_pipeline_tests.registry.damaged.conftest import Case
from lynx_pipeline_tests.simulators.faults.disk import HALFWAY, KILLED, Disk
from lynx_pipeline_tests.simulators.faults.git_commands import (
    AFTER,
    BEFORE,
    FAILS,
    WHILE,
    faulty_git,
    wait_until_unused,
)
from lynx_pipeline_tests.simulators.faults.trial import ChildResult, forked
from lynx_pipeline_tests.support.places import BRANCH

NewCase = Callable[[str, Env], Case]


def repaired_through(case: Case, disk: Disk) -> ChildResult:
    """Repair the folder in a forked process whose system calls may fail."""

    def work(trace: list[str]) -> None:
        disk.trace = trace
        with planned_repair(Registry.open(case.settings)) as planned, disk.in_place():
            planned.apply()

    return forked(work)


@pytest.mark.slow
def test_a_failed_system_call_leaves_the_old_or_the_new_ledger(
    new_case: NewCase, tmp_path: Path
) -> None:
    """Killed, or an error of the disk, at each call. Running it again completes it."""
    case = new_case("folder", Env.PROD)
    genuine = case.entries
    case.forge(4)
    old, start = case.entries, tmp_path / "start"
    shutil.copytree(case.folder.folder, start)
    calls = repaired_through(case, Disk(case.folder.folder)).trace
    assert case.entries == genuine
    assert {"write index", "rename index", "write checkpoint", "rename checkpoint"} <= set(calls)
    for fault in (KILLED, HALFWAY, "EIO", "ENOSPC"):
        for number, name in enumerate(calls, start=1):
            if fault == HALFWAY and not name.startswith("write "):
                continue
            shutil.rmtree(case.folder.folder)
            shutil.copytree(start, case.folder.folder)
            result = repaired_through(case, Disk(case.folder.folder, number, fault))
            assert result.code == (-signal.SIGKILL if fault in (KILLED, HALFWAY) else 0)
            assert result.error in ("", "SystemFailed"), (name, result)
            assert case.entries in (old, genuine), (name, fault)
            assert case.run("repair", "--yes")[0] == 0, (name, fault)
            assert case.entries == genuine
            assert case.run("verify")[0] == 0


@pytest.mark.slow
@pytest.mark.parametrize("fault", [BEFORE, WHILE, AFTER, FAILS])
def test_a_push_that_is_interrupted_changes_all_or_nothing(
    new_case: NewCase, tmp_path: Path, fault: str
) -> None:
    """Running it again completes it, or finds nothing to repair."""
    case = new_case("git", Env.PROD)
    genuine = case.entries
    case.forge(4)
    old = case.entries
    folder = tmp_path / "scratch"
    folder.mkdir()

    def work(trace: list[str]) -> None:
        tempfile.tempdir = str(folder)
        faulty = patch.object(git, "subprocess", faulty_git(1, fault, trace))
        with planned_repair(Registry.open(case.settings)) as planned, faulty:
            planned.apply()

    result = forked(work)
    assert result.code == (0 if fault == FAILS else -signal.SIGKILL)
    assert result.error == ("SystemFailed" if fault == FAILS else "")
    wait_until_unused(folder)
    assert case.entries in (old, genuine)
    assert case.run("repair", "--yes")[0] == 0
    assert case.entries == genuine
    assert case.run("verify")[0] == 0


@pytest.mark.parametrize("store", ["folder", pytest.param("git", marks=pytest.mark.slow)])
def test_a_promotion_meanwhile_stops_the_repair(new_case: NewCase, store: str) -> None:
    """What was shown is outdated. The promotion is there, and the repair can run again."""
    case = new_case(store, Env.PROD)
    case.forge(4)
    with planned_repair(Registry.open(case.settings)) as planned:
        case.promote(5)
        before = case.place.all()
        with pytest.raises(SystemFailed, match="run this again") as error:
            planned.apply()
        assert error.value.exit_code == 3
    assert case.place.all() == before
    assert case.run("repair", "--yes")[0] == 0  # the forged entry has a later one by now


@pytest.mark.slow
def test_a_tag_that_was_moved_meanwhile_stops_the_repair(new_case: NewCase) -> None:
    """A repair replaces and deletes only what it has read."""
    case = new_case("git", Env.PROD)
    case.git.git("update-ref", "refs/tags/tiny@v0.9.0", BRANCH)
    with planned_repair(Registry.open(case.settings)) as planned:
        case.git.git("update-ref", "refs/tags/tiny@v0.9.0", f"{BRANCH}~1")
        before = case.place.all()
        with pytest.raises(SystemFailed, match="the remote rejected the repair"):
            planned.apply()
    assert case.place.all() == before


@pytest.mark.slow
def test_rules_against_it_are_reported(new_case: NewCase) -> None:
    """The server does not let anybody delete tags: nothing changes."""
    case = new_case("git", Env.PROD)
    case.forge(4)
    case.git.hook("update", r'case "$1 $3" in refs/tags/*\ 0000*) exit 1;; esac')
    before = case.place.all()
    code, _, err = case.run("repair", "--yes")
    assert code == 3
    assert "a repair may delete and replace tags" in err
    assert case.place.all() == before


def test_a_held_lock_is_a_failed_system(new_case: NewCase, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody is promoting into the folder."""
    case = new_case("folder", Env.PROD)
    case.forge(4)
    monkeypatch.setattr(directory_repair, "LOCK_SECONDS", 0.1)
    before = case.place.all()
    with FileLock(case.folder.folder / ".lock"):
        code, _, err = case.run("repair", "--yes")
    assert code == 3
    assert "has held the registry's lock" in err
    assert case.place.all() == before


def test_without_a_terminal_nobody_is_asked(new_case: NewCase) -> None:
    """``--yes`` or ``--dry-run`` is needed there."""
    case = new_case("folder", Env.PROD)
    case.forge(4)
    before = case.place.all()
    code, _, err = case.run("repair")
    assert code == 2
    assert "there is no terminal to ask on" in err
    assert case.place.all() == before


def test_the_result_as_json(new_case: NewCase) -> None:
    """For scripts."""
    case = new_case("folder", Env.PROD)
    case.forge(4)
    code, out, _ = case.run("repair", "--dry-run", "--json")
    found = json.loads(out)
    assert (code, found["notes"], found["repaired"]) == (1, [], False)
    assert (
        found["changes"][0] == "remove line 4, entry 4 (promoted v0.4.0 in prod): it is not signed"
    )
    code, out, _ = case.run("repair", "--yes", "--json")
    assert (code, json.loads(out)) == (0, {**found, "repaired": True})
    code, out, _ = case.run("repair", "--yes", "--json")
    assert (code, json.loads(out)) == (0, {"changes": [], "notes": [], "repaired": False})


@pytest.mark.slow
@pytest.mark.parametrize(("typed", "code"), [(b"n\n", 1), (b"\n", 1), (b"\x04", 1), (b"y\n", 0)])
def test_the_administrator_is_asked(new_case: NewCase, typed: bytes, code: int) -> None:
    """On a terminal. Only a yes changes something."""
    case = new_case("folder", Env.PROD)
    case.forge(4)
    before = case.place.all()
    ours, theirs = pty.openpty()
    os.write(ours, typed)
    done = subprocess.run(
        [sys.executable, "-m", "lynx_pipeline", "registry", "repair"],
        cwd=case.root,
        stdin=theirs,
        capture_output=True,
        timeout=120,
    )
    os.close(ours)
    os.close(theirs)
    assert done.returncode == code, done.stderr
    assert b"Repair it? [y/N]" in done.stdout + done.stderr
    assert b"remove line 4, entry 4 (promoted v0.4.0 in prod): it is not signed" in done.stdout
    assert (case.place.all() == before) is (code == 1)
