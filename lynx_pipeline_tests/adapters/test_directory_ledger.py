"""The ledger on a real disk: many writers, kills at every step, a full and a failing disk."""

import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from lynx_pipeline.adapters import directory_ledger
from lynx_pipeline.adapters.directory_ledger import DirectoryLedger
from lynx_pipeline.domain.ledger import (
    PROMOTED,
    REGISTERED,
    ROLLED_BACK,
    Entry,
    Fact,
    Ledger,
    check_promotion,
    fold,
)
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.errors import BadInput, LynxError, Refused, SystemFailed
from lynx_pipeline_tests.builders import actor, fact

A, B = "a" * 64, "b" * 64
Bytes = dict[str, bytes]


def version(number: int, sha: str = A) -> Fact:
    """The dev promotion of ``v0.<number>.0-dev``."""
    return fact(event=PROMOTED, semver=f"v0.{number}.0-dev", canonical_sha=sha)


def promote(store: DirectoryLedger, number: int) -> Entry:
    """Promote as the registry does: an entry that stands already is not written again."""
    new = version(number)
    assert new.semver
    return store.append(
        lambda ledger: check_promotion(ledger, Env.DEV, "tiny", A, new.semver or "") or new
    )


def facts(store: DirectoryLedger) -> list[Fact]:
    """What the store holds, verified."""
    return [entry.fact for entry in store.read().entries]


def files(folder: Path) -> Bytes:
    """The folder's files but the lock."""
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.name != ".lock"}


def unlike(_: Ledger) -> Fact:
    """A decision that must not be asked for."""
    raise AssertionError


@pytest.fixture
def store(tmp_path: Path) -> DirectoryLedger:
    """A store that does not exist yet."""
    return DirectoryLedger(tmp_path / "registry")


def test_reading_nothing_is_an_empty_ledger_and_creates_nothing(store: DirectoryLedger) -> None:
    """A serving process may have no right to write."""
    assert store.read() == Ledger()
    assert not store.folder.exists()


def test_appended_facts_read_back_in_order(store: DirectoryLedger) -> None:
    """And the file is nothing but the entries' lines."""
    entries = [promote(store, number) for number in range(4)]
    assert list(store.read().entries) == entries
    assert store.file.read_bytes() == b"".join(entry.to_line() for entry in entries)


def test_deciding_for_an_entry_that_stands_changes_no_byte(store: DirectoryLedger) -> None:
    """The same promotion twice."""
    promote(store, 1)
    second = promote(store, 2)
    before = files(store.folder)
    assert promote(store, 2) == second
    assert files(store.folder) == before


def test_a_decision_that_raises_writes_nothing(store: DirectoryLedger) -> None:
    """And lets its error through."""
    promote(store, 1)
    before = files(store.folder)

    def no(_: Ledger) -> Fact:
        raise Refused("no")

    with pytest.raises(Refused, match=r"^no$"):
        store.append(no)
    assert files(store.folder) == before


def test_a_fact_that_would_not_read_back_is_not_written(store: DirectoryLedger) -> None:
    """A model name that is empty, a cost beyond what JSON can hold exactly."""
    promote(store, 1)
    before = files(store.folder)
    for bad in (fact(model=""), fact(cpqu=1e17), fact(evidence={})):
        with pytest.raises(BadInput):
            store.append(lambda _, bad=bad: bad)  # type: ignore[misc]
        assert files(store.folder) == before


# ----- many writers -------------------------------------------------------------------------

_WRITER = """
import sys
from pathlib import Path
from lynx_pipeline.adapters.directory_ledger import DirectoryLedger
from lynx_pipeline_tests.builders import actor, fact
store = DirectoryLedger(Path(sys.argv[1]))
sys.stdin.readline()
for number in range(5):
    store.append(lambda ledger: fact(canonical_sha=f"{sys.argv[2]}-{number}"))
    store.read()
"""


def test_many_processes_write_one_history(store: DirectoryLedger) -> None:
    """Eight processes of five appends each, started together: forty entries, each writer's own
    in its order, and no reader in between sees anything but a whole ledger."""
    command = [sys.executable, "-c", _WRITER, str(store.folder)]
    writers = [
        subprocess.Popen([*command, str(w)], stdin=subprocess.PIPE, text=True) for w in range(8)
    ]
    for writer in writers:
        assert writer.stdin
        writer.stdin.write("go\n")
        writer.stdin.close()
    while any(writer.poll() is None for writer in writers):
        store.read()
    assert [writer.returncode for writer in writers] == [0] * 8
    written = [f.canonical_sha for f in facts(store)]
    assert len(written) == 40
    for w in range(8):
        assert [sha for sha in written if sha.startswith(f"{w}-")] == [f"{w}-{n}" for n in range(5)]


def test_a_lock_that_is_held_too_long_is_the_system_failing(
    store: DirectoryLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message says what to wait for."""
    monkeypatch.setattr(directory_ledger, "LOCK_SECONDS", 0.1)

    def decide(_: Ledger) -> Fact:
        with pytest.raises(SystemFailed, match="another process has held"):
            DirectoryLedger(store.folder).append(unlike)
        return version(1)

    store.append(decide)
    assert facts(store) == [version(1)]


# ----- states a ledger can be found in ------------------------------------------------------


def empty(store: DirectoryLedger) -> None:
    """Nothing yet."""


def one(store: DirectoryLedger) -> None:
    """One entry."""
    promote(store, 1)


def several(store: DirectoryLedger) -> None:
    """Three entries."""
    for number in (1, 2, 3):
        promote(store, number)


def torn(store: DirectoryLedger) -> None:
    """Two entries and a third without its end, longer than the line that will come."""
    promote(store, 1)
    promote(store, 2)
    with store.file.open("ab") as file:
        file.write(b'{"actor":' + b"x" * 2000)


def only_torn(store: DirectoryLedger) -> None:
    """A first entry that was never committed."""
    store.folder.mkdir()
    store.file.write_bytes(b'{"actor":')


def lagging(store: DirectoryLedger) -> None:
    """Two entries with the checkpoint of the first."""
    promote(store, 1)
    before = store.checkpoint_file.read_bytes()
    promote(store, 2)
    store.checkpoint_file.write_bytes(before)


def no_checkpoint(store: DirectoryLedger) -> None:
    """One entry whose checkpoint was never written."""
    promote(store, 1)
    store.checkpoint_file.unlink()


STATES = [empty, one, several, torn, only_torn, lagging, no_checkpoint]
State = Callable[[DirectoryLedger], None]
each_state = pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)

SYSTEM = [(os, name) for name in ("open", "pwrite", "ftruncate", "fsync", "close")]
CALLS: list[tuple[Any, str]] = [*SYSTEM, (Path, "replace"), (Path, "mkdir"), (Path, "unlink")]


@contextmanager
def at_call(number: int, act: Callable[[str, tuple[Any, ...]], None]) -> Iterator[list[str]]:
    """Run ``act(name, arguments)`` just before the ``number``-th system call of an append.
    Yields the names of the calls made so far."""
    made: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        for owner, name in CALLS:
            real = getattr(owner, name)

            def call(*args: Any, _real: Any = real, _name: str = name, **kwargs: Any) -> Any:
                made.append(_name)
                if len(made) == number:
                    act(_name, args)
                return _real(*args, **kwargs)

            patch.setattr(owner, name, call)
        yield made


def in_child(work: Callable[[], None]) -> int:
    """Run ``work`` in a forked process; its exit code, or minus the signal that killed it."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed(name: str, args: tuple[Any, ...]) -> None:
    """The process ends here, without a chance to clean up."""
    os.kill(os.getpid(), signal.SIGKILL)


def killed_halfway(name: str, args: tuple[Any, ...]) -> None:
    """The same, but half of what was being written is on the disk."""
    if name == "pwrite":
        handle, line, offset = args
        os.lseek(handle, offset, os.SEEK_SET)
        os.write(handle, line[: len(line) // 2])
    killed(name, args)


def killed_after(name: str, args: tuple[Any, ...]) -> None:
    """The same, but all of it is, up to the last byte but one."""
    if name == "pwrite":
        handle, line, offset = args
        os.lseek(handle, offset, os.SEEK_SET)
        os.write(handle, line[:-1])
    killed(name, args)


@each_state
@pytest.mark.parametrize(
    "end", [killed, killed_halfway, killed_after], ids=lambda end: end.__name__
)
def test_a_kill_at_any_step_leaves_the_old_or_the_new_ledger(
    tmp_path: Path, state: State, end: Callable[[str, tuple[Any, ...]], None]
) -> None:
    """And the next append converges to the new one, however the first one ended."""
    step, outcomes = 0, set()
    while True:
        step += 1
        store = DirectoryLedger(tmp_path / f"step{step}")
        state(store)
        old = facts(store)
        new = [*old, version(9)]

        def work(store: DirectoryLedger = store, step: int = step) -> None:
            with at_call(step, end):
                promote(store, 9)

        code = in_child(work)
        found = facts(store)
        assert found in (old, new)
        outcomes.add(len(found) - len(old))
        promote(store, 9)
        assert facts(store) == new
        assert store.read().torn == 0
        promote(store, 10)
        assert facts(store) == [*new, version(10)]
        if code == 0:
            break
        assert code == -signal.SIGKILL
    assert step > 8  # the steps were really visited
    assert outcomes == {0, 1}


@each_state
def test_a_failing_disk_at_any_step_leaves_the_old_or_the_new_ledger(
    tmp_path: Path, state: State
) -> None:
    """EIO from any one system call: our error, a whole ledger, and running it again is right."""

    def broken(name: str, args: tuple[Any, ...]) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    step = 0
    while True:
        step += 1
        store = DirectoryLedger(tmp_path / f"step{step}")
        state(store)
        old = facts(store)
        failed = False
        with at_call(step, broken) as made:
            try:
                promote(store, 9)
            except SystemFailed as error:
                failed = True
                assert "Input/output error" in str(error)
        assert facts(store) in (old, [*old, version(9)])
        promote(store, 9)
        assert facts(store) == [*old, version(9)]
        if len(made) < step:
            assert not failed
            return


def test_a_failed_sync_is_not_tried_again(
    store: DirectoryLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel may have dropped the pages and would now say that all is well."""
    several(store)
    before = files(store.folder)
    synced = []

    def fsync(handle: int) -> None:
        synced.append(Path(f"/proc/self/fd/{handle}").readlink())
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(SystemFailed, match="The ledger is as it was"):
            promote(store, 9)
    assert synced == [store.file]
    assert files(store.folder) == before


def test_an_entry_that_cannot_be_taken_back_is_not_called_gone(
    store: DirectoryLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sync and truncation both fail: whether it counts is only known when the disk works."""
    several(store)

    def broken(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", broken)
        patch.setattr(os, "ftruncate", broken)
        with pytest.raises(SystemFailed, match="neither be written nor be taken back"):
            promote(store, 9)
    promote(store, 9)
    assert facts(store)[-1] == version(9)
    assert len(facts(store)) == 4


@pytest.mark.parametrize("room", [0, 1, 50, 300, -1], ids=lambda room: f"room {room}")
@each_state
def test_a_full_disk_leaves_the_old_ledger(store: DirectoryLedger, state: State, room: int) -> None:
    """The file may grow by ``room`` bytes only (-1: by all but the last byte of the line)."""
    state(store)
    old = facts(store)
    line = store.read().next_entry(version(9)).to_line()
    limit = store.read().size + (room if room >= 0 else len(line) - 1)

    def work() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        try:
            promote(store, 9)
        except SystemFailed:
            os._exit(42)

    assert in_child(work) == 42
    assert facts(store) == old
    promote(store, 9)
    assert facts(store) == [*old, version(9)]


@pytest.mark.parametrize(
    ("make", "error"),
    [
        pytest.param(lambda s: s.folder.write_text("x"), SystemFailed, id="a file, not a folder"),
        pytest.param(lambda s: s.file.mkdir(parents=True), SystemFailed, id="index is a folder"),
        pytest.param(
            lambda s: s.checkpoint_file.mkdir(parents=True), SystemFailed, id="checkpoint too"
        ),
    ],
)
def test_a_place_that_cannot_hold_a_ledger_is_the_system_failing(
    store: DirectoryLedger, make: Callable[[DirectoryLedger], object], error: type[LynxError]
) -> None:
    """Not a traceback."""
    make(store)
    with pytest.raises(error):
        store.append(lambda _: version(1))


# ----- damage -------------------------------------------------------------------------------

DAMAGE: list[Any] = [
    pytest.param(lambda s: s.file.unlink(), id="index gone"),
    pytest.param(lambda s: s.file.write_bytes(b""), id="index empty"),
    pytest.param(lambda s: s.checkpoint_file.unlink(), id="checkpoint gone"),
    pytest.param(lambda s: s.checkpoint_file.write_bytes(b""), id="checkpoint empty"),
    pytest.param(lambda s: s.checkpoint_file.write_bytes(b"{}"), id="checkpoint says nothing"),
    pytest.param(
        lambda s: s.checkpoint_file.write_bytes(b'{"hash":"x","seq":3,"size":1,"skip":true}'),
        id="checkpoint says more",
    ),
    pytest.param(
        lambda s: s.file.write_bytes(b"".join(s.file.read_bytes().splitlines(True)[:2])), id="cut"
    ),
    pytest.param(lambda s: s.file.write_bytes(s.file.read_bytes()[:-1]), id="last newline gone"),
    pytest.param(lambda s: s.file.write_bytes(s.file.read_bytes() + b"\n"), id="blank line"),
    pytest.param(lambda s: s.file.write_bytes(s.file.read_bytes() * 2), id="doubled"),
]


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_refused_and_nothing_is_written_over_it(
    store: DirectoryLedger, damage: Callable[[DirectoryLedger], object]
) -> None:
    """Neither reading nor appending goes on, and what is left stays for whoever looks into it."""
    several(store)
    damage(store)
    before = files(store.folder)
    with pytest.raises(BadInput):
        store.read()
    with pytest.raises(BadInput):
        store.append(unlike)
    assert files(store.folder) == before


# ----- any sequence of events, against a list -----------------------------------------------

shas = st.sampled_from([A, B])
VERSIONS = {
    Env.DEV: ["v0.1.0-dev", "v0.2.0-dev", "v0.1.0-dev.1"],
    Env.PROD: ["v0.1.0", "v0.2.0", "v0.10.0"],
}
versions = st.sampled_from(Env).flatmap(
    lambda env: st.tuples(st.just(env), st.sampled_from(VERSIONS[env]))
)


class AgainstAList(RuleBasedStateMachine):
    """The store and :func:`check_promotion` against a plain list of facts."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="lynx-ledger-"))
        self.store = DirectoryLedger(self.folder / "registry")
        self.model: list[Fact] = []
        self.latest: dict[Env, Fact] = {}
        self.checkpoints: list[bytes] = []

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    def promoted(self) -> dict[str, Fact]:
        """The promotions by version."""
        return {f.semver: f for f in self.model if f.event == PROMOTED and f.semver}

    @rule(env=st.sampled_from(Env), sha=shas)
    def register(self, env: Env, sha: str) -> None:
        new = fact(event=REGISTERED, env=env, canonical_sha=sha)
        self.store.append(lambda _: new)
        self.model.append(new)
        self._keep_checkpoint()

    @rule(which=versions, sha=shas)
    def promote(self, which: tuple[Env, str], sha: str) -> None:
        env, semver = which
        new = fact(event=PROMOTED, env=env, semver=semver, canonical_sha=sha)
        known = self.promoted().get(semver)
        newest = [_numbers(s) for s, f in self.promoted().items() if f.env is Env.PROD]
        too_old = env is Env.PROD and any(_numbers(semver) <= other for other in newest)
        refused = known.canonical_sha != sha if known else too_old
        before = self._bytes()
        try:
            self.store.append(
                lambda ledger: check_promotion(ledger, env, "tiny", sha, semver) or new
            )
        except Refused:
            assert refused
            assert self._bytes() == before
            return
        assert not refused
        if known is None:
            self.model.append(new)
            self.latest[env] = new
        self._keep_checkpoint()

    @precondition(lambda self: self.promoted())
    @rule(data=st.data())
    def roll_back(self, data: st.DataObject) -> None:
        target = data.draw(st.sampled_from(list(self.promoted().values())))
        back = replace(target, event=ROLLED_BACK, actor=target.actor and actor())
        self.store.append(lambda _: back)
        self.model.append(back)
        self.latest[target.env] = target
        self._keep_checkpoint()

    @precondition(lambda self: self.store.folder.exists())
    @rule(tail=st.binary(max_size=40))
    def tear(self, tail: bytes) -> None:
        """A write that never got to its newline."""
        with self.store.file.open("ab") as file:
            file.write(tail.replace(b"\n", b""))

    @precondition(lambda self: self.checkpoints)
    @rule(data=st.data())
    def lag(self, data: st.DataObject) -> None:
        """The checkpoint is an older one."""
        self.store.checkpoint_file.write_bytes(data.draw(st.sampled_from(self.checkpoints)))

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def tamper(self, data: st.DataObject) -> None:
        """One committed byte becomes another; it is seen, nothing is written, and we mend it."""
        whole = self.store.file.read_bytes()
        committed = whole.rindex(b"\n") + 1
        # Without its newline the last line may be torn: that is for the checkpoint to know.
        place = data.draw(st.integers(0, committed - 2))
        damaged = bytearray(whole)
        damaged[place] ^= data.draw(st.integers(1, 255))
        self.store.file.write_bytes(damaged)
        for use in (self.store.read, lambda: self.store.append(unlike)):
            with pytest.raises(BadInput, match=r"line \d+"):
                use()
        assert self.store.file.read_bytes() == bytes(damaged)
        self.store.file.write_bytes(whole)

    @invariant()
    def holds_the_model(self) -> None:
        ledger = self.store.read()
        assert [entry.fact for entry in ledger.entries] == self.model
        for env in Env:
            state = fold(ledger, env, "tiny")
            latest = state.latest.fact if state.latest else None
            assert latest == self.latest.get(env)
            found = {semver: entry.fact for semver, entry in state.promoted.items()}
            assert found == {s: f for s, f in self.promoted().items() if f.env is env}

    def _keep_checkpoint(self) -> None:
        self.checkpoints.append(self.store.checkpoint_file.read_bytes())

    def _bytes(self) -> bytes:
        return self.store.file.read_bytes() if self.store.file.exists() else b""


def _numbers(semver: str) -> tuple[int, ...]:
    return tuple(map(int, semver[1:].split(".")))


AgainstAList.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestAgainstAList = AgainstAList.TestCase
