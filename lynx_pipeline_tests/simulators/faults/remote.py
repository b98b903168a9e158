"""The git store: what can happen to its remote, and on the way there."""

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
from lynx_pipeline_tests.simulators.faults.git_commands import three_entries, wait_until_left, whole
from lynx_pipeline_tests.simulators.faults.trial import (
    EVIDENCE,
    Table,
    bwrap_works,
    forked,
    settled,
)
from lynx_pipeline_tests.support.places import B, OnGit, facts, version

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
