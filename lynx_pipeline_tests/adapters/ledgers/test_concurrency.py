"""Thirty-two concurrent promoters write one history, and each gets a correct result."""

import json
import os
import random
import re
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lynx_pipeline.domain.ledger.chain import Entry, Ledger
from lynx_pipeline.domain.ledger.facts import Actor, Fact, Promoted
from lynx_pipeline.domain.ledger.state import check_promotion, check_unused, replay
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.errors import LynxError, Refused
from lynx_pipeline_tests.simulators.faults.git_commands import assert_consistent
from lynx_pipeline_tests.support.builders import actor, promoted
from lynx_pipeline_tests.support.places import InFolder, OnGit, Place
from lynx_pipeline_tests.support.small_process import in_small_process

pytestmark = pytest.mark.slow
PROMOTERS = 32


def wanted(number: int, semver: str, env: Env = Env.DEV, jti: str = "") -> Promoted:
    """The promotion that promoter ``number`` wants: its own bundle, as ``semver``."""
    changes: dict[str, Any] = {"actor": actor(jti=jti or f"{semver}-{number}")}
    sha = f"{number:02d}" * 32
    return promoted(semver, env=env, canonical_sha=sha, **changes)


def same_version(turn: int, number: int) -> Promoted:
    """All want the same version, each for its own bundle."""
    return wanted(number, f"v0.{turn}.0-dev")


def distinct_versions(turn: int, number: int) -> Promoted:
    """Each wants its own dev version."""
    return wanted(number, f"v1.{turn}.{number}-dev")


def greater_versions(turn: int, number: int) -> Promoted:
    """Each wants its own prod version; only greater ones can follow."""
    return wanted(number, f"v2.{turn}.{number}", Env.PROD)


def one_token(turn: int, number: int) -> Promoted:
    """Each wants its own version, with the same token."""
    return wanted(number, f"v3.{turn}.{number}-dev", jti=f"turn {turn}")


def promoting(want: Promoted) -> Callable[[Ledger], Fact | Entry]:
    """The registry's decision to promote it."""

    def decide(ledger: Ledger) -> Fact | Entry:
        done = check_promotion(ledger, want.env, "tiny", want.canonical_sha, want.semver, None, {})
        if done is None and isinstance(want.actor, Actor):
            check_unused(ledger, want.actor)
        return done or want

    return decide


@dataclass(frozen=True)
class Answer:
    """A promoter's result: an entry's sequence number, or the message of a refusal."""

    number: int
    seq: int | None
    refused: str


def all_at_once(place: Place, wants: list[Promoted]) -> list[Answer]:
    """Fork a promoter for each, start them together, and keep reading meanwhile."""
    gate, start = os.pipe()
    results, answers = os.pipe()
    stop, running = os.pipe()
    ours = (start, results, running)

    def promoter(number: int) -> int:
        return _child(lambda: _promoter(place, number, wants[number], gate, answers), ours)

    children = [promoter(number) for number in range(len(wants))]
    reader = _child(lambda: _reader(place, stop, len(wants)), (*ours, answers))
    for handle in (gate, answers, stop):
        os.close(handle)
    os.close(start)  # all promoters start
    with open(results, "rb") as pipe:  # noqa: PTH123  # a handle, not a path
        rows = [json.loads(line) for line in pipe]
    os.close(running)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in (*children, reader)]
    assert codes == [0] * (len(wants) + 1)
    assert sorted(number for number, _, _ in rows) == list(range(len(wants)))
    return [Answer(*each) for each in sorted(rows)]


def _child(work: Callable[[], None], unused: tuple[int, ...]) -> int:
    child = os.fork()
    if child == 0:
        try:
            for handle in unused:
                os.close(handle)
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return child


def _promoter(place: Place, number: int, want: Promoted, gate: int, answers: int) -> None:
    random.seed(os.getpid())  # a fork inherits its parent's random state
    store = place.store
    os.read(gate, 1)
    try:
        entry = store.append(promoting(want)).entry
        assert entry.fact == want
        line = json.dumps([number, entry.seq, ""])
    except Refused as error:
        line = json.dumps([number, None, str(error)])
    except LynxError as error:
        raise AssertionError(f"promoter {number}: {error}") from error
    os.write(answers, line.encode() + b"\n")


def _reader(place: Place, stop: int, limit: int) -> None:
    """Read until stopped: every ledger is complete and extends the one before."""
    os.set_blocking(stop, False)
    seen: tuple[Entry, ...] = ()
    first = None
    while True:
        entries = place.store.read().entries
        first = len(entries) if first is None else first
        assert entries[: len(seen)] == seen
        assert len(entries) <= first + limit
        seen = entries
        try:
            if os.read(stop, 1) == b"":
                return
        except BlockingIOError:
            continue


def check(place: Place, old: Ledger, wants: list[Promoted], answers: list[Answer]) -> list[Fact]:
    """Check the invariants of a round; returns the new facts in order."""
    ledger = place.store.read()
    assert ledger.entries[: len(old.entries)] == old.entries
    assert place.index() == b"".join(entry.to_line() for entry in ledger.entries)
    if isinstance(place, OnGit):
        assert_consistent(place)
        for commit, entry in zip(place.commits(), ledger.entries, strict=True):
            lines = place.git("cat-file", "blob", f"{commit}:index.jsonl").splitlines(True)
            assert len(lines) == entry.seq
    new = ledger.entries[len(old.entries) :]
    won = {entry.seq: entry.fact for entry in new}
    reported = {answer.seq: wants[answer.number] for answer in answers if answer.seq is not None}
    assert reported == won  # the entries reported to promoters are exactly those in the ledger
    versions = [entry.fact.semver for entry in ledger.entries]
    assert len(set(versions)) == len(versions)
    for env in Env:
        assert not replay(ledger, env, "tiny", {}).ignored
    for answer in answers:
        if answer.seq is None:
            named = re.search(r"entry (\d+)", answer.refused)
            assert named, answer
            assert int(named[1]) in won
            winner = won[int(named[1])]
            assert (winner.semver or "?") in answer.refused or "'jti'" in answer.refused
    return [entry.fact for entry in new]


ROUNDS: list[tuple[Callable[[int, int], Promoted], int, int]] = [
    (same_version, 3, 3),
    (distinct_versions, 2, 1),
    (greater_versions, 3, 4),
    (one_token, 2, 2),
]


@pytest.mark.parametrize("kind", [kind for kind, _, _ in ROUNDS], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("store", ["folder", "git"])
def test_concurrent_promoters_write_one_history(
    memory_path: Path, store: str, kind: Callable[[int, int], Promoted]
) -> None:
    """Ten rounds on each store, the first on a ledger that does not exist yet: every winner is in
    the ledger, every loser's message names the winner, and a concurrent reader sees only complete
    ledgers."""
    folder = store == "folder"
    place = (
        InFolder(memory_path / "registry") if folder else OnGit.new(memory_path / "registry.git")
    )
    rounds = next(many if folder else few for k, many, few in ROUNDS if k is kind)
    for turn in range(rounds):
        old = place.store.read()
        wants = [kind(turn, number) for number in range(PROMOTERS)]
        new = check(place, old, wants, in_small_process(all_at_once, place, wants))
        if kind in (same_version, one_token):
            assert len(new) == 1
        elif kind is distinct_versions:
            assert sorted(f.canonical_sha for f in new) == [w.canonical_sha for w in wants]
        else:
            numbers = [wants.index(won) for won in new if isinstance(won, Promoted)]
            assert numbers == sorted(numbers)
            assert numbers[-1] == PROMOTERS - 1  # nothing is greater than the greatest
