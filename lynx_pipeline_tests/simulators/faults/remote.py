"""The git store: faults of its remote and of the connection to it."""

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

from lynx_pipeline.adapters import git
from lynx_pipeline.adapters.ledgers.store import Store
from lynx_pipeline.domain.ledger.chain import Entry, Ledger
from lynx_pipeline.domain.ledger.facts import Fact
from lynx_pipeline.errors import Refused
from lynx_pipeline_tests.simulators.faults.git_commands import (
    assert_consistent,
    three_entries,
    wait_until_unused,
)
from lynx_pipeline_tests.simulators.faults.trial import (
    EVIDENCE,
    Table,
    bwrap_works,
    check_recovery,
    forked,
)
from lynx_pipeline_tests.support.places import B, OnGit, facts, version
from lynx_pipeline_tests.support.signing import sign

REMOTE_COLUMNS = ("the ledger", "reported to the promoter")
REPORTED = {"": "promoted", "SystemFailed": "system failure", "Refused": "refused"}


@dataclass
class Remote:
    """A remote with three entries, and the fault during a promotion to it.

    ``expected_message`` is part of the promoter's message, ``seconds`` is git's timeout.
    ``while_deciding`` runs between read and push, ``repair`` after the promotion.
    """

    place: OnGit
    environ: dict[str, str] = field(default_factory=dict)
    seconds: float = 60.0
    expected_message: str = ""
    while_deciding: Callable[[], object] = lambda: None
    repair: Callable[[], object] = lambda: None
    competitor: Fact | None = None

    def hook(self, name: str, body: str) -> None:
        """Install a hook until the remote is repaired."""
        file = self.place.hook(name, body)
        self.repair = file.unlink


def hook_refuses(remote: Remote) -> None:
    """a pre-receive hook rejects the push"""
    remote.hook("pre-receive", "echo 'not today' >&2; exit 1")
    remote.expected_message = "not today"


def tag_is_refused(remote: Remote) -> None:
    """an update hook rejects only the tag"""
    remote.hook("update", 'case "$1" in refs/tags/*) echo "no tags here" >&2; exit 1;; esac')
    remote.expected_message = "no tags here"


def branch_is_refused(remote: Remote) -> None:
    """an update hook rejects only the branch"""
    remote.hook("update", 'case "$1" in refs/heads/*) echo "protected" >&2; exit 1;; esac')
    remote.expected_message = "protected"


def killed_before_the_refs(remote: Remote) -> None:
    """receive-pack is killed before it updates the refs, every time"""
    remote.hook("pre-receive", "kill -9 $PPID")


def killed_once(remote: Remote) -> None:
    """receive-pack is killed before it updates the refs, once"""
    remote.hook("pre-receive", "mkdir was-here 2>/dev/null || exit 0; kill -9 $PPID")


def killed_with_locks(remote: Remote) -> None:
    """receive-pack is killed while it holds the ref locks, whose files remain"""
    remote.hook("reference-transaction", '[ "$1" != prepared ] || kill -9 $PPID')
    remote.expected_message = ".lock': File exists"
    unhook = remote.repair

    def repair() -> None:
        unhook()
        locks = list((remote.place.bare / "refs").rglob("*.lock"))
        assert locks
        for lock in locks:
            lock.unlink()

    remote.repair = repair


def killed_once_committed(remote: Remote) -> None:
    """receive-pack is killed just as the refs are updated"""
    remote.hook("reference-transaction", '[ "$1" != committed ] || kill -9 $PPID')


def killed_after_the_refs(remote: Remote) -> None:
    """receive-pack is killed after it updated the refs"""
    remote.hook("post-receive", "kill -9 $PPID")


def concurrent_writer(remote: Remote) -> None:
    """another writer moves the branch between read and push"""
    compete_with(remote, version(5))


def version_taken(remote: Remote) -> None:
    """another writer promotes a different bundle as this version between read and push"""
    compete_with(remote, version(9, B))


def same_promotion(remote: Remote) -> None:
    """another writer makes the same promotion between read and push"""
    compete_with(remote, version(9))


def compete_with(remote: Remote, fact: Fact) -> None:
    """Let another writer append ``fact`` before the first push."""

    def compete() -> None:
        if facts(remote.place.store)[-1] != fact:
            remote.place.store.append(lambda _: fact, EVIDENCE, sign)

    remote.while_deciding = compete
    remote.competitor = fact


def unavailable_before_reading(remote: Remote) -> None:
    """the remote is unavailable before it is read"""
    make_unavailable(remote)


def unavailable_before_pushing(remote: Remote) -> None:
    """the remote becomes unavailable between read and push"""
    remote.while_deciding = lambda: make_unavailable(remote)
    remote.repair = lambda: remote.place.bare.with_suffix(".away").rename(remote.place.bare)


def make_unavailable(remote: Remote) -> None:
    """Move the repository to a different folder."""
    elsewhere = remote.place.bare.with_suffix(".away")
    remote.place.bare.rename(elsewhere)
    remote.repair = lambda: elsewhere.rename(remote.place.bare)


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
    remote.expected_message = "no route to host"


def connection_lost(remote: Remote) -> None:
    """the connection is lost during the push, and the server completes it"""
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
    unscript = remote.repair
    remote.hook("pre-receive", f"[ -e {relays} ] && kill -9 $(cat {relays}); exit 0")
    unhook = remote.repair
    remote.repair = lambda: (unscript(), unhook())


def server_killed(remote: Remote) -> None:
    """the server is killed during a push over ssh, once"""
    over_ssh(remote, 'exec setsid --wait sh -c "$command"')
    remote.hook("pre-receive", "mkdir was-here 2>/dev/null || exit 0; kill -9 $PPID")


def client_killed(remote: Remote) -> None:
    """the promoter and its git are killed during a push over ssh, and the server completes it"""
    ours = remote.place.bare / "client"
    over_ssh(
        remote,
        f'case "$command" in *receive-pack*) echo $PPID >>{ours};; esac\n'
        'exec setsid --wait sh -c "$command"',
    )
    remote.hook("pre-receive", f"[ -e {ours} ] && kill -9 $(cat {ours}) && rm {ours}; exit 0")
    remote.while_deciding = lambda: ours.write_text(f"{os.getpid()}\n")


def server_too_slow(remote: Remote) -> None:
    """the server takes longer than the timeout, and completes the push"""
    over_ssh(remote, 'exec setsid --wait sh -c "$command"')
    remote.hook("pre-receive", "mkdir was-here 2>/dev/null || exit 0; sleep 2")
    remote.seconds = 1.0


def server_hangs(remote: Remote) -> None:
    """a server process on the promoter's machine hangs, and is killed with the promoter's git"""
    remote.hook("pre-receive", "sleep 30")
    remote.seconds = 0.7
    remote.expected_message = "took more than 1 seconds"


REMOTE_FAULTS: tuple[Callable[[Remote], None], ...] = (
    *(hook_refuses, tag_is_refused, branch_is_refused),
    *(killed_before_the_refs, killed_once, killed_with_locks),
    *(killed_once_committed, killed_after_the_refs),
    *(concurrent_writer, version_taken, same_promotion),
    *(unavailable_before_reading, unavailable_before_pushing, read_only, full),
    *(no_network, connection_lost, server_killed, client_killed, server_too_slow, server_hangs),
)


def remote_fails(tmp: Path, fault: Callable[[Remote], None]) -> Table:
    """One promotion with ``fault``: the ledger afterwards and what the promoter gets reported."""
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

    result = forked(work)
    wait_until_unused(tmp)
    remote.repair()
    assert result.error in REPORTED, result
    assert remote.expected_message in result.message
    if fault is version_taken:
        assert "entry 4" in result.message
        assert facts(place.store) == [*before, version(9, B)]
        return {
            (fault.__doc__ or "", REMOTE_COLUMNS[0]): {"old"},
            _reported(fault): {REPORTED[result.error]},
        }
    if remote.competitor not in (None, version(9)):
        assert remote.competitor
        before.append(remote.competitor)
    outcome = check_recovery(place, before)
    if result.error != "Refused":
        result.check_outcome(outcome)
    assert_consistent(place)
    reported = REPORTED[result.error] if result.code == 0 else "nothing (it was killed)"
    return {(fault.__doc__ or "", REMOTE_COLUMNS[0]): {outcome}, _reported(fault): {reported}}


def _reported(fault: Callable[[Remote], None]) -> tuple[str, str]:
    return fault.__doc__ or "", REMOTE_COLUMNS[1]


def _promote_and(store: Store, meanwhile: Callable[[], object]) -> None:
    """Promote; ``meanwhile`` is called after each read."""

    def decide(ledger: Ledger) -> Fact | Entry:
        for entry in ledger.entries:
            if entry.fact.semver == version(9).semver:
                if entry.fact != version(9):
                    raise Refused(f"entry {entry.seq} has it")
                return entry
        meanwhile()
        return version(9)

    store.append(decide, EVIDENCE, sign)


def over_ssh(remote: Remote, body: str) -> None:
    """Reach the remote through an ``ssh`` that runs ``body`` (sh), with the ``$command`` for the
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
