"""A git repository with an eval set, which is not a project yet."""

from collections.abc import Callable
from pathlib import Path

import pytest

from lynx_pipeline_tests.support.repositories import repository_with_eval_set
from lynx_pipeline_tests.support.wheels import imitation

Write = Callable[[str, str], Path]


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The repository, which is the working directory."""
    root = repository_with_eval_set(tmp_path / "shop")
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def write(repository: Path) -> Write:
    """Write a file in the repository."""

    def write(name: str, text: str) -> Path:
        file = repository / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    return write


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """A wheel with this project's name and version."""
    return imitation(tmp_path)
