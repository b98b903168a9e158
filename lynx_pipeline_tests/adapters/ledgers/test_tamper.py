"""Every change to a ledger that bypasses the store is detected, and the error names the line."""

import functools
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace

import pytest

from lynx_pipeline.adapters.ledgers import git as git_ledger
from lynx_pipeline.adapters.ledgers.store import Store
from lynx_pipeline.domain.ledger import chain as rules
from lynx_pipeline.domain.ledger.chain import Ledger, seal
from lynx_pipeline.domain.ledger.facts import Fact
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.errors import BadInput
from lynx_pipeline_tests.support.builders import (
    PROMOTED,
    REGISTERED,
    actor,
    fact,
    project,
    promoted,
    rolled_back,
)
from lynx_pipeline_tests.support.places import A, B, InFolder, OnGit, Place

LINES = 50
SHORT = 20  # lines, with each kind of entry four times
SHARDS = 4
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


@pytest.fixture(scope="module")
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


@pytest.fixture(scope="module")
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


# ----- bytes --------------------------------------------------------------------------------


def put(handle: int, at: int, byte: int) -> None:
    """Change one byte of a file."""
    assert os.pwrite(handle, bytes([byte]), at) == 1


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("shard", range(SHARDS))
def test_every_changed_byte_in_a_folder_is_detected(short: InFolder, shard: int) -> None:
    """At every position in twenty lines: the lowest, the highest or the case bit is flipped, or a
    newline is written."""
    raw, tried = short.index(), 0
    handle = os.open(short.store.file, os.O_RDWR)
    try:
        for place in range(shard, len(raw), SHARDS):
            line = raw[:place].count(b"\n") + 1
            for changed in {raw[place] ^ flip for flip in (0x01, 0x20, 0x80)} | {0x0A}:
                if changed == raw[place]:
                    continue
                put(handle, place, changed)
                with pytest.raises(BadInput, match=rf"\bline {line}\b"):
                    short.store.read()
                tried += 1
            put(handle, place, raw[place])
    finally:
        os.close(handle)
    assert tried > 3 * len(raw) // SHARDS
    assert len(short.store.read().entries) == SHORT


def test_changed_bytes_are_detected_without_the_cache(folder: InFolder) -> None:
    """One byte is changed in each line, and every line is parsed again."""
    raw, start = folder.index(), 0
    for number, line in enumerate(raw.splitlines(keepends=True), start=1):
        damaged = bytearray(raw)
        damaged[start + number * 7 % len(line)] ^= 0x01
        folder.overwrite(bytes(damaged))
        assert_names_line(folder, number)
        start += len(line)
    folder.overwrite(raw)
    assert len(folder.store.read().entries) == LINES


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("flip", [0x01, 0x20, 0x80, 0xFF])
def test_changed_bytes_on_a_branch_are_detected(git: OnGit, flip: int) -> None:
    """Pushed as a further commit: positions in every part of a line, the first byte, the last byte
    and its newline."""
    raw = git.index()
    for place in [0, *range(211 + flip, len(raw), 5003), len(raw) - 2, len(raw) - 1]:
        damaged = bytearray(raw)
        damaged[place] ^= flip
        with changed(git):
            git.overwrite(bytes(damaged))
            assert_names_line(git, raw[:place].count(b"\n") + 1)


# ----- lines --------------------------------------------------------------------------------


def foreign(raw: bytes, place: int, *, chained: bool) -> bytes:
    """A valid line of a different ledger with the right number; if ``chained``, also with the right
    previous hash."""
    before = rules.parse_ledger(b"".join(raw.splitlines(True)[:place]), "f").head
    entry = seal(place + 1, before if chained else "0" * 64, fact(model="foreign"))
    return entry.to_line()


def rearranged(raw: bytes, first_recorded: int) -> Iterator[tuple[str, int, bytes]]:
    """Every change of whole lines: its name, the line that the error must name, and the bytes.

    Tags or the checkpoint record the hashes of the lines from ``first_recorded`` on. A foreign line
    among them is detected itself, an earlier one at the line after it.
    """
    lines = raw.splitlines(keepends=True)
    for k in range(LINES):
        yield f"deleted {k}", k + 1, b"".join(lines[:k] + lines[k + 1 :])
        yield f"doubled {k}", k + 2, b"".join(lines[: k + 1] + lines[k:])
        yield f"cut {k}", k + 1, b"".join(lines[:k])
        yield f"cut {k} and half a line", k + 1, b"".join(lines[:k]) + lines[k][:-50]
        follows = [*lines[:k], foreign(raw, k, chained=True), *lines[k:]]
        found = k + 1 if k + 1 >= first_recorded else k + 2
        yield f"foreign but chained {k}", found, b"".join(follows)
    for k in range(LINES + 1):
        inserted = [*lines[:k], foreign(raw, k, chained=False), *lines[k:]]
        yield f"foreign {k}", k + 1, b"".join(inserted)
        yield f"blank {k}", k + 1, b"".join([*lines[:k], b"\n", *lines[k:]])
    for i, j in combinations(range(LINES), 2):
        order = list(lines)
        order[i], order[j] = order[j], order[i]
        yield f"swapped {i} and {j}", i + 1, b"".join(order)


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_lines_in_a_folder_cannot_be_rearranged(folder: InFolder) -> None:
    """Any line deleted, doubled or inserted, any two swapped, or the file cut at any line."""
    raw, tried = folder.index(), 0
    for _, line, damaged in rearranged(raw, LINES):
        folder.overwrite(damaged)
        assert_names_line(folder, line)
        tried += 1
    folder.overwrite(raw)
    assert len(folder.store.read().entries) == LINES
    assert tried == 5 * LINES + 2 * (LINES + 1) + LINES * (LINES - 1) // 2


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    "kind", ["deleted", "doubled", "cut", "foreign", "foreign but chained", "blank", "swapped"]
)
def test_lines_on_a_branch_cannot_be_rearranged(git: OnGit, kind: str) -> None:
    """Each change is pushed as a further commit: at the start, in the middle and at the end."""
    form = re.compile(rf"{kind} \d+(?: and \d+)?")
    all_of_a_kind = [each for each in rearranged(git.index(), 1) if form.fullmatch(each[0])]
    step = len(all_of_a_kind) // 3
    for _, line, damaged in [*all_of_a_kind[:-1:step], all_of_a_kind[-1]]:
        with changed(git):
            git.overwrite(damaged)
            assert_names_line(git, line)


# ----- the branch and its tags --------------------------------------------------------------


class changed:
    """Undoes every change to a repository's refs in its block."""

    def __init__(self, place: OnGit) -> None:
        self.place = place

    def __enter__(self) -> None:
        self.before = self.place.refs()

    def __exit__(self, *_: object) -> None:
        for name in self.place.refs().keys() - self.before.keys():
            self.place.git("update-ref", "-d", name)
        for name, target in self.before.items():
            self.place.git("update-ref", name, target)
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
    reset(place, place.commits()[-2])


def back_by_sixteen(place: OnGit) -> None:
    reset(place, place.commits()[33])


def back_to_an_empty_ledger(place: OnGit) -> None:
    reset(place, place.commit(b"", None))


def last_commit_rewritten(place: OnGit) -> None:
    ledger = place.store.read()
    other = Ledger(ledger.entries[:-1]).next_entry(fact(canonical_sha=B))
    raw = b"".join(entry.to_line() for entry in (*ledger.entries[:-1], other))
    reset(place, place.commit(raw, place.commits()[-2]))


def last_commit_rewritten_and_grown(place: OnGit) -> None:
    last_commit_rewritten(place)
    ledger = rules.parse_ledger(place.index(), "f")
    more = ledger.next_entry(fact()).to_line()
    place.overwrite(place.index() + more)


def history_rewritten_with_the_same_bytes(place: OnGit) -> None:
    reset(place, place.commit(place.index(), None))


def commit_without_an_entry(place: OnGit) -> None:
    place.overwrite(place.index())


def branch_deleted(place: OnGit) -> None:
    place.git("update-ref", "-d", "refs/heads/lynx-registry")


def second_to_last_tag_deleted(place: OnGit) -> None:
    place.git("tag", "-d", tag_of(place, LINES - 1))


def tag_deleted(place: OnGit) -> None:
    place.git("tag", "-d", tag_of(place, 25))


def first_tag_deleted(place: OnGit) -> None:
    place.git("tag", "-d", tag_of(place, 1))


def all_tags_deleted(place: OnGit) -> None:
    place.git("tag", "-d", *place.tags())


def tag_made_lightweight(place: OnGit) -> None:
    tag = tag_of(place, 25)
    place.git("update-ref", f"refs/tags/{tag}", f"refs/tags/{tag}^{{commit}}")


def last_tag_made_lightweight(place: OnGit) -> None:
    place.git("update-ref", f"refs/tags/{LAST}", f"refs/tags/{LAST}^{{commit}}")


def tag_replaced_by_the_previous_tag(place: OnGit) -> None:
    place.git("update-ref", f"refs/tags/{tag_of(place, 25)}", f"refs/tags/{tag_of(place, 24)}")


def tag_moved_off_the_branch(place: OnGit) -> None:
    tag = tag_of(place, 25)
    retag(place, tag, place.commit(place.index(), None), message(place, tag))


def tag_moved_to_another_line(place: OnGit) -> None:
    tag = tag_of(place, 25)
    retag(place, tag, place.commits()[10], message(place, tag))


def tag_message_malformed(place: OnGit) -> None:
    retag(place, tag_of(place, 25), place.commits()[24], b"garbage\n")


def tag_message_without_a_hash(place: OnGit) -> None:
    retag(place, tag_of(place, 25), place.commits()[24], b'promoted tiny\n\n{"size":1,"seq":25}\n')


def tag_message_with_a_wrong_hash(place: OnGit) -> None:
    tag = tag_of(place, 25)
    text = re.sub(rb'"hash":"[0-9a-f]{8}', b'"hash":"00000000', message(place, tag))
    retag(place, tag, place.commits()[24], text)


def tag_message_with_a_later_entry(place: OnGit) -> None:
    text = message(place, LAST).replace(b'"seq":50', b'"seq":51')
    retag(place, LAST, place.commits()[-1], text)


def last_tag_deleted(place: OnGit) -> None:
    place.git("tag", "-d", LAST)


def tag_added(place: OnGit) -> None:
    retag(place, "tiny@v9.9.9", place.commits()[24], message(place, tag_of(place, 25)))


def commit_tree(place: OnGit, listing: str) -> None:
    """Put a commit of exactly this tree on the branch."""
    tree = place.git("mktree", stdin=listing.encode()).decode()
    reset(place, place.git("commit-tree", tree, "-p", "lynx-registry", "-m", "x").decode())


def index_missing(place: OnGit) -> None:
    commit_tree(place, "")


def index_is_a_folder(place: OnGit) -> None:
    blob = place.git("hash-object", "-w", "--stdin", stdin=b"x").decode()
    inner = place.git("mktree", stdin=f"100644 blob {blob}\tx\n".encode()).decode()
    commit_tree(place, f"040000 tree {inner}\tindex.jsonl\n")


def index_is_a_link(place: OnGit) -> None:
    blob = place.git("hash-object", "-w", "--stdin", stdin=b"/etc/passwd").decode()
    commit_tree(place, f"120000 blob {blob}\tindex.jsonl\n")


REFS: dict[Callable[[OnGit], None], str] = {
    back_by_one: "line 50: cut off",
    back_by_sixteen: "line 35: cut off",
    back_to_an_empty_ledger: "line 1: cut off",
    last_commit_rewritten: "line 50",
    last_commit_rewritten_and_grown: "line 50",
    history_rewritten_with_the_same_bytes: "line 2: the branch has 1 commits",
    commit_without_an_entry: "line 51: the branch has 51 commits and the ledger 50 entries",
    branch_deleted: "line 1: cut off",
    second_to_last_tag_deleted: f"line {LINES - 1}.*tag tiny@",
    tag_deleted: "line 25.*tag tiny@rolled_back-25 is missing or",
    first_tag_deleted: "line 1: its tag tiny@registered-1 is missing or",
    all_tags_deleted: "line 1: its tag",
    tag_made_lightweight: "line 25: its tag tiny@rolled_back-25 is missing or",
    last_tag_made_lightweight: f"line 50: its tag {LAST} is missing. Either",
    last_tag_deleted: f"line 50: its tag {LAST} is missing. Either",
    tag_replaced_by_the_previous_tag: "line 25",
    tag_moved_off_the_branch: "line 25: its tag tiny@rolled_back-25 is missing or points",
    tag_moved_to_another_line: "line 25: its tag tiny@rolled_back-25 is missing or points",
    tag_message_malformed: "line 25: its tag tiny@rolled_back-25 is missing or",
    tag_message_without_a_hash: "line 25: its tag tiny@rolled_back-25 is missing or",
    tag_message_with_a_wrong_hash: "line 25: differs from the entry that was here before",
    tag_message_with_a_later_entry: "line 51: cut off",
    tag_added: "the tag tiny@v9.9.9 matches no entry",
    index_missing: "has no file index.jsonl",
    index_is_a_folder: "index.jsonl is not a regular file",
    index_is_a_link: "index.jsonl is not a regular file",
}


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("how", REFS, ids=lambda how: how.__name__)
def test_a_forced_branch_or_a_changed_tag_is_detected(
    git: OnGit, how: Callable[[OnGit], None]
) -> None:
    """Both reading and appending fail, and nothing is pushed."""
    with changed(git):
        how(git)
        before = git.refs()
        with pytest.raises(BadInput, match=REFS[how]):
            git.store.read()
        with pytest.raises(BadInput, match=REFS[how]):
            git.store.append(lambda _: fact())
        assert git.refs() == before


# ----- the command --------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_unrelated_tags_are_ignored(git: OnGit) -> None:
    """A release with a similar name, a lightweight tag elsewhere, or another model's tag."""
    other = git.commit(b"x", None)
    with changed(git):
        retag(git, "tiny@2025-11", "lynx-registry", b"a release of something else\n")
        git.git("update-ref", "refs/tags/tiny@older", other)
        retag(git, "tinyest@v1.0.0", other, message(git, LAST))
        assert len(git.store.read().entries) == LINES


def verify(place: Place, root: Path) -> tuple[int, str, str]:
    """Run ``lynx-pipeline registry verify`` in a project with this registry."""
    if not root.exists():
        project(root, pyproject=f'registry = "{place.setting}"\n')
    done = subprocess.run(
        [sys.executable, "-m", "lynx_pipeline", "registry", "verify"],
        cwd=root,
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout, done.stderr


def assert_command_names_line(place: Place, root: Path, line: int) -> None:
    """Assert that the command fails with one paragraph that names the line."""
    code, out, err = verify(place, root)
    assert (code, out) == (2, "")
    assert re.search(rf"\bline {line}\b", err)
    assert "Traceback" not in err
    assert err.endswith("\n")
    assert "\n" not in err.rstrip("\n")


@pytest.mark.slow
def test_the_command_names_the_damaged_line(folder: InFolder, git: OnGit, tmp_path: Path) -> None:
    """``registry verify`` detects a changed byte, a doubled line and a cut in both stores, and a
    branch that was reset. It passes again after the damage is undone."""
    raw = folder.index()
    assert git.index() == raw
    lines = raw.splitlines(keepends=True)
    samples = {
        17: raw.replace(b'"seq":17,', b'"seq":71,'),
        31: b"".join(lines[:30] + lines[29:]),
        50: b"".join(lines[:-1]),
    }
    for line, damaged in samples.items():
        folder.overwrite(damaged)
        assert_command_names_line(folder, tmp_path / "folder", line)
        folder.overwrite(raw)
    whole = f"The ledger is consistent: 50 entries, {len(raw)} bytes.\n"
    assert verify(folder, tmp_path / "folder") == (0, whole, "")
    for line in (17, 50):
        with changed(git):
            git.overwrite(samples[line])
            assert_command_names_line(git, tmp_path / "git", line)
    with changed(git):
        back_by_one(git)
        assert_command_names_line(git, tmp_path / "git", 50)
    assert verify(git, tmp_path / "git") == (0, whole, "")


@pytest.mark.slow
def test_a_copied_ledger_reads_the_same(folder: InFolder, git: OnGit, tmp_path: Path) -> None:
    """This holds for a copy of the folder and for a clone of the repository with all its refs."""
    copied = shutil.copytree(folder.folder, tmp_path / "copy")
    git.git("clone", "--quiet", "--mirror", ".", str(tmp_path / "mirror.git"))
    expected = folder.store.read().entries
    assert len(expected) == LINES
    assert InFolder(Path(copied)).store.read().entries == expected
    assert OnGit(tmp_path / "mirror.git").store.read().entries == expected
