"""For the adapters' tests: git asks nobody and reads no configuration but the tests' own."""

from pathlib import Path

import pytest

from lynx_pipeline import worker
from lynx_pipeline_tests.builders import bundle
from lynx_pipeline_tests.places import GIT_ENV


@pytest.fixture(autouse=True)
def no_git_configuration_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clear git's variables, and set those that keep its configuration out."""
    for name, value in GIT_ENV.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle; ``script.py`` beside it is run in the worker's place."""
    monkeypatch.setattr(worker, "__file__", str(tmp_path / "script.py"))
    return bundle(tmp_path / "bundle")
