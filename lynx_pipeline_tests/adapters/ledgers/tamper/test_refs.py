"""A forced branch and a changed tag are detected, and the error names the line."""

import re
from collections.abc import Callable

import pytest

from lynx_pipeline.domain.ledger import chain as rules
from lynx_pipeline.domain.ledger.chain import Ledger
from lynx_pipeline.errors import BadInput
from lynx_pipeline_tests.adapters.ledgers.tamper.conftest import (
    LAST,
    LINES,
    back_by_one,
    changed,
    message,
    reset,
    retag,
    tag_of,
)
from lynx_pipeline_tests.support.builders import fact
from lynx_pipeline_tests.support.places import B, OnGit


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
    history_rewritten_with_the_same_bytes: "line 1: its tag tiny@registered-1 is missing or",
    branch_deleted: "line 1: cut off",
    second_to_last_tag_deleted: f"line {LINES - 1}.*tag tiny@",
    tag_deleted: "line 25.*tag tiny@rolled_back-25 is missing or",
    first_tag_deleted: "line 1: its tag tiny@registered-1 is missing or",
    all_tags_deleted: "line 1: its tag",
    tag_made_lightweight: "line 25: its tag tiny@rolled_back-25 is missing or",
    last_tag_made_lightweight: f"line 50: its tag {LAST} is missing",
    last_tag_deleted: f"line 50: its tag {LAST} is missing",
    tag_replaced_by_the_previous_tag: "line 25",
    tag_moved_off_the_branch: "line 25: its tag tiny@rolled_back-25 is missing or points",
    tag_moved_to_another_line: "line 25: its tag tiny@rolled_back-25 is missing or points",
    tag_message_malformed: "line 25: its tag tiny@rolled_back-25 is missing or",
    tag_message_without_a_hash: "line 25: its tag tiny@rolled_back-25 is missing or",
    tag_message_with_a_wrong_hash: "line 25: differs from the entry that was here before",
    tag_message_with_a_later_entry: "line 51: cut off",
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


def commit_of_another_file(place: OnGit) -> None:
    """A README, by somebody who took the branch for an ordinary one."""
    blob = place.git("hash-object", "-w", "--stdin", stdin=b"Hello").decode()
    kept = place.git("ls-tree", "lynx-registry").decode()
    commit_tree(place, f"{kept}\n100644 blob {blob}\tREADME.md\n")


STRAYS: dict[Callable[[OnGit], None], str] = {
    commit_without_an_entry: "the commit ............ of the branch",
    commit_of_another_file: "the commit ............ of the branch",
    tag_added: "the tag tiny@v9.9.9",
}


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("how", STRAYS, ids=lambda how: how.__name__)
def test_what_belongs_to_no_entry_is_reported_and_stops_nothing(
    git: OnGit, how: Callable[[OnGit], None]
) -> None:
    """The ledger is the same, and grows. What was added is still there."""
    before = git.store.read()
    assert before.strays == ()
    with changed(git):
        how(git)
        head = git.commits()[-1]
        found = git.store.read()
        (stray,) = found.strays
        assert re.fullmatch(STRAYS[how], stray)
        assert found.entries == before.entries
        new = git.store.append(lambda _: fact()).entry
        after = git.store.read()
        assert after.entries == (*before.entries, new)
        assert after.strays == found.strays
        assert git.commits()[-2] == head


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_a_stray_commit_after_an_entry_without_a_tag(git: OnGit) -> None:
    """The same promotion, run again, restores the tag."""
    with changed(git):
        new = git.store.append(lambda _: fact()).entry
        git.git("tag", "-d", f"tiny@registered-{LINES + 1}")
        commit_of_another_file(git)
        with pytest.raises(BadInput, match="its tag tiny@registered-51 is missing"):
            git.store.read()
        assert git.store.append(lambda _: new).entry == new
        assert len(git.store.read().strays) == 1


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
