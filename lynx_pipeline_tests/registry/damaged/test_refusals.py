"""A repair refuses to lose an entry that counts, and says why. Nothing changes."""

import re
from collections.abc import Callable

import pytest

from lynx_pipeline.adapters.ledgers.directory import SIGNATURES
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline_tests.registry.damaged.conftest import Case
from lynx_pipeline_tests.registry.damaged.damage import (
    checkpoint_damaged,
    checkpoint_missing,
    commit_tree,
    cut_off,
    flipped_byte,
    last_tag_deleted,
    reset,
    tag,
    tag_deleted,
    wound_back,
)
from lynx_pipeline_tests.support.places import BRANCH
from lynx_pipeline_tests.support.signing import RELEASE, signatures_table

NewCase = Callable[[str, Env], Case]
Damage = Callable[[Case], object]


def flipped_without_a_checkpoint(case: Case) -> None:
    flipped_byte(case)
    checkpoint_missing(case)


def cut_off_with_its_checkpoint(case: Case) -> None:
    """The signature file still names the entry."""
    cut_off(case)
    checkpoint_damaged(case)


def all_lines_damaged(case: Case) -> None:
    case.rewrite(lambda it: [b"x\n" for _ in it])
    checkpoint_missing(case)
    (case.folder.folder / SIGNATURES).unlink()


def trusting_another_key(case: Case) -> None:
    """An administrator with outdated settings."""
    file = case.root / "pyproject.toml"
    text = file.read_text()
    file.write_text(text.replace(signatures_table(RELEASE), signatures_table("other")))


def wound_back_with_its_tag(case: Case) -> None:
    """The administrator's memory knows the last entry, and nobody its signature."""
    case.remember()
    wound_back(case)
    tag_deleted(case, 3)


def last_tag_of_a_remembered_entry(case: Case) -> None:
    case.remember()
    last_tag_deleted(case)


def shortened_as_remembered(case: Case) -> None:
    """In a folder nothing but the memory knows that a promotion was rolled back."""
    case.remember()
    cut_off(case)
    checkpoint_missing(case)
    lines = (case.folder.folder / SIGNATURES).read_bytes().splitlines(keepends=True)
    (case.folder.folder / SIGNATURES).write_bytes(b"".join(lines[:2]))
    (memory,) = (case.settings.home / "verified").glob("*.json")
    values = memory.read_text()
    memory.write_text(values.replace(case.version(3), case.version(2)))


def damaged_memory(case: Case) -> None:
    case.remember()
    (memory,) = (case.settings.home / "verified").glob("*.json")
    memory.write_text("{}")


def two_ledgers(case: Case) -> None:
    """Two promotions after the second one, both with a tag."""
    refs = case.git.refs()
    reset(case, case.git.commits()[-2])
    case.git.git("update-ref", "-d", tag(case, 3))
    case.promote(4)
    case.git.git("update-ref", tag(case, 3), refs[tag(case, 3)])


def not_a_registry(case: Case) -> None:
    """The setting names the branch of the code, in the same repository."""
    blob = case.git.git("hash-object", "-w", "--stdin", stdin=b"x").decode()
    tree = case.git.git("mktree", stdin=f"100644 blob {blob}\tmain.py\n".encode()).decode()
    reset(case, case.git.git("commit-tree", tree, "-m", "x").decode())


REFUSED: list[tuple[str, Env, Damage, int, str]] = [
    ("folder", Env.DEV, flipped_byte, 1, r"the checkpoint names entry 3 .*can't be kept"),
    ("folder", Env.PROD, flipped_byte, 1, r"names entry 3 .*can't be kept"),
    ("folder", Env.DEV, flipped_without_a_checkpoint, 1, "entry 3 .* verifies, and can't be kept"),
    ("folder", Env.PROD, flipped_without_a_checkpoint, 1, "signature names entry 3"),
    ("folder", Env.DEV, cut_off, 1, "the checkpoint names an entry .*can't be found any more"),
    ("folder", Env.PROD, cut_off, 1, "names an entry .*can't be found any more"),
    ("folder", Env.PROD, cut_off_with_its_checkpoint, 1, "a valid signature names an entry"),
    ("folder", Env.PROD, all_lines_damaged, 2, "nothing that verifies is left of the ledger"),
    ("folder", Env.PROD, trusting_another_key, 1, "no entry has a signature by a key in"),
    ("folder", Env.PROD, shortened_as_remembered, 2, "entry 3 is not the one with the hash"),
    ("folder", Env.PROD, damaged_memory, 2, "delete the file"),
    ("git", Env.PROD, tag_deleted, 1, "tiny@v0.2.0 of entry 2 .*would be ignored: it is not sign"),
    ("git", Env.PROD, last_tag_of_a_remembered_entry, 1, "tag tiny@v0.3.0 of entry 3 .*is missing"),
    ("git", Env.PROD, wound_back_with_its_tag, 1, "tag tiny@v0.3.0 of entry 3 .*is missing"),
    ("git", Env.PROD, two_ledgers, 1, "or there are two ledgers"),
    ("git", Env.DEV, two_ledgers, 1, "or there are two ledgers"),
    ("git", Env.DEV, not_a_registry, 2, "is not a registry: the branch never had a file"),
]


@pytest.mark.parametrize(
    ("store", "env", "how", "code", "message"),
    [
        pytest.param(
            *case,
            marks=[pytest.mark.slow] if case[0] == "git" else [],
            id=f"{case[0]}-{case[1]}-{case[2].__name__}",
        )
        for case in REFUSED
    ],
)
def test_a_loss_is_refused(
    new_case: NewCase, store: str, env: Env, how: Damage, code: int, message: str
) -> None:
    """In one paragraph, also with ``--dry-run``."""
    case = new_case(store, env)
    how(case)
    damaged = case.place.all()
    for option in ("--yes", "--dry-run"):
        found, out, err = case.run("repair", option)
        assert (found, out) == (code, ""), err
        assert re.search(message, err), err
        assert err.count("\n") == 1
    assert case.place.all() == damaged


@pytest.mark.parametrize("store", ["folder", pytest.param("git", marks=pytest.mark.slow)])
def test_an_ignored_entry_that_later_ones_build_on_stays(new_case: NewCase, store: str) -> None:
    """The chain can't do without it. ``repair`` says so, and ``verify`` goes on naming it."""
    case = new_case(store, Env.PROD)
    case.forge(4)
    case.promote(5)
    before = case.place.all()
    code, out, err = case.run("repair", "--yes")
    assert (code, err) == (0, "")
    assert "Note: entry 4 (promoted v0.4.0 in prod) stays, and is ignored: it is not signed" in out
    assert out.endswith("There is nothing to repair.\n")
    assert case.place.all() == before
    assert case.run("verify")[0] == 1
    case.forge(6)
    assert case.run("repair", "--yes")[0] == 0
    assert [entry.fact.semver for entry in case.entries][3:] == ["v0.4.0", "v0.5.0"]
    assert case.run("repair", "--dry-run")[0] == 0


def test_in_dev_no_entry_of_prod_is_removed(
    new_case: NewCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What this machine remembers of it is not looked at there."""
    case = new_case("folder", Env.PROD)
    case.forge(4)
    before = case.place.all()
    monkeypatch.setenv("LYNX_ENV", "dev")
    code, out, _ = case.run("repair", "--yes")
    assert code == 0
    assert "entry 4 (promoted v0.4.0 in prod) stays, and is ignored" in out
    assert case.place.all() == before


def test_without_keys_nothing_is_judged(new_case: NewCase) -> None:
    """Every entry is ignored, because its signature can't be checked. None is removed."""
    case = new_case("folder", Env.PROD)
    file = case.root / "pyproject.toml"
    file.write_text(file.read_text().replace(signatures_table(RELEASE), ""))
    before = case.place.all()
    code, out, _ = case.run("repair", "--yes")
    assert code == 0
    assert out.count("its signature can't be checked") == 3
    assert case.place.all() == before


def test_the_reader_s_memory_restores_the_latest_promotion(new_case: NewCase) -> None:
    """Its line is damaged in the folder, and remembered."""
    case = new_case("folder", Env.PROD)
    before = case.entries
    case.remember()
    case.rewrite(lambda it: [*it[:2], it[2].replace(b"v0.3.0", b"v0.7.0")])
    code, out, _ = case.run("repair", "--yes")
    assert code == 0
    assert "remove line 3: its hash does not match" in out
    assert "restore entry 3 (promoted v0.3.0 in prod)" in out
    assert case.entries == before
    assert case.run("verify")[0] == 0


def test_an_entry_that_only_the_memory_knows_as_signed_stays(new_case: NewCase) -> None:
    """Other readers ignore it, so the administrator is told."""
    case = new_case("folder", Env.PROD)
    case.remember()
    file = case.folder.folder / SIGNATURES
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:2]))
    before = case.place.all()
    code, out, _ = case.run("repair", "--yes")
    assert code == 0
    assert "entry 3 (promoted v0.3.0 in prod) counts here only because it was verified" in out
    assert case.place.all() == before


@pytest.mark.parametrize("store", ["folder", pytest.param("git", marks=pytest.mark.slow)])
def test_a_reader_with_a_memory_accepts_the_repair(new_case: NewCase, store: str) -> None:
    """It has seen the forged entry, too."""
    case = new_case(store, Env.PROD)
    case.forge(4)
    case.remember()
    assert case.run("repair", "--yes")[0] == 0
    code, out, err = case.run("resolve")
    assert (code, err) == (0, "")
    assert "semver: v0.3.0" in out
    case.promote(4)
    assert "semver: v0.4.0" in case.run("resolve")[1]


@pytest.mark.slow
def test_a_branch_without_a_ledger_file_is_left_alone(new_case: NewCase) -> None:
    """Also if it is empty, and there are no tags."""
    case = new_case("git", Env.DEV)
    commit_tree(case, "")
    case.git.git("update-ref", "-d", f"refs/heads/{BRANCH}")
    for number in (1, 2, 3):
        tag_deleted(case, number)
    assert case.run("repair", "--yes")[:2] == (0, "There is nothing to repair.\n")
    assert case.git.refs() == {}
