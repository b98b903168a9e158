"""The audit of the demo's promotion, as an auditor runs it later on a different machine."""

import json
from pathlib import Path

import pytest

from lynx_pipeline_tests.end_to_end.conftest import Demo, Place, clone
from lynx_pipeline_tests.support.places import OnGit

pytestmark = pytest.mark.slow


def test_an_audit_needs_only_a_clone_and_the_registry(demo: Demo, tmp_path: Path) -> None:
    """It runs without tracking server and state folder. The eval set comes from DVC's remote, even
    if a different one is checked out."""
    place = Place(clone(tmp_path / "clone"), tmp_path / "home").with_variables(
        LYNX_REGISTRY=str(demo.place.registry), MLFLOW_TRACKING_URI="http://127.0.0.1:1"
    )
    (place.root / "data/eval/phase-20.jsonl").write_text("another one\n")
    done = place.lynx("audit", "v0.1.0-dev")
    assert done.returncode == 0, done.stderr
    assert "Audit passed" in done.stdout
    assert "PASSED: all 28 buckets kept their floor." in done.stdout
    assert demo.good in done.stdout
    values = json.loads(place.lynx("audit", "v0.1.0-dev", "--json").stdout)
    assert values["findings"] == []
    assert len(values["replayed_verdict"]["buckets"]) == 28
    committed = json.loads((place.root / "eval_baseline.json").read_text())
    assert values["floors"] == {name: committed[name] for name in values["floors"]}
    assert f"justification: {committed['justification']}" in done.stdout


def test_resolving_imports_neither_dagster_nor_mlflow(demo: Demo, tmp_path: Path) -> None:
    """A serving process starts fast, with a registry in a folder or on a git branch."""
    remote = OnGit.new(tmp_path / "registry.git").bare
    on_git = demo.copy(tmp_path / "home").with_variables(LYNX_REGISTRY=f"git+file://{remote}")
    sha = json.loads((demo.place.registry / "index.jsonl").read_bytes())["canonical_sha"]
    evidence = str(demo.place.evidence(demo.good))
    done = on_git.lynx("registry", "promote", sha, "v0.1.0-dev", "--evidence", evidence)
    assert done.returncode == 0, done.stderr
    script = (
        "import sys; from lynx_pipeline import registry; print(registry.resolve().canonical_sha);"
        "print([m for m in ('dagster', 'mlflow', 'dvc', 'pandas', 'pyarrow') if m in sys.modules])"
    )
    for place in (demo.place, on_git):
        assert place.run("python", "-c", script).stdout == f"{sha}\n[]\n"
