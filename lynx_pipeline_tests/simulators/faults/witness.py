"""A witness: lets each of its system calls, and on git each of its git commands, fail."""

import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from lynx_pipeline.adapters import git
from lynx_pipeline.adapters.witness_key import VARIABLE
from lynx_pipeline.config import Settings, load_settings
from lynx_pipeline.domain.ledger.tree_head import TreeHead, read_body, read_note, tree_head
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.registry.cosigning import witness
from lynx_pipeline_tests.simulators.faults.disk import KILLS, Disk, failpoints, parts_below
from lynx_pipeline_tests.simulators.faults.git_commands import (
    AFTER,
    BEFORE,
    EITHER,
    MIDWAY,
    WHILE,
    faulty_git,
    no_waiting,
    wait_until_unused,
)
from lynx_pipeline_tests.simulators.faults.trial import ChildResult, Table, forked
from lynx_pipeline_tests.support.builders import promoted
from lynx_pipeline_tests.support.places import InFolder, OnGit, facts
from lynx_pipeline_tests.support.signing import (
    RELEASE,
    private_pem,
    sign,
    signatures_table,
    witness_key,
    witnesses_table,
)

NAME = "w1"


@dataclass(frozen=True)
class Machine:
    """A witness's machine in ``folder``, and the registry that it witnesses in the same folder, so
    that both are copied together."""

    folder: Path
    on_git: bool

    @property
    def place(self) -> InFolder | OnGit:
        """The registry."""
        if self.on_git:
            return OnGit(self.folder / "registry.git")
        return InFolder(self.folder / "registry")

    @property
    def settings(self) -> Settings:
        """The witness's settings, in prod."""
        return load_settings(self.folder, {"LYNX_ENV": Env.PROD})

    def configure(self) -> None:
        """Write the settings: the registry is in another folder in each copy."""
        (self.folder / "pyproject.toml").write_text(
            f'[tool.lynx_pipeline]\nmodel = "tiny"\nregistry = "{self.place.setting}"\n'
            f"{signatures_table(RELEASE)}{witnesses_table(NAME, required=1)}"
        )

    def promote(self, number: int) -> None:
        """Append a signed promotion."""
        fact = promoted(f"v0.{number}.0", env=Env.PROD)
        self.place.store.append(lambda _: fact, (), sign)

    def sign(self) -> None:
        """Run the witness. As long as it remembers nothing, it is told that this is the first
        time."""
        os.environ[VARIABLE] = private_pem(NAME)
        witness(self.settings, first=not self._memory())

    def remembered(self) -> TreeHead | None:
        """What the witness remembers that it signed."""
        memory = self._memory()
        return read_body(memory[0].read_text()) if memory else None

    def published(self) -> TreeHead | None:
        """What it has published, its signature verified."""
        place = self.place
        if isinstance(place, InFolder):
            file = place.folder / "witnesses/tiny" / f"{NAME}.checkpoint"
            raw = file.read_bytes() if file.exists() else b""
        else:
            ref = f"refs/heads/lynx-witness/tiny/{NAME}"
            known = ref in place.refs()
            raw = place.git("cat-file", "commit", ref).partition(b"\n\n")[2] if known else b""
        return read_note(raw, witness_key(NAME)).head if raw else None

    def head(self) -> TreeHead:
        """What it should sign next."""
        ledger = self.place.store.read()
        return tree_head(ledger, "tiny", len(ledger.entries))

    def _memory(self) -> list[Path]:
        return list((self.folder / ".lynx" / "witness").glob("*.checkpoint"))


class WitnessDisk(Disk):
    """Intercepts the system calls of a witness's machine and of a registry in a folder."""

    def role(self, path: object) -> str | None:
        """See :meth:`Disk.role`."""
        match parts_below(self.folder, path):
            case (".lynx",) | (".lynx", "witness"):
                return "memory's folder"
            case (".lynx", "witness", name):
                return "lock" if name.endswith(".lock") else "memory"
            case ("registry", "witnesses", *rest):
                return "checkpoint" if len(rest) == 2 else "checkpoint's folder"
            case ("registry", *_):
                return "ledger"
        return None


def first(machine: Machine) -> None:
    """One entry, and the witness has signed nothing yet."""
    machine.promote(1)


def again(machine: Machine) -> None:
    """Two entries, of which the witness has signed one."""
    machine.promote(1)
    machine.sign()
    machine.promote(2)


State = Callable[[Machine], None]


def witness_fails(tmp: Path, fault: str) -> Table:
    """Inject ``fault`` at every system call of a witness of a registry in a folder, from every
    state."""
    table: Table = {}

    def injected(copy: Path, number: int, trace: list[str]) -> AbstractContextManager[None]:
        return WitnessDisk(copy, number, fault, trace).in_place()

    for start in (_start(tmp, state, on_git=False) for state in (first, again)):
        for number, name in failpoints(_run(start, 0, injected)[0].trace, fault):
            result, machine = _run(start, number, injected)
            result.check_end(fault in KILLS, name)
            outcome = _check_recovery(start, machine)
            result.check_outcome(outcome)
            table.setdefault((name, fault), set()).add(outcome)
    return table


def witness_on_git_fails(tmp: Path, fault: str) -> Table:
    """Inject ``fault`` at every git command of a witness of a registry on git, which has signed
    before."""
    table: Table = {}
    start = _start(tmp, again, on_git=True)

    def injected(copy: Path, number: int, trace: list[str]) -> AbstractContextManager[object]:
        tempfile.tempdir = os.environ["TMPDIR"] = str(copy)
        return patch.object(git, "subprocess", faulty_git(number, fault, trace))

    for number, name in enumerate(_run(start, 0, injected)[0].trace, start=1):
        result, machine = _run(start, number, injected)
        wait_until_unused(machine.folder)
        result.check_end(fault in (BEFORE, WHILE, AFTER), name)
        outcome = _check_recovery(start, machine)
        result.check_outcome(outcome)
        found = EITHER if fault == MIDWAY else {outcome}
        table.setdefault((f"git {name}", fault), set()).update(found)
    return table


def _start(tmp: Path, state: State, *, on_git: bool) -> Machine:
    machine = Machine(tmp / state.__name__ / "start", on_git)
    machine.folder.mkdir(parents=True)
    machine.configure()
    if on_git:
        OnGit.new(machine.folder / "registry.git")
    state(machine)
    return machine


def _run(
    start: Machine,
    number: int,
    injected: Callable[[Path, int, list[str]], AbstractContextManager[object]],
) -> tuple[ChildResult, Machine]:
    """Run the witness in a copy of ``start``."""
    machine = Machine(start.folder.with_name(str(number)), start.on_git)
    shutil.copytree(start.folder, machine.folder, dirs_exist_ok=True)
    machine.configure()

    def work(trace: list[str]) -> None:
        with no_waiting(), injected(machine.folder, number, trace):
            machine.sign()

    result = forked(work)
    if not number:
        assert (result.code, result.error) == (0, ""), result
    return result, machine


def _check_recovery(start: Machine, machine: Machine) -> str:
    """Whether the old checkpoint is published or the new one. Checks that the witness remembers
    what it has published, that the ledger is unchanged, and that running it again publishes the new
    one."""
    new = machine.head()
    published = machine.published()
    assert facts(machine.place.store) == facts(start.place.store)
    assert published in (start.published(), new)
    assert machine.remembered() in (start.remembered(), new)
    outcome = "new" if published == new else "old"
    if outcome == "new":
        assert machine.remembered() == new
    with no_waiting():
        machine.sign()
    assert machine.published() == machine.remembered() == new
    shutil.rmtree(machine.folder)
    return outcome
