"""GTO, a model registry on git tags, lists this registry's versions."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lynx_pipeline.adapters.ledgers.gto_stage import assign_stage
from lynx_pipeline.errors import BadInput
from lynx_pipeline_tests.support.gto import gto, run_gto
from lynx_pipeline_tests.support.places import BRANCH, OnGit, git, promote

pytestmark = pytest.mark.slow


def test_gto_lists_the_versions_of_a_registry(tmp_path: Path) -> None:
    """In a clone, and in the bare repository: the latest version, and the commit of each."""
    place = OnGit.new(tmp_path / "registry.git")
    entries = [promote(place.store, number) for number in (1, 2)]
    git(tmp_path, "clone", "--quiet", "--branch", BRANCH, str(place.bare), "clone")
    for repository in (place.bare, tmp_path / "clone"):
        shown = gto(repository, "show")
        assert {name: it["version"] for name, it in shown.items()} == {"tiny": "v0.2.0-dev"}
        history = gto(repository, "history")
        assert [(it["artifact"], it["event"], it["version"]) for it in history] == [
            ("tiny", "registration", f"v0.{number}.0-dev") for number in (1, 2)
        ]
        commits = [
            commit for commit in place.commits() if commit in {it["commit"] for it in history}
        ]
        assert len(commits) == len(entries)


def stage(place: OnGit, number: int) -> str:
    """Put a version into the stage, as a new process would."""
    return assign_stage(place.remote, "tiny", "prod", f"v0.{number}.0-dev")


def test_gto_shows_the_version_in_the_stage(tmp_path: Path) -> None:
    """Also a version that was in it before, all within one second. Repeating an assignment adds no
    tag, and the ledger's readers see none."""
    place = OnGit.new(tmp_path / "registry.git")
    for number in (1, 2):
        promote(place.store, number)
    for number, tag in ((1, "tiny#prod#1"), (2, "tiny#prod#2"), (1, "tiny#prod#3")):
        assert stage(place, number) == stage(place, number) == tag
        (shown,) = gto(place.bare, "show").values()
        assert shown["stage"] == {"prod": f"v0.{number}.0-dev"}
    assert [it for it in place.tags() if "#" in it] == [f"tiny#prod#{n}" for n in (1, 2, 3)]
    assert place.store.read().strays == ()
    assert len(place.store.read().entries) == 2


def test_assignments_by_gto_are_counted(tmp_path: Path) -> None:
    """Numbers continue after those of any stage. A version that GTO took out of the stage is put
    into it again. A lightweight tag counts, and says nothing."""
    place = OnGit.new(tmp_path / "registry.git")
    for number in (1, 2):
        promote(place.store, number)
    for arguments in (
        ("assign", "tiny", "--version", "v0.1.0-dev", "--stage", "dev"),
        ("assign", "tiny", "--version", "v0.1.0-dev", "--stage", "prod"),
    ):
        run_gto(place.bare, *arguments)
    assert stage(place, 1) == "tiny#prod#2"
    run_gto(place.bare, "deprecate", "tiny", "v0.1.0-dev", "prod")
    assert gto(place.bare, "show")["tiny"]["stage"] == {"dev": "v0.1.0-dev"}
    assert stage(place, 1) == "tiny#prod#4"
    git(place.bare, "tag", "tiny#prod#7", BRANCH)
    assert stage(place, 1) == "tiny#prod#4"
    assert stage(place, 2) == "tiny#prod#8"
    assert gto(place.bare, "show")["tiny"]["stage"] == {"dev": "v0.1.0-dev", "prod": "v0.2.0-dev"}


def test_a_version_without_a_tag_is_refused(tmp_path: Path) -> None:
    place = OnGit.new(tmp_path / "registry.git")
    promote(place.store, 1)
    with pytest.raises(BadInput, match=r"the tag tiny@v0\.3\.0-dev is missing"):
        stage(place, 3)


def test_concurrent_assignments_get_numbers_of_their_own(tmp_path: Path) -> None:
    """The loser of the race sees the winner's tag, and tries again."""
    place = OnGit.new(tmp_path / "registry.git")
    for number in (1, 2):
        promote(place.store, number)
    with ThreadPoolExecutor() as pool:
        tags = set(pool.map(lambda number: stage(place, number), (1, 2)))
    assert tags == {"tiny#prod#1", "tiny#prod#2"}
