"""The demonstration: its output, its results, and the files that it does not touch."""

import json
import re
import sys
from pathlib import Path

import pytest

from lynx_pipeline.cli.demo import LATER
from lynx_pipeline_tests.end_to_end.conftest import Demo, Place, data_version, metadata
from lynx_pipeline_tests.support import REPO

pytestmark = pytest.mark.slow


def test_the_demo_shows_both_verdicts(demo: Demo) -> None:
    """The demo prints two bucket tables, and names every failed bucket of the refused tutor."""
    output = demo.output
    assert len(re.findall(r"tense\.infinitive .*\d+\.\d+%", output)) == 2
    assert "PASSED: all 28 buckets kept their floor." in output
    summary = re.search(r"REFUSED: (\d+) of 28 buckets fell below their floor\.", output)
    named = re.findall(r"^ *(\S+): fell (\S+) points, \S+ below its floor", output, re.MULTILINE)
    assert summary
    assert len(named) == int(summary[1])
    assert "tense.past_simple" in dict(named)
    for bucket, points in named:
        assert re.search(rf"^ *{bucket} .*-{points} .*FAILED", output, re.MULTILINE), bucket


def test_the_demo_promotes_one_tutor(demo: Demo) -> None:
    """The ledger has one entry: the good tutor as v0.1.0-dev, evaluated in isolation."""
    done = demo.place.lynx("registry", "list", "--json")
    (entry,) = json.loads(done.stdout)
    assert (entry["event"], entry["semver"], entry["env"]) == ("promoted", "v0.1.0-dev", "dev")
    assert entry["mlflow_run_id"] == demo.good
    assert entry["evidence"]["isolation"] == "bubblewrap"
    baseline = json.loads((REPO / "eval_baseline.json").read_bytes())
    assert entry["parent_sha"] == baseline["baseline_sha"]


def test_data_versions_identify_the_data(demo: Demo) -> None:
    """Each asset's data version is the digest or hash of its content."""
    place = demo.place
    evaluation = json.loads((place.evidence(demo.good) / "candidate_eval.json").read_bytes())
    entry = json.loads((place.registry / "index.jsonl").read_bytes())
    assert data_version(place.latest("eval_set")) == evaluation["eval_set_dvc_hash"]
    assert data_version(place.latest("eval_baseline")) == entry["evidence"]["baseline_sha256"]
    versions = {
        "candidate_bundle": evaluation["canonical_sha"],
        "candidate_eval": evaluation["predictions_sha256"],
        "promotion_decision": entry["hash"],
    }
    for name, version in versions.items():
        assert data_version(place.latest(name, demo.good)) == version, name
    assert entry["canonical_sha"] == evaluation["canonical_sha"]


def test_the_alias_mirrors_the_promotion(demo: Demo) -> None:
    """The last asset records the alias in MLflow's model registry."""
    shown = metadata(demo.place.latest("production_alias"))
    assert (shown["alias"], shown["semver"]) == ("dev", "v0.1.0-dev")


def test_each_candidate_has_its_own_check_results(demo: Demo) -> None:
    """The promoted and the refused candidate each have a verdict with its table."""
    good = demo.place.checked("candidate_eval", "no_bucket_regression", demo.good).found
    bad = demo.place.checked("candidate_eval", "no_bucket_regression", demo.bad).found
    assert (good.passed, bad.passed) == (True, False)
    assert bad.blocking
    assert "tense.past_simple: fell" in (bad.description or "")
    assert "tense.past_simple" in str(bad.metadata["failed_buckets"].value)
    assert "REFUSED" in str(bad.metadata["report"].value)


def test_the_bucket_size_check_only_warns(demo: Demo) -> None:
    """The check passes for the shipped eval set, and would not block a promotion."""
    found = demo.place.checked("eval_set", "buckets_can_resolve_tolerance").found
    assert found.passed
    assert found.severity.value == "WARN"
    assert not found.blocking


def test_the_demo_writes_nothing_to_the_repository(demo: Demo) -> None:
    """With LYNX_HOME elsewhere, neither MLflow nor Dagster writes files to the root."""
    assert {"mlflow.db", "dagster"} <= {path.name for path in demo.place.home.iterdir()}
    strays = ("mlflow.db", "mlruns", "mlartifacts", "mlflow-artifacts", "history", "storage")
    assert [stray for stray in strays if (REPO / stray).exists()] == []


def test_an_unusable_state_folder_is_reported_by_the_demo(tmp_path: Path) -> None:
    """The error is one paragraph, with the exit code of a system failure."""
    (tmp_path / "file").write_text("")
    done = Place(REPO, tmp_path / "file" / "home").lynx("demo")
    assert done.returncode == 3
    assert done.stderr.startswith(f"lynx-pipeline: {tmp_path}/file/home")
    assert done.stderr.count("\n") == 1


def test_selecting_an_asset_works_with_dvc_installed(tmp_path: Path) -> None:
    """Dagster's selection parser and DVC share one antlr runtime, and `pip check` passes."""
    place = Place(REPO, tmp_path / "home")
    done = place.dagster("asset", "materialize", "--select", "eval_set")
    assert done.returncode == 0, done.stderr
    done = place.run(sys.executable, "-m", "pip", "check")
    assert (done.returncode, done.stdout) == (0, "No broken requirements found.\n")


def test_a_new_installation_is_compiled_while_the_first_tutor_is_trained(tmp_path: Path) -> None:
    """The second process finishes, prints nothing, and leaves no state."""
    place = Place(REPO, tmp_path / "home")
    done = place.run(sys.executable, "-c", LATER)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not place.home.exists()
