"""What each store leaves when one step of a promotion goes wrong, tried step by step.

A promotion is made to fail at each of its system calls or git commands in turn, in a forked
process, from several states of the ledger. Then the ledger has to be the old one or the complete
new one, evidence included; the same promotion again has to lead to the new one, exactly once; and
the next one has to work. Anything else is an ``AssertionError``.

``python -m lynx_pipeline_tests.faults >docs/faults.md`` writes the table down.
"""

import errno
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from lynx_pipeline.adapters import git, git_ledger
from lynx_pipeline.domain.ledger import Entry, Fact, Ledger, Store
from lynx_pipeline.errors import BadInput, Refused
from lynx_pipeline_tests.builders import sha256
from lynx_pipeline_tests.places import (
    BRANCH,
    B,
    InFolder,
    OnGit,
    Place,
    facts,
    promote,
    version,
)

# Failpoint and fault, and what was found after it.
Table = dict[tuple[str, str], set[str]]
EVIDENCE = (b"the eval set\n" * 50, b"the predictions\n" * 700)


def settled(place: Place, old: list[Fact]) -> str:
    """Whether the ledger is the old or the complete new one; and that all goes on from there."""
    store, new = place.store, [*old, version(9)]
    found = _readable(store, old)
    assert found in (old, new), [f.semver for f in found]
    outcome = "old" if found == old else "new"
    if outcome == "new":
        assert all(place.holds(piece) for piece in EVIDENCE)
    assert store.append(_again, EVIDENCE).fact == version(9)
    assert all(place.holds(piece) for piece in EVIDENCE)
    promote(store, 10, (b"something else",))
    ledger = store.read()
    assert [entry.fact for entry in ledger.entries] == [*new, version(10)]
    assert ledger.torn == 0
    return outcome


def _readable(store: Store, old: list[Fact]) -> list[Fact]:
    """What a reader is shown: an entry without its tag counts as not there."""
    try:
        return facts(store)
    except BadInput as error:
        assert "tag tiny@v0.9.0-dev lacks" in str(error), error
        return old


def _again(ledger: Ledger) -> Fact | Entry:
    known = [entry for entry in ledger.entries if entry.fact == version(9)]
    return known[0] if known else version(9)


@dataclass(frozen=True)
class Told:
    """How a forked promotion ended: ``code`` 0, or minus the signal; what it said; what it did."""

    code: int
    error: str = ""
    message: str = ""
    trace: tuple[str, ...] = ()

    def fits(self, outcome: str) -> None:
        """It did not say what is not so."""
        assert self.error in ("", "SystemFailed"), (self.error, self.message)
        if self.code == 0 and not self.error:
            assert outcome == "new"
        if "as it was" in self.message:
            assert outcome == "old", self.message
        assert "\n" not in self.message


def forked(work: Callable[[list[str]], object]) -> Told:
    """Run ``work`` in a process of its own; the list it gets is handed back as its trace."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        trace: list[str] = []
        told: list[object] = ["", "", trace]
        try:
            os.close(reader)
            work(trace)
        except BaseException as error:
            told[:2] = [type(error).__name__, str(error)]
        os.write(writer, json.dumps(told).encode()[:60_000])
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:  # noqa: PTH123  # a handle, not a path
        said = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    kind, message, made = json.loads(said) if said else ("", "", [])
    return Told(code, kind, message, tuple(made))


def kill_ourselves() -> None:
    """End here, without a chance to clean up."""
    os.kill(os.getpid(), signal.SIGKILL)


# ----- the directory store ------------------------------------------------------------------

KILLED, HALFWAY, LAST_BYTE = "killed before", "killed halfway", "killed at the last byte"
SHORT = "short write"
DISK_FAULTS = (KILLED, HALFWAY, LAST_BYTE, "EIO", "ENOSPC", SHORT)


@dataclass
class Disk:
    """Stands between the store under ``folder`` and the system: numbers its calls, names them by
    what they do to what, and lets ``fault`` happen at the one numbered ``number``."""

    folder: Path
    number: int = 0
    fault: str = ""
    trace: list[str] = field(default_factory=list)
    handles: dict[int, str] = field(default_factory=dict)
    failed_syncs: set[str] = field(default_factory=set)

    def role(self, path: object) -> str | None:
        """What a path is to the store; None if it is no concern of it."""
        place = Path(os.fsdecode(path)) if isinstance(path, str | Path) else None
        if place is None or not place.is_relative_to(self.folder.parent):
            return None
        inside = place.relative_to(self.folder.parent).parts[1:]
        if not inside:
            return "folder"
        if inside[0] == "evidence":
            return "evidence" if len(inside) > 2 else "evidence folder"
        names = {".lock": "lock", "index.jsonl": "index", "index.checkpoint.json": "checkpoint"}
        return names.get(inside[0], "checkpoint")  # a new one has a name of its own

    def call(self, op: str, what: str, real: Callable[[], Any]) -> Any:
        """One call that either happens or fails."""
        self.trace.append(f"{op} {what}")
        if len(self.trace) != self.number:
            return real()
        if self.fault in (KILLED, HALFWAY, LAST_BYTE):
            kill_ourselves()
        if op == "close":  # the handle is gone all the same
            real()
        code = getattr(errno, self.fault)
        raise OSError(code, os.strerror(code))

    def write(self, what: str, data: bytes, real: Callable[[bytes], int]) -> int:
        """One call that can also happen in part."""
        if len(self.trace) + 1 != self.number or self.fault not in (HALFWAY, LAST_BYTE, SHORT):
            result: int = self.call("write", what, lambda: real(data))
            return result
        self.trace.append(f"write {what}")
        part = data[:-1] if self.fault == LAST_BYTE else data[: len(data) // 2]
        written = real(part)
        if self.fault != SHORT:
            kill_ourselves()
        return written

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The store's calls go through here."""
        disk = self

        class Raw(io.FileIO):
            """A file that Python's own buffering writes to."""

            def __init__(self, path: Path, mode: str, what: str) -> None:
                self.what = what
                super().__init__(path, mode)
                disk.handles[self.fileno()] = what

            def write(self, data: Any, /) -> int:
                return disk.write(self.what, bytes(data), super().write)

            def close(self) -> None:
                if self.closed:
                    return
                handle = self.fileno()
                disk.call("close", self.what, super().close)
                disk.handles.pop(handle, None)

        def opened(path: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
            what = disk.role(path)
            if what is None:
                return real["io"](path, mode, *args, **kwargs)
            if mode == "xb":
                raw = disk.call("open", what, lambda: Raw(path, mode, what))
                return io.BufferedWriter(raw)
            return disk.call("read", what, lambda: real["io"](path, mode, *args, **kwargs))

        def os_open(path: Any, *args: Any, **kwargs: Any) -> int:
            what = disk.role(path)
            if what is None:
                return int(real["open"](path, *args, **kwargs))
            handle: int = disk.call("open", what, lambda: real["open"](path, *args, **kwargs))
            disk.handles[handle] = what
            return handle

        def os_close(handle: int) -> None:
            what = disk.handles.pop(handle, None)
            if what is None:
                real["close"](handle)
            else:
                disk.call("close", what, lambda: real["close"](handle))

        def fsync(handle: int) -> None:
            what = disk.handles[handle]
            assert what not in disk.failed_syncs, f"{what} was synced again after a failed sync"
            failing = len(disk.trace) + 1 == disk.number
            if failing:
                disk.failed_syncs.add(what)
            disk.call("sync", what, lambda: real["fsync"](handle))

        def named(op: str, name: str, target: int) -> Callable[..., Any]:
            def wrapper(*args: Any, **kwargs: Any) -> Any:
                what = disk.role(args[target])
                if what is None:
                    return real[name](*args, **kwargs)
                return disk.call(op, what, lambda: real[name](*args, **kwargs))

            return wrapper

        def pwrite(handle: int, data: bytes, offset: int) -> int:
            what = disk.handles[handle]
            return disk.write(what, data, lambda part: real["pwrite"](handle, part, offset))

        def ftruncate(handle: int, size: int) -> None:
            if handle not in disk.handles:
                real["ftruncate"](handle, size)
                return
            what = disk.handles[handle]
            disk.call("cut", what, lambda: real["ftruncate"](handle, size))

        ours: dict[str, Callable[..., Any]] = {
            "open": os_open,
            "close": os_close,
            "fsync": fsync,
            "pwrite": pwrite,
            "ftruncate": ftruncate,
            "mkdir": named("mkdir", "mkdir", 0),
            "replace": named("rename", "replace", 1),
        }
        real: dict[str, Callable[..., Any]] = {name: getattr(os, name) for name in ours}
        real["io"] = io.open
        with ExitStack() as stack:
            stack.enter_context(patch.object(io, "open", opened))
            for name, function in ours.items():
                stack.enter_context(patch.object(os, name, function))
            yield


def empty(place: InFolder) -> None:
    """Nothing yet."""


def one(place: InFolder) -> None:
    """One entry."""
    promote(place.store, 1)


def several(place: InFolder) -> None:
    """Three entries; one piece of the evidence is there, another one is damaged."""
    for number in (1, 2, 3):
        promote(place.store, number, EVIDENCE)
    sha = sha256(EVIDENCE[1])
    (place.folder / "evidence" / sha[:2] / sha).write_bytes(b"damaged")


def torn(place: InFolder) -> None:
    """Two entries and a third without its end, longer than the line that will come."""
    promote(place.store, 1)
    promote(place.store, 2)
    with place.store.file.open("ab") as file:
        file.write(b'{"actor":' + b"x" * 2000)


def only_torn(place: InFolder) -> None:
    """A first entry that was never committed."""
    place.folder.mkdir()
    place.store.file.write_bytes(b'{"actor":')


def lagging(place: InFolder) -> None:
    """Two entries with the checkpoint of the first."""
    promote(place.store, 1)
    before = place.store.checkpoint_file.read_bytes()
    promote(place.store, 2)
    place.store.checkpoint_file.write_bytes(before)


def no_checkpoint(place: InFolder) -> None:
    """One entry whose checkpoint was never written."""
    promote(place.store, 1)
    place.store.checkpoint_file.unlink()


FOLDER_STATES = (empty, several, torn, lagging, one, only_torn, no_checkpoint)


def disk_fails(tmp: Path, fault: str) -> Table:
    """``fault`` at every system call of a promotion, from every state of a folder."""
    table: Table = {}
    for state in FOLDER_STATES[: 4 if fault == "ENOSPC" else None]:
        start = InFolder(tmp / state.__name__ / "start")
        start.folder.parent.mkdir(parents=True)
        state(start)
        old = facts(start.store)
        for number, name in enumerate(_calls(start, tmp), start=1):
            op = name.split()[0]
            if fault in (HALFWAY, LAST_BYTE, SHORT) and op != "write":
                continue
            if fault == "ENOSPC" and op == "read":
                continue
            told, place = _promote_on(start, Disk(tmp / f"{state.__name__}{number}", number, fault))
            killed = fault in (KILLED, HALFWAY, LAST_BYTE)
            assert told.code == (-signal.SIGKILL if killed else 0), (name, told)
            outcome = settled(place, old)
            told.fits(outcome)
            checkpoint = place.store.read().checkpoint()
            assert checkpoint
            assert place.store.checkpoint_file.read_bytes() == checkpoint.to_line()
            table.setdefault((name, fault), set()).add(outcome)
            shutil.rmtree(place.folder)
    return table


def _promote_on(start: InFolder, disk: Disk) -> tuple[Told, InFolder]:
    """Promote in a copy of ``start``."""
    place = InFolder(disk.folder)
    if start.folder.exists():
        shutil.copytree(start.folder, place.folder)

    def work(trace: list[str]) -> None:
        disk.trace = trace
        with disk.in_place():
            promote(place.store, 9, EVIDENCE)

    return forked(work), place


def _calls(start: InFolder, tmp: Path) -> tuple[str, ...]:
    """The calls of a promotion that nothing happens to."""
    told, place = _promote_on(start, Disk(tmp / f"{start.folder.parent.name}0"))
    assert (told.code, told.error) == (0, ""), told
    shutil.rmtree(place.folder)
    return told.trace


# ----- the git store: its git commands ------------------------------------------------------

BEFORE, WHILE, AFTER = "killed before", "killed while it runs", "killed after"
MIDWAY, FAILS = "git is killed", "git fails"
GIT_FAULTS = (BEFORE, WHILE, AFTER, MIDWAY, FAILS)
# When it is too early or too late depends on the machine.
EITHER = {"new", "old"}


def faulty_git(number: int, fault: str, trace: list[str]) -> Any:
    """The ``subprocess`` that the git store sees: ``fault`` happens at its git command numbered
    ``number``."""

    class Popen(subprocess.Popen[bytes]):
        def __init__(self, args: list[str], **kwargs: Any) -> None:
            trace.append(git._verb(tuple(args[1:])))
            self.hit = len(trace) == number
            if self.hit and fault == BEFORE:
                kill_ourselves()
            if self.hit and fault == FAILS:
                args = ["git", "--no-such-option"]
            super().__init__(args, **kwargs)
            if self.hit and fault == WHILE:
                kill_ourselves()

        def communicate(self, *args: Any, **kwargs: Any) -> tuple[bytes, bytes]:
            if self.hit and fault == MIDWAY:
                time.sleep(random.uniform(0.001, 0.01))
                self.kill()
            said = super().communicate(*args, **kwargs)
            if self.hit and fault == AFTER:
                kill_ourselves()
            return said

    return SimpleNamespace(
        Popen=Popen, PIPE=subprocess.PIPE, TimeoutExpired=subprocess.TimeoutExpired
    )


def no_branch(place: OnGit) -> None:
    """A repository without anything."""


def three_entries(place: OnGit) -> None:
    """Three entries."""
    for number in (1, 2, 3):
        promote(place.store, number, EVIDENCE[:1])


def no_last_tag(place: OnGit) -> None:
    """The promotion is there but for its tag: what a remote leaves that died in between."""
    promote(place.store, 1)
    promote(place.store, 9, EVIDENCE)
    place.git("update-ref", "-d", "refs/tags/tiny@v0.9.0-dev")


GIT_STATES = (no_branch, three_entries, no_last_tag)


def git_fails(tmp: Path, fault: str) -> Table:
    """``fault`` at every git command of a promotion, from every state of a branch."""
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
            told, place = _promote_through(start, tmp / f"{state.__name__}{number}", number, fault)
            killed = fault in (BEFORE, WHILE, AFTER)
            assert told.code == (-signal.SIGKILL if killed else 0), (name, told)
            with hurried():
                outcome = settled(place, old)
            told.fits(outcome)
            whole(place)
            found = EITHER if fault == MIDWAY else {outcome}
            table.setdefault((f"git {name}", fault), set()).update(found)
            shutil.rmtree(place.bare.parent)
    return table


def _promote_through(start: OnGit, folder: Path, number: int, fault: str) -> tuple[Told, OnGit]:
    """Promote in a copy of ``start``, and wait for any git that is left alone."""
    folder.mkdir()
    place = OnGit(Path(shutil.copytree(start.bare, folder / "registry.git")))

    def work(trace: list[str]) -> None:
        tempfile.tempdir = str(folder)
        os.environ["TMPDIR"] = str(folder)
        with hurried(), patch.object(git, "subprocess", faulty_git(number, fault, trace)):
            promote(place.store, 9, EVIDENCE)

    told = forked(work)
    wait_until_left(folder)
    return told, place


@contextmanager
def hurried() -> Iterator[None]:
    """The git store waits for nobody."""
    with patch.object(
        git_ledger, "time", SimpleNamespace(sleep=lambda _: None, monotonic=time.monotonic)
    ):
        yield


def wait_until_left(folder: Path) -> None:
    """Until no process works in ``folder`` any more."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if not any(place.is_relative_to(folder) for place in _working_folders()):
            return
        time.sleep(0.01)
    raise AssertionError(f"somebody is still at work in {folder}")


def _working_folders() -> Iterator[Path]:
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                yield (process / "cwd").readlink()
            except OSError:
                continue


def whole(place: OnGit) -> None:
    """The branch is one line of commits, each with one more line, each with its tag."""
    entries, commits = place.store.read().entries, place.commits()
    history = place.git("rev-list", "--reverse", "--parents", BRANCH).decode()
    own_and_parent = [tuple(line.split()) for line in history.splitlines()]
    assert own_and_parent == [tuple(commits[:1]), *zip(commits[1:], commits, strict=False)]
    assert len(commits) == len(entries)
    form = "--format=%(*objectname)"
    tagged = place.git("for-each-ref", form, "refs/tags/tiny@*").decode().split()
    assert sorted(tagged) == sorted(commits)


# ----- the git store: the remote ------------------------------------------------------------

HEARS = ("the ledger", "the promoter hears")
TOLD = {"": "it is promoted", "SystemFailed": "the system failed", "Refused": "it is refused"}


@dataclass
class Remote:
    """A remote with three entries, and a promotion to it that something happens to."""

    place: OnGit
    environ: dict[str, str] = field(default_factory=dict)
    seconds: float = 60.0
    says: str = ""
    while_deciding: Callable[[], object] = lambda: None
    mend: Callable[[], object] = lambda: None
    competitor: Fact | None = None

    def hook(self, name: str, body: str) -> None:
        """A hook that is there until the remote is mended."""
        file = self.place.hook(name, body)
        self.mend = file.unlink


def hook_refuses(remote: Remote) -> None:
    """a pre-receive hook refuses"""
    remote.hook("pre-receive", "echo 'not today' >&2; exit 1")
    remote.says = "not today"


def tag_is_refused(remote: Remote) -> None:
    """an update hook refuses the tag only"""
    remote.hook("update", 'case "$1" in refs/tags/*) echo "no tags here" >&2; exit 1;; esac')
    remote.says = "no tags here"


def branch_is_refused(remote: Remote) -> None:
    """an update hook refuses the branch only"""
    remote.hook("update", 'case "$1" in refs/heads/*) echo "protected" >&2; exit 1;; esac')
    remote.says = "protected"


def killed_before_the_refs(remote: Remote) -> None:
    """receive-pack is killed before the refs move, each time"""
    remote.hook("pre-receive", "kill -9 $PPID")


def killed_once(remote: Remote) -> None:
    """receive-pack is killed before the refs move, once"""
    remote.hook("pre-receive", "mkdir was-here 2>/dev/null || exit 0; kill -9 $PPID")


def killed_with_locks(remote: Remote) -> None:
    """receive-pack is killed while it holds the locks, which stay"""
    remote.hook("reference-transaction", '[ "$1" != prepared ] || kill -9 $PPID')
    remote.says = ".lock': File exists"
    unhook = remote.mend

    def mend() -> None:
        unhook()
        locks = list((remote.place.bare / "refs").rglob("*.lock"))
        assert locks
        for lock in locks:
            lock.unlink()

    remote.mend = mend


def killed_when_committed(remote: Remote) -> None:
    """receive-pack is killed when the refs have just moved"""
    remote.hook("reference-transaction", '[ "$1" != committed ] || kill -9 $PPID')


def killed_after_the_refs(remote: Remote) -> None:
    """receive-pack is killed after the refs moved"""
    remote.hook("post-receive", "kill -9 $PPID")


def somebody_is_faster(remote: Remote) -> None:
    """somebody else moves the branch between read and push"""
    competing(remote, version(5))


def somebody_takes_the_version(remote: Remote) -> None:
    """somebody else promotes another bundle as this version between read and push"""
    competing(remote, version(9, B))


def somebody_does_the_same(remote: Remote) -> None:
    """somebody else does the very same between read and push"""
    competing(remote, version(9))


def competing(remote: Remote, fact: Fact) -> None:
    """Append ``fact`` the first time that the decision is asked for."""

    def compete() -> None:
        if facts(remote.place.store)[-1] != fact:
            remote.place.store.append(lambda _: fact, EVIDENCE)

    remote.while_deciding = compete
    remote.competitor = fact


def gone_before_reading(remote: Remote) -> None:
    """the remote is gone before it is read"""
    away(remote)


def gone_before_pushing(remote: Remote) -> None:
    """the remote goes away between read and push"""
    remote.while_deciding = lambda: away(remote)
    remote.mend = lambda: remote.place.bare.with_suffix(".away").rename(remote.place.bare)


def away(remote: Remote) -> None:
    """The repository is somewhere else."""
    elsewhere = remote.place.bare.with_suffix(".away")
    remote.place.bare.rename(elsewhere)
    remote.mend = lambda: elsewhere.rename(remote.place.bare)


def read_only(remote: Remote) -> None:
    """the remote's disk is read-only"""
    if bwrap_works():
        over_ssh(remote, 'exec bwrap --ro-bind / / --dev /dev --proc /proc sh -c "$command"')
    else:
        over_ssh(remote, 'ulimit -f 0; exec sh -c "$command"')


def full(remote: Remote) -> None:
    """the remote can't write to any file"""
    over_ssh(remote, 'ulimit -f 0; exec sh -c "$command"')


def no_network(remote: Remote) -> None:
    """there is no network"""
    over_ssh(remote, "echo 'no route to host' >&2; exit 255")
    remote.says = "no route to host"


def network_goes(remote: Remote) -> None:
    """the network goes away while the server takes the push, which goes on"""
    relays = remote.place.bare / "relays"
    over_ssh(
        remote,
        'mkfifo "$work.in" "$work.out"; exec 3<&0\n'
        'setsid sh -c "$command" <"$work.in" >"$work.out" &\n'
        'cat <&3 >"$work.in" & first=$!\n'
        'cat <"$work.out" & second=$!\n'
        f'case "$command" in *receive-pack*) echo $first $second >{relays};; esac\n'
        "wait $second",
    )
    unscript = remote.mend
    remote.hook("pre-receive", f"[ -e {relays} ] && kill -9 $(cat {relays}); exit 0")
    unhook = remote.mend
    remote.mend = lambda: (unscript(), unhook())


def server_goes(remote: Remote) -> None:
    """the server is killed in the middle of a push over ssh, once"""
    over_ssh(remote, 'exec setsid --wait sh -c "$command"')
    remote.hook("pre-receive", "mkdir was-here 2>/dev/null || exit 0; kill -9 $PPID")


def we_go(remote: Remote) -> None:
    """we and our git are killed in the middle of a push over ssh, the server goes on"""
    ours = remote.place.bare / "client"
    over_ssh(
        remote,
        f'case "$command" in *receive-pack*) echo $PPID >>{ours};; esac\n'
        'exec setsid --wait sh -c "$command"',
    )
    remote.hook("pre-receive", f"[ -e {ours} ] && kill -9 $(cat {ours}) && rm {ours}; exit 0")
    remote.while_deciding = lambda: ours.write_text(f"{os.getpid()}\n")


def too_late(remote: Remote) -> None:
    """the server takes longer than we wait, and goes on"""
    over_ssh(remote, 'exec setsid --wait sh -c "$command"')
    remote.hook("pre-receive", "mkdir was-here 2>/dev/null || exit 0; sleep 2")
    remote.seconds = 1.0


def hangs(remote: Remote) -> None:
    """the server on this machine hangs, and is ended with our git"""
    remote.hook("pre-receive", "sleep 30")
    remote.seconds = 0.7
    remote.says = "took more than 1 seconds"


REMOTE_FAULTS: tuple[Callable[[Remote], None], ...] = (
    *(hook_refuses, tag_is_refused, branch_is_refused),
    *(killed_before_the_refs, killed_once, killed_with_locks),
    *(killed_when_committed, killed_after_the_refs),
    *(somebody_is_faster, somebody_takes_the_version, somebody_does_the_same),
    *(gone_before_reading, gone_before_pushing, read_only, full),
    *(no_network, network_goes, server_goes, we_go, too_late, hangs),
)


def remote_fails(tmp: Path, fault: Callable[[Remote], None]) -> Table:
    """One promotion while ``fault`` holds, and what the promoter is told."""
    place = OnGit.new(tmp / "registry.git")
    three_entries(place)
    before = facts(place.store)
    remote = Remote(place)
    fault(remote)

    def work(_: list[str]) -> None:
        tempfile.tempdir = str(tmp)
        os.environ.update(remote.environ)
        with patch.object(git, "GIT_SECONDS", remote.seconds):
            through = OnGit(place.bare, remote.environ.get("URL", ""))
            _promote_and(through.store, remote.while_deciding)

    told = forked(work)
    wait_until_left(tmp)
    remote.mend()
    assert told.error in TOLD, told
    assert remote.says in told.message
    if fault is somebody_takes_the_version:
        assert "entry 4" in told.message
        assert facts(place.store) == [*before, version(9, B)]
        return {(fault.__doc__ or "", HEARS[0]): {"old"}, _heard(fault): {TOLD[told.error]}}
    if remote.competitor not in (None, version(9)):
        assert remote.competitor
        before.append(remote.competitor)
    outcome = settled(place, before)
    if told.error != "Refused":
        told.fits(outcome)
    whole(place)
    heard = TOLD[told.error] if told.code == 0 else "nothing more"
    return {(fault.__doc__ or "", HEARS[0]): {outcome}, _heard(fault): {heard}}


def _heard(fault: Callable[[Remote], None]) -> tuple[str, str]:
    return fault.__doc__ or "", HEARS[1]


def _promote_and(store: Store, meanwhile: Callable[[], object]) -> None:
    """Promote; ``meanwhile`` happens after each reading."""

    def decide(ledger: Ledger) -> Fact | Entry:
        for entry in ledger.entries:
            if entry.fact.semver == version(9).semver:
                if entry.fact != version(9):
                    raise Refused(f"entry {entry.seq} has it")
                return entry
        meanwhile()
        return version(9)

    store.append(decide, EVIDENCE)


def over_ssh(remote: Remote, body: str) -> None:
    """Reach the remote by an ``ssh`` that runs ``body`` (sh), with the ``$command`` for the
    server and a free path, ``$work``."""
    remote.environ = ssh(remote.place.bare.parent, body)
    remote.environ["URL"] = f"ssh://host{remote.place.bare}"


def ssh(folder: Path, body: str) -> dict[str, str]:
    """An environment in which git's ``ssh`` is ``body`` (sh)."""
    script = folder / "ssh"
    last = "for command; do :; done"
    script.write_text(f"#!/bin/sh\n{last}\nwork={folder}/ssh.$$\n{body}\n")
    script.chmod(0o755)
    return {"GIT_SSH_COMMAND": str(script), "GIT_SSH_VARIANT": "ssh"}


# ----- full disks ---------------------------------------------------------------------------

PAGE = 4096


def bwrap_works() -> bool:
    """Whether this machine lets us make a little filesystem of our own."""
    if shutil.which("bwrap") is None:
        return False
    command = ["bwrap", "--ro-bind", "/", "/", "--size", "4096", "--tmpfs", "/tmp", "true"]
    return subprocess.run(command, capture_output=True).returncode == 0


def disk_is_full(tmp: Path, store: str) -> Table:
    """A promotion where only so many pages are free on the disk that holds the registry: on a
    filesystem of its own, or by a limit on the size of files."""
    work = [sys.executable, "-m", "lynx_pipeline_tests.faults", store]
    kind = "an ever less full filesystem"
    tmp.mkdir(exist_ok=True)
    if bwrap_works():
        size = str(PAGE * (100 if store == "directory" else 400))
        box = ["bwrap", "--bind", "/", "/", "--dev", "/dev", "--proc", "/proc"]
        work = [*box, "--size", size, "--tmpfs", str(tmp), "--", *work, str(tmp), "fill"]
    else:
        work = [*work, str(tmp), "limit"]
    root = str(Path(__file__).parents[1])
    done = subprocess.run(work, capture_output=True, text=True, cwd=root)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found["told"]) > 1, found
    if store == "directory":
        return {(kind, "ENOSPC"): set(found["outcomes"])}
    told = {TOLD[error] for error in found["told"]}
    return {(kind, HEARS[0]): set(found["outcomes"]), (kind, HEARS[1]): told}


def _fill(store: str, tmp: Path, how: str) -> dict[str, object]:
    """Promote with ever more room, until it works without an error."""
    outcomes, said, old = set(), set(), [version(n) for n in range(1, 8)]
    start, here, filler = tmp / "start", tmp / "here", tmp / "filler"
    first = InFolder(start) if store == "directory" else OnGit.new(start)
    for number in range(1, 8):  # nearly a page, so that the line that comes goes beyond it
        promote(first.store, number)
    for free in range(0, 1000, 1 if store == "directory" else 4):
        shutil.copytree(start, here)
        place = InFolder(here) if store == "directory" else OnGit(here)
        if how == "fill":
            _leave_pages(filler, free)

        def work(_: list[str], place: InFolder | OnGit = place, free: int = free) -> None:
            import resource

            tempfile.tempdir = "/dev/shm"
            if how == "limit":
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (free * 256, free * 256))
            with hurried():
                promote(place.store, 9, EVIDENCE)

        told = forked(work)
        filler.unlink(missing_ok=True)
        outcome = settled(place, old)
        told.fits(outcome)
        outcomes.add(outcome)
        shutil.rmtree(here)
        said.add(told.error)
        if not told.error:
            break
    return {"outcomes": sorted(outcomes), "told": sorted(said)}


def _leave_pages(filler: Path, free: int) -> None:
    with filler.open("wb", buffering=0) as file:
        room = os.statvfs(filler).f_bavail - free
        assert room > 0
        file.write(b"\0" * (room * PAGE))
    assert os.statvfs(filler).f_bavail == free


# ----- written down -------------------------------------------------------------------------

DISK, GIT, REMOTE = "The directory store", "The git store", "The git store's remote"
COLUMNS: Mapping[str, tuple[str, ...]] = {DISK: DISK_FAULTS, GIT: GIT_FAULTS, REMOTE: HEARS}
INTRO = """\
# What a fault leaves

Written by `python -m lynx_pipeline_tests.faults`; a test holds this file to what it finds.

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


def main(arguments: list[str]) -> None:
    if arguments:
        store, folder, how = arguments
        print(json.dumps(_fill(store, Path(folder), how)))
        return
    with tempfile.TemporaryDirectory(prefix="lynx-faults-") as folder:
        print(everything(Path(folder)), end="")


if __name__ == "__main__":
    main(sys.argv[1:])
