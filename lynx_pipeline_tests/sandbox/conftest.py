"""Fixtures for the sandbox's tests: a bundle whose process runs a test's own script."""

from pathlib import Path

import pytest

from lynx_pipeline.domain.candidate_eval import NONE
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.errors import Refused
from lynx_pipeline.sandbox.inside import worker
from lynx_pipeline.sandbox.isolation import choose_isolation
from lynx_pipeline_tests.sandbox.hostile import Scene, staged
from lynx_pipeline_tests.support.builders import bundle
from lynx_pipeline_tests.support.worker_scripts import isolation


@pytest.fixture
def scripted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle; the file ``script.py`` beside it runs in place of the worker."""
    monkeypatch.setattr(worker, "__file__", str(tmp_path / "script.py"))
    return bundle(tmp_path / "bundle")


@pytest.fixture
def isolated() -> bool:
    """Whether this machine has isolation. If not, prod refuses."""

    if isolation().level != NONE:
        return True
    with pytest.raises(Refused):
        choose_isolation(Env.PROD, (), lambda _: None)
    return False


@pytest.fixture
def scene(
    scripted: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> Scene:
    """A scene whose bundle runs a script."""
    return staged(scripted, tmp_path, monkeypatch, caplog)
