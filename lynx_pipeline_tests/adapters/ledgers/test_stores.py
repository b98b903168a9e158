"""What both stores guarantee."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lynx_pipeline.adapters.ledgers import open_store
from lynx_pipeline.config import load_settings
from lynx_pipeline.domain.ledger.chain import Ledger, evidence_path
from lynx_pipeline.domain.ledger.facts import Fact, Malformed
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.errors import BadInput, Refused
from lynx_pipeline_tests.domain.ledger.test_chain import GOLDEN, golden_facts
from lynx_pipeline_tests.support.builders import fact, project, promoted, rolled_back, sha256
from lynx_pipeline_tests.support.places import InFolder, OnGit, Place, facts, promote, version

PLACES: dict[str, Callable[[Path], Place]] = {
    "folder": lambda tmp: InFolder(tmp / "registry"),
    "git": lambda tmp: OnGit.new(tmp / "registry.git"),
    "partial": lambda tmp: OnGit.new(tmp / "registry.git", partial=True),
}
everywhere = pytest.mark.parametrize("place", PLACES, indirect=True)


@pytest.fixture(params=["folder", "git"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A place for a ledger that does not exist yet."""
    return PLACES[request.param](tmp_path)


@everywhere
def test_a_missing_ledger_reads_as_empty_and_is_not_created(place: Place) -> None:
    """A serving process may have no write permission."""
    before = place.all()
    assert place.store.read() == Ledger()
    assert place.all() == before
    assert not isinstance(place, InFolder) or not place.folder.exists()


@everywhere
def test_appended_facts_read_back_in_order(place: Place) -> None:
    """The file consists of the entries' lines only."""
    entries = [promote(place.store, number) for number in range(4)]
    ledger = place.store.read()
    assert list(ledger.entries) == entries
    assert place.index() == b"".join(entry.to_line() for entry in entries)
    assert (ledger.size, ledger.torn) == (len(place.index()), 0)


@everywhere
def test_both_stores_write_the_same_bytes_for_the_same_facts(place: Place) -> None:
    """The bytes are the golden ledger's, so a ledger can be moved between the stores."""
    for each in golden_facts():
        place.store.append(lambda _, each=each: each)  # type: ignore[misc]
    assert place.index() == GOLDEN


def test_deciding_for_an_existing_entry_changes_nothing(place: Place) -> None:
    """Repeat the promotion of the first and of the last of two entries."""
    first, second = promote(place.store, 1), promote(place.store, 2)
    before = place.all()
    assert promote(place.store, 2, (b"other evidence",)) == second
    assert promote(place.store, 1) == first
    assert place.all() == before


def test_a_decision_gets_the_current_ledger(place: Place) -> None:
    """Each decision is called once, with all earlier entries."""
    seen = []
    for number in range(3):

        def decide(ledger: Ledger, number: int = number) -> Fact:
            seen.append([entry.fact for entry in ledger.entries])
            return version(number)

        place.store.append(decide)
    assert seen == [[], [version(0)], [version(0), version(1)]]


@pytest.mark.parametrize("earlier", [0, 1])
def test_a_decision_that_raises_writes_nothing(place: Place, earlier: int) -> None:
    """No entry, no evidence and no new ledger. Its exception passes through unchanged."""
    for number in range(earlier):
        promote(place.store, number)
    before = place.all()

    def no(_: Ledger) -> Fact:
        raise Refused("no")

    with pytest.raises(Refused, match=r"^no$"):
        place.store.append(no, (b"evidence",))
    assert place.all() == before


def test_a_fact_that_would_not_read_back_is_not_written(place: Place) -> None:
    """An empty model name, a cost that JSON can't hold exactly, empty evidence, a bad time."""
    promote(place.store, 1)
    before = place.all()
    inexact_cost = promoted("v0.2.0-dev", cpqu=1e17)
    no_evidence = promoted("v0.2.0-dev", evidence=Malformed({}, ""))
    for bad in (fact(model=""), inexact_cost, no_evidence, fact(time="yesterday")):
        with pytest.raises(BadInput):
            place.store.append(lambda _, bad=bad: bad, (b"evidence",))  # type: ignore[misc]
        assert place.all() == before


def test_all_kinds_of_facts_are_kept(place: Place) -> None:
    """Registrations, promotions and rollbacks in both environments, in any language."""
    odd = Malformed({"jti": "k", "note": "\x00\n\u2028"}, "")
    kept = [
        fact(),
        version(1),
        fact(parent_sha="größer 🦁"),
        *golden_facts()[1:],
        rolled_back(version(1)),
        promoted("v1.2.4", env=Env.PROD, actor=odd),
    ]
    for each in kept:
        place.store.append(lambda _, each=each: each)  # type: ignore[misc]
    assert facts(place.store) == kept


# ----- evidence -----------------------------------------------------------------------------

PIECES = (b"{}\n", b"\x00\xff not text \n\n", b"", b"x" * 300_000)


@everywhere
def test_evidence_is_kept_and_read_back_by_its_digest(place: Place) -> None:
    """Evidence may be any bytes. It is kept when later entries have no evidence."""
    promote(place.store, 1, PIECES)
    promote(place.store, 2)
    for piece in PIECES:
        assert place.store.evidence(sha256(piece)) == piece


def test_evidence_that_two_entries_share_is_kept_once(place: Place) -> None:
    """Several promotions may share a baseline, for example. Evidence may be any iterable."""
    promote(place.store, 1, (b"shared", b"first"))
    place.store.append(lambda _: version(2), iter([b"shared", b"second", b"shared"]))
    for piece in (b"shared", b"first", b"second"):
        assert place.store.evidence(sha256(piece)) == piece


@everywhere
def test_missing_evidence_is_named(place: Place) -> None:
    """The error names the file, with and without a ledger. Reading creates nothing."""
    before = place.all()
    for _ in range(2):
        with pytest.raises(BadInput, match=f"{evidence_path(sha256(b'no'))} is missing"):
            place.store.evidence(sha256(b"no"))
        assert place.all() == before
        promote(place.store, 1, (b"yes",))
        before = place.all()


@everywhere
def test_changed_evidence_is_named(place: Place) -> None:
    """The entry has its digest, so a replacement is detected."""
    promote(place.store, 1, (b"true",))
    path = evidence_path(sha256(b"true"))
    if isinstance(place, OnGit):
        blob = place.git("hash-object", "-w", "--stdin", stdin=b"false").decode()
        place.git("read-tree", "lynx-registry")
        place.git("update-index", "--cacheinfo", f"100644,{blob},{path}")
        tree = place.git("write-tree").decode()
        commit = place.git("commit-tree", tree, "-p", "lynx-registry", "-m", "x").decode()
        place.git("update-ref", "refs/heads/lynx-registry", commit)
    else:
        assert isinstance(place, InFolder)
        (place.folder / path).write_bytes(b"false")
    with pytest.raises(BadInput, match=f"{path} was changed"):
        place.store.evidence(sha256(b"true"))


def test_damaged_evidence_is_rewritten_by_the_next_entry_that_has_it(tmp_path: Path) -> None:
    """In the directory store, where a file may be damaged later."""
    place = InFolder(tmp_path / "registry")
    promote(place.store, 1, (b"true",))
    file = place.folder / evidence_path(sha256(b"true"))
    file.write_bytes(b"tr")
    promote(place.store, 2, (b"true",))
    assert place.store.evidence(sha256(b"true")) == b"true"


# ----- many writers -------------------------------------------------------------------------

_WRITER = """
import sys
from pathlib import Path
from lynx_pipeline.config import load_settings
from lynx_pipeline.adapters.ledgers import open_store
from lynx_pipeline_tests.support.builders import fact
store = open_store(load_settings(Path(sys.argv[1]), {}))
sys.stdin.readline()
for number in range(int(sys.argv[3])):
    store.append(lambda ledger: fact(canonical_sha=f"{sys.argv[2]}-{number}"))
    store.read()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "writers", "appends"),
    [("folder", 8, 5), ("git", 4, 3), ("partial", 3, 2)],
    indirect=["place"],
)
def test_many_processes_write_one_history(
    place: Place, writers: int, appends: int, tmp_path: Path
) -> None:
    """Processes that open the store from the project's settings start together: no entry is lost,
    each process's entries are in its order, and a concurrent reader sees only complete ledgers."""
    root = tmp_path / "project"
    project(root, pyproject=f'registry = "{place.setting}"\n')
    command = [sys.executable, "-c", _WRITER, str(root)]
    started = [
        subprocess.Popen([*command, str(writer), str(appends)], stdin=subprocess.PIPE, text=True)
        for writer in range(writers)
    ]
    for process in started:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.close()
    longest = 0
    while any(process.poll() is None for process in started):
        seen = len(place.store.read().entries)
        assert seen >= longest
        longest = seen
    assert [process.returncode for process in started] == [0] * writers
    written = [f.canonical_sha for f in facts(place.store)]
    assert len(written) == writers * appends
    for writer in range(writers):
        own = [sha for sha in written if sha.startswith(f"{writer}-")]
        assert own == [f"{writer}-{number}" for number in range(appends)]


def test_the_settings_open_the_store(place: Place, tmp_path: Path) -> None:
    """``registry`` in ``pyproject.toml`` chooses the store, with its branch."""
    root = tmp_path / "project"
    project(root, pyproject=f'registry = "{place.setting}"\n')
    promote(open_store(load_settings(root, {})), 1)
    assert facts(place.store) == [version(1)]
