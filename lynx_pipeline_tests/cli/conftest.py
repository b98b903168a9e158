"""A working directory outside any project, and a project with two promotions."""

from pathlib import Path

import pytest

from lynx_pipeline.adapters.ledgers.directory import DirectoryLedger
from lynx_pipeline.config import Settings
from lynx_pipeline_tests.support.builders import PROMOTED, fact, project


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, which is not in a project."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def promoted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A project with two promotions in dev, and the working directory in it. The first one is from
    before digests were recorded."""
    settings = project(folder / "p", pyproject='registry = "ledger"\n')
    monkeypatch.chdir(folder / "p")
    assert isinstance(settings.registry, Path)
    store = DirectoryLedger(settings.registry)
    for number in (1, 2):
        same = f"{number}" * 64
        version = f"v0.{number}.0-dev"
        digest = same if number == 2 else None
        new = fact(event=PROMOTED, semver=version, canonical_sha=same, bundle_digest=digest)
        store.append(lambda _, new=new: new)  # type: ignore[misc]
    return settings
