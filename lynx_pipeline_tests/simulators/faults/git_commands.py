"""The git store: lets each of its git commands fail."""

import os
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from lynx_pipeline.adapters import git
from lynx_pipeline.adapters.ledgers import git as git_ledger
from lynx_pipeline_tests.simulators.faults.trial import (
    EVIDENCE,
    ChildResult,
    Table,
    check_recovery,
    forked,
    kill_self,
)
from lynx_pipeline_tests.support.places import BRANCH, OnGit, facts, promote, version

BEFORE, WHILE, AFTER = "killed before", "killed while it runs", "killed after"
MIDWAY, FAILS = "git is killed", "git fails"
GIT_FAULTS = (BEFORE, WHILE, AFTER, MIDWAY, FAILS)
# The result depends on timing.
EITHER = {"new", "old"}


def faulty_git(number: int, fault: str, trace: list[str]) -> Any:
    """A ``subprocess`` for the git store that injects ``fault`` at the git command numbered
    ``number``."""

    class Popen(subprocess.Popen[bytes]):
        def __init__(self, args: list[str], **kwargs: Any) -> None:
            trace.append(git._verb(tuple(args[1:])))
            self.hit = len(trace) == number
            if self.hit and fault == BEFORE:
                kill_self()
            if self.hit and fault == FAILS:
                args = ["git", "--no-such-option"]
            super().__init__(args, **kwargs)
            if self.hit and fault == WHILE:
                kill_self()

        def communicate(self, *args: Any, **kwargs: Any) -> tuple[bytes, bytes]:
            if self.hit and fault == MIDWAY:
                time.sleep(random.uniform(0.001, 0.01))
                self.kill()
            output = super().communicate(*args, **kwargs)
            if self.hit and fault == AFTER:
                kill_self()
            return output

    return SimpleNamespace(
        Popen=Popen, PIPE=subprocess.PIPE, TimeoutExpired=subprocess.TimeoutExpired
    )


def no_branch(place: OnGit) -> None:
    """An empty repository."""


def three_entries(place: OnGit) -> None:
    """Three entries."""
    for number in (1, 2, 3):
        promote(place.store, number, EVIDENCE[:1])


def no_last_tag(place: OnGit) -> None:
    """A promotion without its tag, as a remote leaves it that crashes between branch and tag."""
    promote(place.store, 1)
    promote(place.store, 9, EVIDENCE)
    place.git("update-ref", "-d", "refs/tags/tiny@v0.9.0-dev")


GIT_STATES = (no_branch, three_entries, no_last_tag)


def git_fails(tmp: Path, fault: str) -> Table:
    """Inject ``fault`` at every git command of a promotion, from every state of a branch."""
    table: Table = {}
    for state in GIT_STATES:
        start = OnGit.new(tmp / f"{state.__name__}.git")
        state(start)
        old = [version(1)] if state is no_last_tag else facts(start.store)
        names, _ = _promote_through(start, tmp / f"{state.__name__}0", 0, "")
        done = set(names.trace[:-3]) if state is no_last_tag else set()
        for number, name in enumerate(names.trace, start=1):
            if name in done:
                continue
            done |= {"for-each-ref"} & {name}
            result, place = _promote_through(
                start, tmp / f"{state.__name__}{number}", number, fault
            )
            result.check_end(fault in (BEFORE, WHILE, AFTER), name)
            with no_waiting():
                outcome = check_recovery(place, old)
            result.check_outcome(outcome)
            assert_consistent(place)
            found = EITHER if fault == MIDWAY else {outcome}
            table.setdefault((f"git {name}", fault), set()).update(found)
            shutil.rmtree(place.bare.parent)
    return table


def _promote_through(
    start: OnGit, folder: Path, number: int, fault: str
) -> tuple[ChildResult, OnGit]:
    """Promote in a copy of ``start``, and wait for orphaned git processes."""
    folder.mkdir()
    place = OnGit(Path(shutil.copytree(start.bare, folder / "registry.git")))

    def work(trace: list[str]) -> None:
        tempfile.tempdir = str(folder)
        os.environ["TMPDIR"] = str(folder)
        with no_waiting(), patch.object(git, "subprocess", faulty_git(number, fault, trace)):
            promote(place.store, 9, EVIDENCE)

    result = forked(work)
    wait_until_unused(folder)
    return result, place


@contextmanager
def no_waiting() -> Iterator[None]:
    """Let the git store retry without waiting."""
    with patch.object(
        git_ledger, "time", SimpleNamespace(sleep=lambda _: None, monotonic=time.monotonic)
    ):
        yield


def wait_until_unused(folder: Path) -> None:
    """Wait until no process has ``folder`` as its working folder."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if not any(place.is_relative_to(folder) for place in _working_folders()):
            return
        time.sleep(0.01)
    raise AssertionError(f"a process still works in {folder}")


def _working_folders() -> Iterator[Path]:
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                yield (process / "cwd").readlink()
            except OSError:
                continue


def assert_consistent(place: OnGit) -> None:
    """Assert that the branch has one linear history: a commit and a tag for each entry."""
    entries, commits = place.store.read().entries, place.commits()
    history = place.git("rev-list", "--reverse", "--parents", BRANCH).decode()
    own_and_parent = [tuple(line.split()) for line in history.splitlines()]
    assert own_and_parent == [tuple(commits[:1]), *zip(commits[1:], commits, strict=False)]
    assert len(commits) == len(entries)
    form = "--format=%(*objectname)"
    tagged = place.git("for-each-ref", form, "refs/tags/tiny@*").decode().split()
    assert sorted(tagged) == sorted(commits)
