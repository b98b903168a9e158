"""Any failure at any step of a promotion leaves the old ledger or the complete new one."""

from collections.abc import Callable, Iterable, Iterator
from itertools import product
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from lynx_pipeline.adapters.ledgers.git import GitLedger
from lynx_pipeline.errors import BadInput, SystemFailed
from lynx_pipeline_tests.simulators.faults.bundle_store import bundle_store_fails
from lynx_pipeline_tests.simulators.faults.disk import (
    DISK_FAULTS,
    HALFWAY,
    disk_fails,
)
from lynx_pipeline_tests.simulators.faults.full_disk import disk_is_full
from lynx_pipeline_tests.simulators.faults.git_commands import (
    GIT_FAULTS,
    assert_consistent,
    git_fails,
    no_waiting,
    three_entries,
)
from lynx_pipeline_tests.simulators.faults.remote import REMOTE_FAULTS, Remote, remote_fails
from lynx_pipeline_tests.simulators.faults.table import (
    BUNDLES,
    COLUMNS,
    DISK,
    GIT,
    INTRO,
    REMOTE,
    WITNESS,
    WITNESS_ON_GIT,
    parsed,
    rendered,
)
from lynx_pipeline_tests.simulators.faults.trial import Table, bwrap_works
from lynx_pipeline_tests.simulators.faults.witness import witness_fails, witness_on_git_fails
from lynx_pipeline_tests.support import REPO
from lynx_pipeline_tests.support.builders import fact
from lynx_pipeline_tests.support.places import BRANCH, OnGit, facts, promote, version
from lynx_pipeline_tests.support.small_process import in_small_process

DOCUMENT = REPO / "docs" / "faults.md"

# Every failpoint, so that a removed one is noticed.
WRITES = ("write evidence", "write signatures", "write index", "write checkpoint")
READS = ("read checkpoint", "read index", "read signatures", "read evidence")
DISK_CALLS = (
    *("mkdir folder", "mkdir evidence folder"),
    *("open lock", "open evidence", "open evidence folder", "open index", "open folder"),
    *("open checkpoint", "sync evidence", "sync evidence folder", "sync index", "sync folder"),
    *("sync checkpoint", "rename evidence", "rename checkpoint", "truncate index"),
    *("close evidence", "close evidence folder", "close index", "close folder"),
    *("close checkpoint", "close lock"),
    *(f"{call} signatures" for call in ("open", "sync", "rename", "close")),
)
GIT_COMMANDS = (
    *("init", "remote", "fetch", "ls-remote", "update-ref", "for-each-ref", "rev-list"),
    *("ls-tree", "cat-file", "fast-import", "config", "push"),
)
STORE_CALLS = (
    *("mkdir folder", "mkdir object folder", "open lock", "open object", "open object folder"),
    *("open folder", "sync object", "sync object folder", "sync folder", "rename object"),
    *("close object", "close object folder", "close folder", "close lock"),
)
WITNESS_WRITES = ("write memory", "write checkpoint")
WITNESS_READS = ("read memory", "read ledger", "read checkpoint")
WITNESS_CALLS = (
    *("mkdir memory's folder", "mkdir checkpoint's folder", "open lock", "close lock"),
    *(f"{call} memory" for call in ("open", "sync", "close", "rename")),
    *(f"{call} checkpoint" for call in ("open", "sync", "close", "rename")),
    *(f"{call} memory's folder" for call in ("open", "sync", "close")),
    *(f"{call} checkpoint's folder" for call in ("open", "sync", "close")),
)
WITNESS_COMMANDS = (
    *("init", "remote", "ls-remote", "fetch", "cat-file", "rev-list", "ls-tree", "for-each-ref"),
    *("fast-import", "config", "push"),
)
FULL = "a nearly full filesystem"
GOLDEN = {
    *product([DISK], WRITES, DISK_FAULTS),
    *product([DISK], READS, ["killed before", "EIO"]),
    *product([DISK], DISK_CALLS, ["killed before", "EIO", "ENOSPC"]),
    (DISK, FULL, "ENOSPC"),
    *product([GIT], [f"git {name}" for name in GIT_COMMANDS], GIT_FAULTS),
    *product([REMOTE], [fault.__doc__ for fault in REMOTE_FAULTS], COLUMNS[REMOTE]),
    *product([REMOTE], [FULL], COLUMNS[REMOTE]),
    *product([BUNDLES], ["write object"], DISK_FAULTS),
    *product([BUNDLES], ["read object"], ["killed before", "EIO"]),
    *product([BUNDLES], STORE_CALLS, ["killed before", "EIO", "ENOSPC"]),
    *product([WITNESS], WITNESS_WRITES, DISK_FAULTS),
    *product([WITNESS], WITNESS_READS, ["killed before", "EIO"]),
    *product([WITNESS], WITNESS_CALLS, ["killed before", "EIO", "ENOSPC"]),
    *product([WITNESS_ON_GIT], [f"git {name}" for name in WITNESS_COMMANDS], GIT_FAULTS),
}


def each(faults: Iterable[object]) -> list[ParameterSet]:
    """A parameter for each fault. All are slow, except that a process dies halfway."""
    return [
        pytest.param(fault, marks=() if fault == HALFWAY else pytest.mark.slow) for fault in faults
    ]


def assert_documented(section: str, table: Table, tmp_path: Path) -> None:
    """Assert that the results are exactly those in docs/faults.md."""
    text = rendered(section, table)
    (tmp_path / "faults.md").write_text(text)
    print(text)
    documented = parsed(DOCUMENT.read_text())
    faults = {fault for _, fault in table}
    failpoints = {failpoint for failpoint, _ in table}
    whole_rows = section == REMOTE or failpoints == {FULL}
    expected = {
        (failpoint, fault): found
        for (where, failpoint, fault), found in documented.items()
        if where == section
        and fault in faults
        and (failpoint in failpoints if whole_rows else failpoint != FULL)
    }
    assert table == expected


def test_the_document_covers_every_fault() -> None:
    """The rows are exactly the golden list, and each fault leaves the old or the new ledger."""
    documented = parsed(DOCUMENT.read_text())
    assert set(documented) == GOLDEN
    for (_, _, column), found in documented.items():
        assert found
        assert column == "reported to the promoter" or found <= {"old", "new"}


def test_the_document_has_no_manual_edits() -> None:
    """Parsed and rendered again, it has the same bytes."""
    text = DOCUMENT.read_text()
    tables: dict[str, Table] = {name: {} for name in COLUMNS}
    for (section, failpoint, fault), found in parsed(text).items():
        tables[section][failpoint, fault] = found
    sections = [rendered(name, table) for name, table in tables.items()]
    assert "\n".join([INTRO, *sections]) == text


# ----- the table ----------------------------------------------------------------------------


@pytest.mark.parametrize("fault", each(DISK_FAULTS))
@pytest.mark.parametrize(
    ("section", "fails"),
    [(DISK, disk_fails), (BUNDLES, bundle_store_fails), (WITNESS, witness_fails)],
    ids=["ledger", "bundles", "witness"],
)
def test_a_failed_system_call_has_the_documented_results(
    memory_path: Path, section: str, fails: Callable[[Path, str], Table], fault: str
) -> None:
    """Each system call of the directory store, of the bundle store and of a witness fails, in each
    state that it can start from."""
    assert_documented(section, in_small_process(fails, memory_path / "disk", fault), memory_path)


@pytest.mark.slow(seconds=10)
@pytest.mark.parametrize("fault", GIT_FAULTS)
def test_a_failed_git_command_of_a_witness_has_the_documented_results(
    memory_path: Path, fault: str
) -> None:
    """Each git command of a witness fails."""
    table = in_small_process(witness_on_git_fails, memory_path / "witness", fault)
    assert_documented(WITNESS_ON_GIT, table, memory_path)


@pytest.mark.parametrize("fault", each(GIT_FAULTS))
def test_a_failed_git_command_has_the_documented_results(memory_path: Path, fault: str) -> None:
    """Each git command of the git store fails, in each state that a branch can be in."""
    assert_documented(GIT, in_small_process(git_fails, memory_path, fault), memory_path)


@pytest.mark.parametrize("fault", each(REMOTE_FAULTS), ids=lambda fault: fault.__name__)
def test_a_remotes_failure_has_the_documented_results(
    memory_path: Path, fault: Callable[[Remote], None]
) -> None:
    """Real hooks, kills, competing writers, full disks and lost networks."""
    assert_documented(REMOTE, in_small_process(remote_fails, memory_path, fault), memory_path)


@pytest.mark.slow
@pytest.mark.parametrize(("section", "store"), [(DISK, "directory"), (REMOTE, "git")])
def test_a_full_disk_has_the_documented_results(tmp_path: Path, section: str, store: str) -> None:
    """A small filesystem gets one more free page at a time until the promotion fits."""
    assert_documented(section, disk_is_full(tmp_path / "full", store), tmp_path)
    assert bwrap_works() in (True, False)


# ----- half a transaction -------------------------------------------------------------------


@pytest.fixture
def place(memory_path: Path) -> Iterator[OnGit]:
    """A remote with three entries."""
    place = OnGit.new(memory_path / "registry.git")
    three_entries(place)
    with no_waiting():
        yield place


LAST = "refs/tags/tiny@v0.3.0-dev"


def test_a_missing_tag_is_restored(place: OnGit) -> None:
    """A remote crashed between branch and tag: reading and appending fail until the same
    promotion restores the tag unchanged."""
    before = place.refs()
    place.git("update-ref", "-d", LAST)
    for use in (place.store.read, lambda: promote(place.store, 4)):
        with pytest.raises(BadInput, match=r"line 3: its tag tiny@v0.3.0-dev is missing"):
            use()
        assert LAST not in place.refs()
    assert promote(place.store, 3).seq == 3
    assert place.refs() == before
    promote(place.store, 4)
    assert facts(place.store) == [version(n) for n in (1, 2, 3, 4)]
    assert_consistent(place)


def test_a_tag_that_cannot_be_restored_is_reported(place: OnGit) -> None:
    """The same promotion fails until the remote accepts the tag."""
    place.git("update-ref", "-d", LAST)
    hook = place.hook("update", 'case "$1" in refs/tags/*) exit 1;; esac')
    with pytest.raises(SystemFailed, match=r"rejected the tag tiny@v0.3.0-dev"):
        promote(place.store, 3)
    assert LAST not in place.refs()
    hook.unlink()
    assert promote(place.store, 3).seq == 3
    assert LAST in place.refs()


def test_a_tag_without_its_commit_is_refused_and_can_be_fixed_by_hand(place: OnGit) -> None:
    """An atomic push never leaves this state, but a reset branch looks the same. The store does not
    guess a repair; the tag still holds the commit to push."""
    tip = place.commits()[-1]
    place.git("update-ref", f"refs/heads/{BRANCH}", f"{BRANCH}~1")
    for use in (place.store.read, lambda: promote(place.store, 4)):
        with pytest.raises(BadInput, match="line 3: cut off"):
            use()
    place.git("update-ref", f"refs/heads/{BRANCH}", tip)
    promote(place.store, 4)
    assert_consistent(place)


def test_a_branch_holds_one_model(place: OnGit) -> None:
    """Two models could not restore each other's tags. Reading and appending both fail."""
    other = GitLedger(place.remote, "other")
    before = place.refs()
    for use in (other.read, lambda: other.append(lambda _: fact(model="other"))):
        with pytest.raises(
            BadInput, match="line 1: the entry is about the model 'tiny', expected 'other'"
        ):
            use()
    assert place.refs() == before
