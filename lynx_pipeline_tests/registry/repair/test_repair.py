"""Each damage that can be repaired without a loss is repaired: docs/signatures.md has the table."""

import re
from collections.abc import Callable

import pytest

from lynx_pipeline.domain.versioning import Env
from lynx_pipeline_tests.registry.repair.conftest import Case, reset, tag
from lynx_pipeline_tests.support.places import BRANCH

NewCase = Callable[[str, Env], Case]
Damage = Callable[[Case], object]


def foreign_file(case: Case) -> None:
    kept = case.git.git("ls-tree", BRANCH).decode()
    blob = case.git.git("hash-object", "-w", "--stdin", stdin=b"Hello").decode()
    commit_tree(case, f"{kept}\n100644 blob {blob}\tREADME.md\n")


def commit_tree(case: Case, listing: str) -> None:
    """Put a commit of exactly this tree on the branch."""
    tree = case.git.git("mktree", stdin=listing.encode()).decode()
    reset(case, case.git.git("commit-tree", tree, "-p", BRANCH, "-m", "x").decode())


def index_removed(case: Case) -> None:
    commit_tree(case, "")


def index_replaced_by_a_link(case: Case) -> None:
    blob = case.git.git("hash-object", "-w", "--stdin", stdin=b"/etc/passwd").decode()
    commit_tree(case, f"120000 blob {blob}\tindex.jsonl\n")


def stray_tag(case: Case) -> None:
    case.git.git("update-ref", "refs/tags/tiny@v0.9.0", BRANCH)


def tag_of_another_entry(case: Case) -> None:
    """A copy of an entry's tag under a version that was never promoted."""
    case.git.git("update-ref", "refs/tags/tiny@v0.9.0", tag(case, 2))


def flipped_byte(case: Case) -> None:
    case.rewrite(lambda it: [it[0], it[1].replace(b'"seq":2', b'"seq":7'), it[2]])


def line_removed(case: Case) -> None:
    case.rewrite(lambda it: [it[0], it[2]])


def cut_off(case: Case) -> None:
    case.rewrite(lambda it: it[:2])


def cut_within_a_line(case: Case) -> None:
    case.rewrite(lambda it: [*it[:2], it[2][:-40]])


def doubled(case: Case) -> None:
    case.rewrite(lambda it: [it[0], it[1], it[1], it[2]])


def swapped(case: Case) -> None:
    case.rewrite(lambda it: [it[1], it[0], it[2]])


def garbage_appended(case: Case) -> None:
    case.rewrite(lambda it: [*it, b"{}\n", b"\n"])


def incomplete_line(case: Case) -> None:
    case.rewrite(lambda it: [*it, b"{"])


def wound_back(case: Case) -> None:
    reset(case, case.git.commits()[-2])


def wound_back_and_pushed(case: Case) -> None:
    wound_back(case)
    foreign_file(case)


def branch_deleted(case: Case) -> None:
    case.git.git("update-ref", "-d", f"refs/heads/{BRANCH}")


def squashed(case: Case) -> None:
    reset(case, case.git.commit(case.git.index(), None))


def tag_moved(case: Case) -> None:
    name = tag(case, 2)
    text = case.git.git("for-each-ref", "--format=%(contents)", name) + b"\n"
    short, first = name.removeprefix("refs/tags/"), case.git.commits()[0]
    case.git.git("tag", "--force", "--annotate", "--file=-", short, first, stdin=text)


def tag_deleted(case: Case, number: int = 2) -> None:
    case.git.git("update-ref", "-d", tag(case, number))


def last_tag_deleted(case: Case) -> None:
    tag_deleted(case, 3)


def all_tags_deleted(case: Case) -> None:
    for number in (1, 2, 3):
        tag_deleted(case, number)


def tag_made_lightweight(case: Case) -> None:
    case.git.git("update-ref", tag(case, 2), f"{tag(case, 2)}^{{commit}}")


def forged(case: Case) -> None:
    case.forge(4)


def two_forged(case: Case) -> None:
    case.forge(4)
    case.forge(5)


def forged_without_a_tag(case: Case) -> None:
    """By somebody whom the rules let push to the branch only."""
    case.forge(4)
    case.git.git("update-ref", "-d", tag(case, 4))


def forged_line(case: Case) -> None:
    """Two entries in one commit, without tags."""
    ledger = case.place.store.read()
    first = ledger.next_entry(case.promotion(4))
    line = first.to_line()
    case.rewrite(lambda it: [*it, line, line.replace(b'"seq":4', b'"seq":5')])


def checkpoint_missing(case: Case) -> None:
    case.folder.store.checkpoint_file.unlink()


def checkpoint_damaged(case: Case) -> None:
    case.folder.store.checkpoint_file.write_bytes(b'{"seq":3')


ON_GIT: dict[Damage, str] = {
    foreign_file: "mark the commit .* as dealt with.*\n.*remove the file README.md",
    index_removed: "restore the file index.jsonl",
    index_replaced_by_a_link: "restore the file index.jsonl",
    stray_tag: "delete the tag tiny@v0.9.0: it belongs to no entry",
    tag_of_another_entry: "delete the tag tiny@v0.9.0: it belongs to no entry",
    flipped_byte: "remove line 2: its hash does not match its content\n.*restore entry 2",
    line_removed: r"restore entry 2 \(promoted v0.2.0",
    cut_off: "restore entry 3",
    cut_within_a_line: "restore entry 3.*\n.*remove the incomplete line 3",
    doubled: r"remove line 3, entry 2 \(promoted .*: it is there twice",
    swapped: "put the lines back in order",
    garbage_appended: "remove line 4: .*\n.*remove line 5: ",
    incomplete_line: "remove the incomplete line 4",
    wound_back: "take the commits up to .* back into the branch",
    wound_back_and_pushed: "take the commits up to .* back into the branch",
    branch_deleted: "restore the branch",
    squashed: "take the commits up to .* back into the branch",
    tag_moved: r"replace the tag tiny@v0.2.0(-dev)? of entry 2",
}
DEV_ON_GIT: dict[Damage, str] = {
    tag_deleted: "make the tag tiny@v0.2.0-dev of entry 2",
    last_tag_deleted: "make the tag tiny@v0.3.0-dev of entry 3",
    all_tags_deleted: "make the tag tiny@v0.1.0-dev of entry 1",
    tag_made_lightweight: "replace the tag tiny@v0.2.0-dev of entry 2",
}
PROD_ON_GIT: dict[Damage, str] = {
    forged: r"entry 4 \(promoted v0.4.0 in prod\): it is not signed\n(.*\n)*.*delete the tag tiny@",
    two_forged: r"entry 4 .*not signed\n.*entry 5 .*not signed",
    forged_without_a_tag: "entry 4 .*not signed, because its tag is missing",
    forged_line: "entry 4 .*not signed, because its tag is missing.*\n.*remove line 5: its hash",
}
IN_A_FOLDER: dict[Damage, str] = {
    doubled: r"remove line 3, entry 2 \(promoted .*: it is there twice",
    swapped: "put the lines back in order",
    garbage_appended: "remove line 4: ",
    checkpoint_missing: "write the checkpoint for entry 3 .*: it was missing",
    checkpoint_damaged: "write the checkpoint for entry 3 .*: it was damaged",
}
PROD_IN_A_FOLDER: dict[Damage, str] = {
    forged: r"entry 4 \(promoted v0.4.0 in prod\): it is not signed\n.*keep the file(.*\n)*.*write",
    two_forged: r"entry 4 .*not signed\n.*entry 5 .*not signed",
    forged_line: "entry 4 .*not signed\n.*remove line 5: its hash",
}
SLOW = pytest.mark.slow
REPAIRABLE = [
    pytest.param(store, env, how, shown, marks=[SLOW] if store == "git" else [], id=name)
    for store, envs, table in (
        ("git", (Env.DEV, Env.PROD), ON_GIT),
        ("git", (Env.DEV,), DEV_ON_GIT),
        ("git", (Env.PROD,), PROD_ON_GIT),
        ("folder", (Env.DEV, Env.PROD), IN_A_FOLDER),
        ("folder", (Env.PROD,), PROD_IN_A_FOLDER),
    )
    for env in envs
    for how, shown in table.items()
    for name in [f"{store}-{env}-{how.__name__}"]
]


@pytest.mark.parametrize(("store", "env", "how", "shown"), REPAIRABLE)
def test_a_damage_is_shown_and_repaired(
    new_case: NewCase, store: str, env: Env, how: Damage, shown: str
) -> None:
    """``--dry-run`` changes nothing. Afterwards the three promotions are there, the registry
    verifies, and it grows. Nothing was forced, and the old bytes are kept."""
    case = new_case(store, env)
    before = case.entries
    how(case)
    damaged, kept = case.place.all(), case.place.index
    raw = b"" if how in (index_removed, index_replaced_by_a_link) else kept()
    assert case.run("verify")[0] in (1, 2)
    code, out, err = case.run("repair", "--dry-run")
    assert (code, err) == (1, "")
    assert re.search(shown, out)
    assert case.place.all() == damaged
    assert case.run("repair", "--yes")[0] == 0
    assert case.entries == before
    code, out, err = case.run("verify")
    assert (code, err) == (0, "")
    assert case.run("repair", "--yes")[:2] == (0, "There is nothing to repair.\n")
    if store == "folder" and raw != case.place.index():
        assert case.place.all()["index.jsonl.before-repair-1"] == raw
    if store == "git" and f"refs/heads/{BRANCH}" in damaged:
        old = damaged[f"refs/heads/{BRANCH}"].decode()
        assert old in case.git.commits()
    new = case.promote(6)
    assert case.entries == (*before, new)
    assert case.run("verify")[0] == 0
