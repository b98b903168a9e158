"""DVC shows the baseline as metrics, so a reviewer sees which bucket's accuracy has changed."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lynx_pipeline_tests.end_to_end.conftest import clone
from lynx_pipeline_tests.support import REPO
from lynx_pipeline_tests.support.places import git

pytestmark = pytest.mark.slow


def test_dvc_compares_the_baseline_with_the_committed_one(tmp_path: Path) -> None:
    """``dvc metrics diff``, with the shipped ``dvc.yaml``."""
    root = clone(tmp_path / "clone")
    shutil.copy(REPO / "dvc.yaml", root)
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "x")
    file = root / "eval_baseline.json"
    values = json.loads(file.read_bytes())
    values["buckets"]["verb.go"]["accuracy"] -= 0.25
    file.write_text(json.dumps(values))
    command = [sys.executable, "-m", "dvc", "metrics", "diff", "--json"]
    found = json.loads(subprocess.check_output(command, cwd=root))
    assert found.keys() == {file.name}
    ((metric, change),) = found[file.name].items()
    assert metric == "buckets.verb.go.accuracy"
    assert change["diff"] == pytest.approx(-0.25)
