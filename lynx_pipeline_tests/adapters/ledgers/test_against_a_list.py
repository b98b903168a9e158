"""Random sequences of promotions, refusals, rollbacks, crashes, races and damage: both stores are
compared with a plain list of facts."""

import os
import shutil
import signal
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from lynx_pipeline.adapters import git
from lynx_pipeline.adapters.ledgers import git as git_ledger
from lynx_pipeline.domain.ledger.chain import Entry, Ledger
from lynx_pipeline.domain.ledger.facts import Fact, Promoted, Registered
from lynx_pipeline.domain.ledger.state import check_promotion, replay
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.errors import BadInput, Refused
from lynx_pipeline_tests.simulators.faults.disk import HALFWAY, KILLED, LAST_BYTE, Disk
from lynx_pipeline_tests.simulators.faults.git_commands import (
    AFTER,
    BEFORE,
    WHILE,
    assert_consistent,
    faulty_git,
    no_waiting,
    wait_until_unused,
)
from lynx_pipeline_tests.simulators.faults.trial import forked
from lynx_pipeline_tests.support.builders import REGISTERED, actor, fact, promoted, rolled_back
from lynx_pipeline_tests.support.places import A, B, InFolder, OnGit, Place, facts
from lynx_pipeline_tests.support.small_process import in_small_process

pytestmark = pytest.mark.slow

Decide = Callable[[Ledger], Fact | Entry]
VERSIONS = {
    Env.DEV: ["v0.1.0-dev", "v0.2.0-dev", "v0.1.0-dev.1"],
    Env.PROD: ["v0.1.0", "v0.2.0", "v0.10.0"],
}
shas = st.sampled_from([A, B])
versions = st.sampled_from(Env).flatmap(
    lambda env: st.tuples(st.just(env), st.sampled_from(VERSIONS[env]))
)
EVIDENCE = (b"some evidence",)


def must_not_be_called(_: Ledger) -> Fact:
    """A decision that must not be called."""
    raise AssertionError


def promoting(new: Promoted) -> Decide:
    """The registry's decision to promote it."""

    def decide(ledger: Ledger) -> Fact | Entry:
        return (
            check_promotion(ledger, new.env, new.model, new.canonical_sha, new.semver, None, {})
            or new
        )

    return decide


def numbers(semver: str) -> tuple[int, ...]:
    """A strict version as numbers."""
    return tuple(map(int, semver[1:].split(".")))


class AgainstAList(RuleBasedStateMachine):
    """Compares a store and :func:`check_promotion` with a list. Each store has its own ``crash``
    and ``race``."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="lynx-ledger-"))
        self.place = self.new_place()
        self.model: list[Fact] = []

    def new_place(self) -> Place:
        """A new place for the ledger under test."""
        raise NotImplementedError

    def crash(self, step: int, decide: Decide, how: int) -> None:
        """Append in a process that is killed at this step."""
        raise NotImplementedError

    def race(self, first: Fact, second: Fact) -> list[Fact]:
        """Append both concurrently; returns the order in which the ledger must have them."""
        raise NotImplementedError

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    # What the list expects.

    def promoted(self) -> dict[str, Promoted]:
        """The promotions by version."""
        return {f.semver: f for f in self.model if isinstance(f, Promoted)}

    def latest(self, env: Env) -> Fact | None:
        """The promotion that is in force in an environment."""
        last = [f for f in self.model if f.env is env and not isinstance(f, Registered)]
        return self.promoted()[last[-1].semver] if last else None

    def refused(self, new: Promoted) -> bool:
        """Whether the rules forbid this promotion."""
        known = self.promoted().get(new.semver)
        if known:
            return known.canonical_sha != new.canonical_sha
        prod = [numbers(s) for s, f in self.promoted().items() if f.env is Env.PROD]
        return new.env is Env.PROD and any(numbers(new.semver) <= other for other in prod)

    # The rules of the state machine.

    @rule(env=st.sampled_from(Env), sha=shas)
    def register(self, env: Env, sha: str) -> None:
        new = fact(event=REGISTERED, env=env, canonical_sha=sha)
        self.place.store.append(lambda _: new)
        self.model.append(new)

    @rule(which=versions, sha=shas)
    def promote(self, which: tuple[Env, str], sha: str) -> None:
        new = promoted(which[1], env=which[0], canonical_sha=sha)
        before = self.place.index()
        try:
            self.place.store.append(promoting(new), EVIDENCE)
        except Refused:
            assert self.refused(new)
            assert self.place.index() == before
            return
        assert not self.refused(new)
        if new.semver not in self.promoted():
            self.model.append(new)
        assert self.place.holds(EVIDENCE[0])

    @precondition(lambda self: self.promoted())
    @rule(data=st.data())
    def roll_back(self, data: st.DataObject) -> None:
        target = data.draw(st.sampled_from(list(self.promoted().values())))
        back = rolled_back(target, actor=target.actor and actor())
        self.place.store.append(lambda _: back)
        self.model.append(back)

    @rule(which=versions, sha=shas, step=st.integers(1, 30), how=st.integers(0, 2))
    def promote_and_crash(self, which: tuple[Env, str], sha: str, step: int, how: int) -> None:
        """The result is the old ledger, or the new one if the promotion is allowed."""
        new = promoted(which[1], env=which[0], canonical_sha=sha)
        self.crash(step, promoting(new), how)
        found = facts(self.place.store)
        may_be_new = not self.refused(new) and new.semver not in self.promoted()
        assert found in (self.model, [*self.model, new] if may_be_new else self.model)
        self.model = found

    @rule(sha=shas)
    def append_concurrently(self, sha: str) -> None:
        """Both entries are in the ledger, in either order."""
        first, second = (fact(event=REGISTERED, canonical_sha=s) for s in (sha, "c" * 64))
        self.model += self.race(first, second)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def tamper(self, data: st.DataObject) -> None:
        """Change one committed byte: it is detected and nothing is written. Then undo it."""
        whole_ledger = self.place.index()
        committed = whole_ledger.rindex(b"\n") + 1
        # Without its newline the last line counts as torn; only the checkpoint shows the damage.
        place = data.draw(st.integers(0, committed - 2))
        damaged = bytearray(whole_ledger)
        damaged[place] ^= data.draw(st.integers(1, 255))
        undo = self.damage(bytes(damaged))
        before = self.place.all()
        for use in (self.place.store.read, lambda: self.place.store.append(must_not_be_called)):
            with pytest.raises(BadInput, match=r"line \d+"):
                use()
        assert self.place.all() == before
        undo()

    def damage(self, raw: bytes) -> Callable[[], object]:
        """Replace the ledger with these bytes; returns how to undo it."""
        before = self.place.index()
        self.place.overwrite(raw)
        return lambda: self.place.overwrite(before)

    @invariant()
    def matches_the_model(self) -> None:
        ledger = self.place.store.read()
        assert [entry.fact for entry in ledger.entries] == self.model
        for env in Env:
            state = replay(ledger, env, "tiny", {})
            assert (state.latest.fact if state.latest else None) == self.latest(env)
            found = {semver: entry.fact for semver, entry in state.promoted.items()}
            assert found == {s: f for s, f in self.promoted().items() if f.env is env}
            assert not state.ignored


class FolderAgainstAList(AgainstAList):
    """The directory store."""

    place: InFolder

    def __init__(self) -> None:
        super().__init__()
        self.checkpoints: list[bytes] = []

    def new_place(self) -> InFolder:
        return InFolder(self.folder / "registry")

    def crash(self, step: int, decide: Decide, how: int) -> None:
        def work(trace: list[str]) -> None:
            # HALFWAY applies to writes only; at any other step the process is killed before it.
            disk = Disk(self.place.folder, step, (KILLED, HALFWAY, LAST_BYTE)[how], trace)
            with disk.in_place():
                self.place.store.append(decide, EVIDENCE)

        assert forked(work).error in ("", "Refused")

    def race(self, first: Fact, second: Fact) -> list[Fact]:
        children = []

        def decide(_: Ledger) -> Fact:
            child = os.fork()  # it must wait for the lock that this process holds
            if child == 0:
                try:
                    self.place.store.append(lambda _: second)
                except BaseException:
                    os._exit(1)
                os._exit(0)
            children.append(child)
            return first

        self.place.store.append(decide)
        assert [os.waitpid(child, 0)[1] for child in children] == [0]
        return [first, second]

    @precondition(lambda self: self.place.folder.exists())
    @rule(tail=st.binary(max_size=40))
    def append_a_torn_line(self, tail: bytes) -> None:
        """Append a torn line: a write that never reached its newline."""
        with self.place.store.file.open("ab") as file:
            file.write(tail.replace(b"\n", b""))

    @precondition(lambda self: self.checkpoints)
    @rule(data=st.data())
    def restore_an_old_checkpoint(self, data: st.DataObject) -> None:
        """Replace the checkpoint with an older one."""
        old = data.draw(st.sampled_from(self.checkpoints))
        self.place.store.checkpoint_file.write_bytes(old)

    @invariant()
    def collect_checkpoints(self) -> None:
        """Remember every checkpoint so far."""
        file = self.place.store.checkpoint_file
        if file.exists() and file.read_bytes() not in self.checkpoints:
            self.checkpoints.append(file.read_bytes())


class GitAgainstAList(AgainstAList):
    """The git store."""

    place: OnGit

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.stack.enter_context(no_waiting())
        # Nothing pushes while we read, so there is no need to wait for a contradiction to persist.
        self.stack.enter_context(patch.object(git_ledger, "PATIENCE", 1))

    def new_place(self) -> OnGit:
        return OnGit.new(self.folder / "registry.git")

    def teardown(self) -> None:
        self.stack.close()
        if self.model:
            assert_consistent(self.place)
        super().teardown()

    def crash(self, step: int, decide: Decide, how: int) -> None:
        work_in = Path(tempfile.mkdtemp(dir=self.folder))

        def work(trace: list[str]) -> None:
            tempfile.tempdir = str(work_in)
            fault = (BEFORE, WHILE, AFTER)[how]
            with patch.object(git, "subprocess", faulty_git(step % 15 + 1, fault, trace)):
                self.place.store.append(decide, EVIDENCE)

        outcome = forked(work)
        wait_until_unused(self.folder)
        assert outcome.code in (0, -signal.SIGKILL)
        assert outcome.error in ("", "Refused"), outcome

    def race(self, first: Fact, second: Fact) -> list[Fact]:
        ledger_sizes = []

        def decide(ledger: Ledger) -> Fact:
            ledger_sizes.append(len(ledger.entries))
            if len(ledger_sizes) == 1:
                self.place.store.append(lambda _: second)
            return first

        self.place.store.append(decide)
        assert ledger_sizes == [len(self.model), len(self.model) + 1]
        return [second, first]

    def damage(self, raw: bytes) -> Callable[[], object]:
        tip = self.place.commits()[-1]
        self.place.overwrite(raw)
        return lambda: self.place.git("update-ref", "refs/heads/lynx-registry", tip)

    @precondition(lambda self: self.model)
    @rule()
    def lose_the_last_tag(self) -> None:
        """Reading fails until the entry's writer appends it again."""
        last = self.place.store.read().entries[-1]
        before = self.place.refs()
        kind = (
            last.fact.semver if isinstance(last.fact, Promoted) else f"{last.fact.event}-{last.seq}"
        )
        self.place.git("update-ref", "-d", f"refs/tags/tiny@{kind}")
        for use in (self.place.store.read, lambda: self.place.store.append(lambda _: fact())):
            with pytest.raises(BadInput, match=rf"line {last.seq}: its tag tiny@{kind} is missing"):
                use()
        assert self.place.store.append(lambda ledger: ledger.entries[-1]) == (last, False)
        assert self.place.refs() == before


def explore(folder: Path, machine: type[AgainstAList], examples: int, steps: int) -> None:
    """Run the machine: so many sequences of so many steps, with their files in this folder."""
    with patch.object(tempfile, "tempdir", str(folder)):
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=examples,
                stateful_step_count=steps,
                deadline=None,
                suppress_health_check=[HealthCheck.too_slow],
            ),
        )


# Half and a sixteenth of the profile's examples.
EXAMPLES = settings().max_examples


def test_the_folder_store_against_a_list(memory_path: Path) -> None:
    """It behaves like a list of facts."""
    in_small_process(explore, memory_path, FolderAgainstAList, EXAMPLES // 2, min(40, EXAMPLES))


def test_the_git_store_against_a_list(memory_path: Path) -> None:
    """It behaves like a list of facts."""
    in_small_process(explore, memory_path, GitAgainstAList, EXAMPLES // 16, 20)
