"""Which eval set is read, and that a large one is not loaded into memory."""

from pathlib import Path

import pytest

from lynx_pipeline.domain.scorers import EXACT
from lynx_pipeline.errors import LynxError
from lynx_pipeline.evaluation import inputs
from lynx_pipeline.evaluation.inputs import read_eval_file, read_eval_set_of
from lynx_pipeline.evaluation.storage.large import LargeEvalSet
from lynx_pipeline.evaluation.storage.memory import SmallEvalSet
from lynx_pipeline_tests.support.builders import eval_set, jsonl, project

ITEMS = eval_set()


def test_an_audit_finds_its_eval_set_on_disk(tmp_path: Path) -> None:
    """The file has the digests in the ledger entry."""
    found = read_eval_set_of(project(tmp_path / "p"), ITEMS.dvc_hash, ITEMS.sha256, EXACT)
    assert found == ITEMS
    assert isinstance(found, SmallEvalSet)


def test_an_audit_does_not_load_a_large_eval_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large eval set may not fit into memory."""
    settings = project(tmp_path / "p")
    monkeypatch.setattr(inputs, "LARGE", 10)
    with monkeypatch.context() as patch:
        patch.delattr(Path, "read_bytes")
        found = read_eval_set_of(settings, ITEMS.dvc_hash, ITEMS.sha256, EXACT)
    assert isinstance(found, LargeEvalSet)
    assert (found.cells(), found.sha256) == (ITEMS.cells(), ITEMS.sha256)


@pytest.mark.parametrize("large", [10, 1 << 20])
def test_an_eval_set_with_different_digests_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large: int
) -> None:
    """DVC is asked for the right file, and fails here because it is not set up."""
    monkeypatch.setattr(inputs, "LARGE", large)
    settings = project(tmp_path / "p")
    for digests in ((ITEMS.dvc_hash, "0" * 64), ("0" * 32, ITEMS.sha256)):
        with pytest.raises(LynxError, match="DVC"):
            read_eval_set_of(settings, *digests, EXACT)


def test_an_eval_set_is_parsed_again_only_if_its_bytes_have_changed(tmp_path: Path) -> None:
    """The steps of a run share one parsed eval set, and never an outdated one."""
    file = tmp_path / "eval.jsonl"
    item = {"id": "a", "prompt": "Say yes", "expected": "yes", "buckets": {"all": "x"}}
    file.write_bytes(jsonl([item]))
    first = read_eval_file(file, EXACT)
    assert read_eval_file(file, EXACT) is first
    file.write_bytes(jsonl([{**item, "expected": "yep"}]))
    second = read_eval_file(file, EXACT)
    assert second.sha256 != first.sha256
    assert second != first
