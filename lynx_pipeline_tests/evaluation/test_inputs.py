"""Which eval set is read, and that a large one is not held."""

from pathlib import Path

import pytest

from lynx_pipeline.domain.eval_set import EvalSet
from lynx_pipeline.domain.scorers import EXACT
from lynx_pipeline.errors import LynxError
from lynx_pipeline.evaluation import inputs
from lynx_pipeline.evaluation.inputs import read_eval_set_of
from lynx_pipeline.evaluation.storage.large import LargeEvalSet
from lynx_pipeline_tests.support.builders import eval_set, project

ITEMS = eval_set()


def test_an_audits_eval_set_is_found_on_the_disk(tmp_path: Path) -> None:
    """If its digests are those that the entry names."""
    found = read_eval_set_of(project(tmp_path / "p"), ITEMS.dvc_hash, ITEMS.sha256, EXACT)
    assert found == ITEMS
    assert isinstance(found, EvalSet)


def test_an_audits_large_eval_set_is_not_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be larger than memory."""
    settings = project(tmp_path / "p")
    monkeypatch.setattr(inputs, "LARGE", 10)
    with monkeypatch.context() as patch:
        patch.delattr(Path, "read_bytes")
        found = read_eval_set_of(settings, ITEMS.dvc_hash, ITEMS.sha256, EXACT)
    assert isinstance(found, LargeEvalSet)
    assert (found.cells(), found.sha256) == (ITEMS.cells(), ITEMS.sha256)


@pytest.mark.parametrize("large", [10, 1 << 20])
def test_another_eval_set_on_the_disk_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large: int
) -> None:
    """DVC is asked for the one that is meant; here it has none."""
    monkeypatch.setattr(inputs, "LARGE", large)
    settings = project(tmp_path / "p")
    for digests in ((ITEMS.dvc_hash, "0" * 64), ("0" * 32, ITEMS.sha256)):
        with pytest.raises(LynxError, match="DVC"):
            read_eval_set_of(settings, *digests, EXACT)
