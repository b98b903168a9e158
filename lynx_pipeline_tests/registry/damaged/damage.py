"""What somebody, or a failing disk, can do to a registry."""

from lynx_pipeline.domain.ledger.chain import Ledger
from lynx_pipeline.domain.ledger.facts import Fact
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline_tests.registry.damaged.conftest import Case
from lynx_pipeline_tests.support.builders import fact, promoted
from lynx_pipeline_tests.support.places import BRANCH


def reset(case: Case, commit: str) -> None:
    """Force the branch to a commit."""
    case.git.git("update-ref", f"refs/heads/{BRANCH}", commit)


def tag(case: Case, number: int) -> str:
    """The name of a promotion's tag."""
    return f"refs/tags/tiny@{case.version(number)}"


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


def retag(case: Case, name: str, old: bytes, new: bytes) -> None:
    """Make a tag like the second entry's, with another message."""
    text = case.git.git("for-each-ref", "--format=%(contents)", tag(case, 2)) + b"\n"
    assert old in text
    commit = case.git.commits()[1]
    text = text.replace(old, new)
    case.git.git("tag", "--force", "--annotate", "--file=-", name, commit, stdin=text)


def tag_with_a_wrong_hash(case: Case) -> None:
    hashed = case.entries[1].hash.encode()
    retag(case, tag(case, 2).removeprefix("refs/tags/"), b'"hash":"' + hashed, b'"hash":"0000')


def tag_of_a_ledger_that_is_not_there(case: Case) -> None:
    """It says that there were more entries, so readers refuse the branch."""
    retag(case, "tiny@v0.9.0", b'"seq":2', b'"seq":9')


def branch_replaced(case: Case) -> None:
    """By a forced push of another history, with a ledger of its own."""
    first = case.entries[0].to_line()
    reset(case, case.git.commit(first, None))


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


def push_lines(case: Case, *facts: Fact, together: bool) -> None:
    """Push entries without tags, each with a commit, or all with one."""
    ledger, raw = case.place.store.read(), case.place.index()
    for number, new in enumerate(facts, start=1):
        entry = ledger.next_entry(new)
        ledger = Ledger((*ledger.entries, entry), 0)
        raw += entry.to_line()
        if number == len(facts) or not together:
            case.place.overwrite(raw)


def registered_on_a_forged_one(case: Case) -> None:
    """An entry that needs no signature is chained to a forged one. Neither has a tag."""
    push_lines(case, case.promotion(4), fact(env=Env.PROD), together=False)


def dev_entries_in_one_commit(case: Case) -> None:
    """They need no signature, and have no tag."""
    push_lines(case, promoted("v0.8.0-dev"), promoted("v0.9.0-dev"), together=True)


def checkpoint_missing(case: Case) -> None:
    case.folder.store.checkpoint_file.unlink()


def checkpoint_damaged(case: Case) -> None:
    case.folder.store.checkpoint_file.write_bytes(b'{"seq":3')
