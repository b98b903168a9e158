"""``minieval``: a bundle evaluated outside Dagster."""

import json
from pathlib import Path

import pytest

from lynx_pipeline.cli import main
from lynx_pipeline.sandbox.inside import worker
from lynx_pipeline_tests.cli.helpers import Capsys, compare, one_paragraph, write_files
from lynx_pipeline_tests.support.builders import baseline_json, bundle, eval_items, jsonl

WORKER = """
import json, sys
print(json.dumps({"ready": 0.5}), flush=True)
for line in sys.stdin:
    batch = json.loads(line)
    answers = [p.removeprefix("Say ") for p in batch["prompts"]]
    answer = {"ids": batch["ids"], "predictions": answers, "seconds": 0.1, "peak_mib": 1}
    print(json.dumps(answer), flush=True)
"""


def test_minieval_needs_no_project(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capsys
) -> None:
    """A bundle and an eval set are enough, and ``compare-baseline`` reads the result."""
    (folder / "script.py").write_text(WORKER)
    monkeypatch.setattr(worker, "__file__", str(folder / "script.py"))
    bundle(folder / "bundle")
    Path("e.jsonl").write_bytes(jsonl(eval_items()))
    command = ["minieval", "--bundle", "bundle", "--eval-set", "e.jsonl", "--output", "o/c.json"]
    assert main(command) == 0
    assert "12 of 12 right" in capsys.readouterr().out
    measured = json.loads(Path("o/c.json").read_bytes())
    kept = {key: measured[key] for key in ("eval_set_dvc_hash", "eval_set_sha256", "buckets")}
    write_files(baseline_json(**kept), measured)
    assert compare() == 0
    assert {path.name for path in Path("o").iterdir()} == {
        "c.json",
        "predictions.parquet",
        "timings.parquet",
    }


@pytest.mark.parametrize(
    ("bundle_name", "eval_text", "message"),
    [
        pytest.param("none", jsonl(eval_items()), "no bundle", id="no bundle"),
        pytest.param("empty", jsonl(eval_items()), "no MLmodel", id="no model"),
        pytest.param("bundle", b"", "no items", id="empty eval set"),
        pytest.param("bundle", b"{}", "line 1", id="not an eval set"),
        pytest.param("bundle", None, "e.jsonl", id="missing eval set"),
    ],
)
def test_an_unusable_bundle_or_eval_set_is_bad_input(
    folder: Path, capsys: Capsys, bundle_name: str, eval_text: bytes | None, message: str
) -> None:
    """No output is written."""
    bundle(folder / "bundle")
    (folder / "empty").mkdir()
    if eval_text is not None:
        Path("e.jsonl").write_bytes(eval_text)
    command = ["minieval", "--bundle", bundle_name, "--eval-set", "e.jsonl", "--output", "o/c.json"]
    assert main(command) == 2
    assert message in one_paragraph(capsys)
    assert not Path("o").exists()
