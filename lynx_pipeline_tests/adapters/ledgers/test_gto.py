"""GTO, a model registry on git tags, lists this registry's versions."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lynx_pipeline_tests.support.places import BRANCH, OnGit, git, promote

pytestmark = pytest.mark.slow


def gto(repository: Path, *arguments: str) -> Any:
    """The output of a command of GTO, as JSON."""
    program = str(Path(sys.executable).with_name("gto"))
    command = [program, *arguments, "--json", "--repo", str(repository)]
    return json.loads(subprocess.check_output(command))


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
