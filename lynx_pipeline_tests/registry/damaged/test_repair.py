"""Each damage that can be repaired without a loss is repaired: docs/signatures.md has the table."""

import re
from collections.abc import Callable

import pytest

from lynx_pipeline.domain.versioning import Env
from lynx_pipeline_tests.registry.damaged.conftest import Case
from lynx_pipeline_tests.registry.damaged.damage import (
    all_tags_deleted,
    branch_deleted,
    branch_replaced,
    checkpoint_damaged,
    checkpoint_missing,
    commit_tree,
    cut_off,
    cut_within_a_line,
    dev_entries_in_one_commit,
    doubled,
    flipped_byte,
    foreign_file,
    forged,
    forged_line,
    forged_without_a_tag,
    garbage_appended,
    incomplete_line,
    index_removed,
    index_replaced_by_a_link,
    last_tag_deleted,
    line_removed,
    registered_on_a_forged_one,
    reset,
    squashed,
    stray_tag,
    swapped,
    tag_deleted,
    tag_made_lightweight,
    tag_moved,
    tag_of_a_ledger_that_is_not_there,
    tag_of_another_entry,
    tag_with_a_wrong_hash,
    two_forged,
    wound_back,
    wound_back_and_pushed,
)
from lynx_pipeline_tests.support.places import BRANCH
from lynx_pipeline_tests.support.signing import sign

NewCase = Callable[[str, Env], Case]
Damage = Callable[[Case], object]


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
    branch_replaced: "take the commits up to .* back into the branch",
    tag_with_a_wrong_hash: r"replace the tag tiny@v0.2.0(-dev)? of entry 2",
    tag_of_a_ledger_that_is_not_there: "delete the tag tiny@v0.9.0: it belongs to no entry",
    dev_entries_in_one_commit: r"entry 4 \(promoted v0.8.0-dev in dev\): it has neither a tag nor",
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
    registered_on_a_forged_one: "entry 4 .*not signed.*\n.*entry 5 .*chained to entry 4, which is",
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


@pytest.mark.slow
def test_the_evidence_is_kept(new_case: NewCase) -> None:
    """Somebody has replaced the whole tree. What readers need beside the ledger comes back."""
    case = new_case("git", Env.PROD)
    new = case.promotion(4)
    case.place.store.append(lambda _: new, [b"the predictions"], sign)
    assert case.place.holds(b"the predictions")
    foreign_file(case)
    commit_tree(case, "")
    assert not case.place.holds(b"the predictions")
    assert case.run("repair", "--yes")[0] == 0
    assert case.place.holds(b"the predictions")
    listed = case.git.git("ls-tree", "--name-only", BRANCH).split()
    assert listed == [b"evidence", b"index.jsonl"]


@pytest.mark.slow
def test_a_repair_s_commit_and_tag_say_what_it_changed(new_case: NewCase) -> None:
    """Also the signature that a deleted tag had: somebody may trust its key."""
    case = new_case("git", Env.PROD)
    new = case.promotion(4)
    forged = case.place.store.append(lambda _: new, (), lambda entry: sign(entry, "other")).entry
    assert case.run("repair", "--yes")[0] == 0
    message = case.git.git("log", "-1", "--format=%B", BRANCH)
    assert b"entry 4 (promoted v0.4.0 in prod): no key in" in message
    assert sign(forged, "other").strip() in message
    tagged = case.git.git("for-each-ref", "--format=%(contents)", "refs/tags/tiny@repair-1")
    assert tagged == message
    assert case.git.git("rev-parse", "tiny@repair-1^{commit}") == case.git.git("rev-parse", BRANCH)


@pytest.mark.slow
def test_only_a_repair_s_tag_makes_a_commit_dealt_with(new_case: NewCase) -> None:
    """Whoever may push the branch and no tags can't hide what was pushed. What comes after a repair
    is named again."""
    case = new_case("git", Env.PROD)
    foreign_file(case)
    assert case.run("repair", "--yes")[0] == 0
    foreign_file(case)
    code, _, err = case.run("verify")
    assert (code, err.count("the commit")) == (1, 1)
    case.git.git("update-ref", "-d", "refs/tags/tiny@repair-1")
    code, _, err = case.run("verify")
    assert (code, err.count("the commit")) == (1, 3)
    assert case.run("repair", "--yes")[0] == 0
    reset(case, case.git.commits()[2])
    assert "the tag tiny@repair-1 is ignored: it belongs to no entry" in case.run("verify")[2]
    assert case.run("repair", "--yes")[0] == 0
    assert case.run("verify")[0] == 0


def test_an_empty_registry_needs_no_repair(new_case: NewCase) -> None:
    """Nothing was promoted yet."""
    case = new_case("folder", Env.DEV)
    for file in case.folder.folder.iterdir():
        file.unlink()
    assert case.run("repair", "--yes")[:2] == (0, "There is nothing to repair.\n")
    assert case.place.all() == {}
