"""Run a promotion in a forked process, and check the ledger afterwards."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lynx_pipeline.adapters.ledgers.store import Store
from lynx_pipeline.domain.ledger.chain import Entry, Ledger
from lynx_pipeline.domain.ledger.facts import Fact
from lynx_pipeline.errors import BadInput
from lynx_pipeline_tests.support.places import Place, facts, promote, version
from lynx_pipeline_tests.support.signing import sign

# The results by failpoint and fault.
Table = dict[tuple[str, str], set[str]]
EVIDENCE = (b"the eval set\n" * 50, b"the predictions\n" * 700)


def check_recovery(place: Place, old: Sequence[Fact]) -> str:
    """Whether the ledger is the old or the complete new one; also checks that a retry and the next
    promotion work."""
    store, new = place.store, [*old, version(9)]
    found = _readable(store, old)
    assert found in (old, new), [f.semver for f in found]
    outcome = "old" if found == old else "new"
    if outcome == "new":
        assert all(place.holds(piece) for piece in EVIDENCE)
        assert _is_signed(store)
    assert store.append(_again, EVIDENCE, sign).entry.fact == version(9)
    assert all(place.holds(piece) for piece in EVIDENCE)
    assert _is_signed(store)
    promote(store, 10, (b"something else",))
    ledger = store.read()
    assert [entry.fact for entry in ledger.entries] == [*new, version(10)]
    assert ledger.torn == 0
    return outcome


def _readable(store: Store, old: Sequence[Fact]) -> Sequence[Fact]:
    """The facts in the ledger; it counts as old while its last entry has no tag."""
    try:
        return facts(store)
    except BadInput as error:
        assert "tag tiny@v0.9.0-dev is missing" in str(error), error
        return old


def _is_signed(store: Store) -> bool:
    """Whether the last entry's signature is there. While its tag is missing, it can't be read."""
    try:
        ledger = store.read()
    except BadInput:
        return True
    return sign(ledger.entries[-1]) in ledger.signatures


def _again(ledger: Ledger) -> Fact | Entry:
    known = [entry for entry in ledger.entries if entry.fact == version(9)]
    return known[0] if known else version(9)


@dataclass(frozen=True)
class ChildResult:
    """How a forked promotion ended: ``code`` is 0 or minus the signal, ``error`` is the exception's
    type, and ``trace`` the recorded steps."""

    code: int
    error: str = ""
    message: str = ""
    trace: tuple[str, ...] = ()

    def check_end(self, killed: bool, name: str) -> None:
        """Assert that the process was killed at the failpoint with this name, or was not."""
        assert self.code == (-signal.SIGKILL if killed else 0), (name, self)

    def check_outcome(self, outcome: str) -> None:
        """Assert that the error and its message agree with the ledger's state."""
        assert self.error in ("", "SystemFailed"), (self.error, self.message)
        if self.code == 0 and not self.error:
            assert outcome == "new"
        if "as it was" in self.message:
            assert outcome == "old", self.message
        assert "\n" not in self.message


def forked(work: Callable[[list[str]], object]) -> ChildResult:
    """Run ``work`` in a forked process; what it adds to its list is the result's ``trace``."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        trace: list[str] = []
        result: list[object] = ["", "", trace]
        try:
            os.close(reader)
            work(trace)
        except BaseException as error:
            result[:2] = [type(error).__name__, str(error)]
        os.write(writer, json.dumps(result).encode()[:60_000])
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:  # noqa: PTH123  # a handle, not a path
        raw = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    kind, message, made = json.loads(raw) if raw else ("", "", [])
    return ChildResult(code, kind, message, tuple(made))


def kill_self() -> None:
    """End this process without any cleanup."""
    os.kill(os.getpid(), signal.SIGKILL)


def bwrap_works() -> bool:
    """Whether bubblewrap can create a small filesystem on this machine."""
    if shutil.which("bwrap") is None:
        return False
    command = ["bwrap", "--ro-bind", "/", "/", "--size", "4096", "--tmpfs", "/tmp", "true"]
    return subprocess.run(command, capture_output=True).returncode == 0
