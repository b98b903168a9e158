"""One history of every kind of entry, in a folder and on a branch, that the tests here damage."""

import functools
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from lynx_pipeline.adapters.ledgers import git as git_ledger
from lynx_pipeline.adapters.ledgers.store import Store
from lynx_pipeline.domain.ledger import chain as rules
from lynx_pipeline.domain.ledger.facts import Fact
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.errors import BadInput
from lynx_pipeline_tests.support.builders import (
    PROMOTED,
    REGISTERED,
    actor,
    fact,
    promoted,
    rolled_back,
)
from lynx_pipeline_tests.support.places import A, B, InFolder, OnGit, Place

LINES = 50
SHORT = 20  # lines, with each kind of entry four times
LAST = "tiny@rolled_back-50"


@functools.cache
def history() -> tuple[Fact, ...]:
    """Fifty facts of every kind, the last one a rollback."""
    kept: list[Fact] = []
    for number in range(1, LINES // 5 + 1):
        dev = promoted(f"v0.{number}.0-dev", canonical_sha=A)
        prod = promoted(
            f"v0.{number}.0",
            env=Env.PROD,
            canonical_sha=B,
            cpqu=number / 8,
            actor=actor(),
        )
        kept += [
            fact(canonical_sha=A),
            dev,
            fact(env=Env.PROD, canonical_sha=B, parent_sha=A, event=REGISTERED),
            prod,
            rolled_back(dev if number % 2 else prod, actor=actor()),
        ]
    return tuple(kept)


def filled(store: Store, lines: int = LINES) -> None:
    """Append the history, or its first ``lines``, to a store."""
    for each in history()[:lines]:
        store.append(lambda _, each=each: each)  # type: ignore[misc]


@pytest.fixture(scope="package")
def folder(tmp_path_factory: pytest.TempPathFactory) -> InFolder:
    """The history in a folder; each test undoes its changes."""
    place = InFolder(tmp_path_factory.mktemp("tamper") / "registry")
    filled(place.store)
    return place


@pytest.fixture
def short(memory_path: Path) -> InFolder:
    """The first lines of the history in a folder."""
    place = InFolder(memory_path / "registry")
    filled(place.store, SHORT)
    return place


@pytest.fixture(scope="package")
def git(tmp_path_factory: pytest.TempPathFactory) -> OnGit:
    """The history on a branch; each test undoes its changes."""
    place = OnGit.new(tmp_path_factory.mktemp("tamper") / "registry.git")
    filled(place.store)
    return place


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cache parsed lines, and don't wait for a contradiction on the remote to persist."""
    monkeypatch.setattr(rules, "read_entry", functools.cache(rules.read_entry))
    no_wait = SimpleNamespace(sleep=lambda _: None, monotonic=time.monotonic)
    monkeypatch.setattr(git_ledger, "time", no_wait)


def assert_names_line(place: Place, line: int) -> None:
    """Assert that reading fails and names this line."""
    with pytest.raises(BadInput, match=rf"\bline {line}\b"):
        place.store.read()


class changed:
    """Undoes every change to a repository's refs in its block."""

    def __init__(self, place: OnGit) -> None:
        self.place = place

    def __enter__(self) -> None:
        self.before = self.place.refs()

    def __exit__(self, *_: object) -> None:
        added = self.place.refs().keys() - self.before.keys()
        commands = [f"delete {name}\n" for name in added]
        commands += [f"update {name} {target}\n" for name, target in self.before.items()]
        self.place.git("update-ref", "--stdin", stdin="".join(commands).encode())
        assert self.place.refs() == self.before


def reset(place: OnGit, commit: str) -> None:
    """Force the branch to a commit."""
    place.git("update-ref", "refs/heads/lynx-registry", commit)


def tag_of(place: OnGit, line: int) -> str:
    """The name of a line's tag."""
    entry = place.store.read().entries[line - 1].fact
    kind = entry.semver if entry.event == PROMOTED else f"{entry.event}-{line}"
    return f"tiny@{kind}"


def message(place: OnGit, tag: str) -> bytes:
    """An annotated tag's message."""
    return place.git("for-each-ref", "--format=%(contents)", f"refs/tags/{tag}") + b"\n"


def retag(place: OnGit, tag: str, target: str, text: bytes) -> None:
    """Replace an annotated tag."""
    place.git("tag", "--force", "--annotate", "--file=-", tag, target, stdin=text)


def back_by_one(place: OnGit) -> None:
    """Force the branch to the commit before its last."""
    reset(place, place.commits()[-2])
