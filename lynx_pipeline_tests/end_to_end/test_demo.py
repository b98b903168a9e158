"""The demonstration: what it says, what it leaves, and what it leaves alone."""

import json
import re
import sys
from pathlib import Path

import pytest

from lynx_pipeline_tests.end_to_end.conftest import Demo, Place, data_version, metadata
from lynx_pipeline_tests.support import REPO

pytestmark = pytest.mark.slow


def test_the_demo_shows_both_verdicts(demo: Demo) -> None:
    """Two bucket tables; of the refused tutor every failed bucket is named, with points."""
    said = demo.said
    assert len(re.findall(r"tense\.infinitive .*\d+\.\d+%", said)) == 2
    assert "PASSED: all 28 buckets kept their floor." in said
    summary = re.search(r"REFUSED: (\d+) of 28 buckets fell below their floor\.", said)
    named = re.findall(r"^ *(\S+): fell (\S+) points, \S+ below its floor", said, re.MULTILINE)
    assert summary
    assert len(named) == int(summary[1])
    assert "tense.past_simple" in dict(named)
    for bucket, points in named:
        assert re.search(rf"^ *{bucket} .*-{points} .*FAILED", said, re.MULTILINE), bucket


def test_the_demo_promotes_one_tutor(demo: Demo) -> None:
    """The ledger holds one entry: the good tutor as v0.1.0-dev, on evidence, isolated."""
    done = demo.place.lynx("registry", "list", "--json")
    (entry,) = json.loads(done.stdout)
    assert (entry["event"], entry["semver"], entry["env"]) == ("promoted", "v0.1.0-dev", "dev")
    assert entry["mlflow_run_id"] == demo.good
    assert entry["evidence"]["isolation"] == "bubblewrap"
    baseline = json.loads((REPO / "eval_baseline.json").read_bytes())
    assert entry["parent_sha"] == baseline["baseline_sha"]


def test_data_versions_carry_identity(demo: Demo) -> None:
    """Each asset's data version is the identity of what it stands for."""
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
    """The last asset says what MLflow's model registry now shows."""
    shown = metadata(demo.place.latest("production_alias", demo.good))
    assert (shown["alias"], shown["semver"]) == ("dev", "v0.1.0-dev")


def test_checks_are_kept_by_candidate(demo: Demo) -> None:
    """The promoted and the refused candidate each have their own verdict, with the table."""
    good = demo.place.checked("candidate_eval", "no_bucket_regression", demo.good).found
    bad = demo.place.checked("candidate_eval", "no_bucket_regression", demo.bad).found
    assert (good.passed, bad.passed) == (True, False)
    assert bad.blocking
    assert "tense.past_simple: fell" in (bad.description or "")
    assert "tense.past_simple" in str(bad.metadata["failed_buckets"].value)
    assert "REFUSED" in str(bad.metadata["report"].value)


def test_a_coarse_bucket_would_only_warn(demo: Demo) -> None:
    """The check on bucket sizes passes for the shipped eval set, and would only warn."""
    found = demo.place.checked("eval_set", "buckets_can_resolve_tolerance").found
    assert found.passed
    assert found.severity.value == "WARN"
    assert not found.blocking


def test_the_demo_leaves_the_repository_alone(demo: Demo) -> None:
    """With LYNX_HOME elsewhere, neither MLflow nor Dagster leave anything at the root."""
    assert {"mlflow.db", "dagster"} <= {path.name for path in demo.place.home.iterdir()}
    strays = ("mlflow.db", "mlruns", "mlartifacts", "mlflow-artifacts", "history", "storage")
    assert [stray for stray in strays if (REPO / stray).exists()] == []


def test_without_a_place_for_its_state_the_demo_says_so(tmp_path: Path) -> None:
    """One paragraph, and the exit code for a system that failed."""
    (tmp_path / "file").write_text("")
    done = Place(REPO, tmp_path / "file" / "home").lynx("demo")
    assert done.returncode == 3
    assert done.stderr.startswith(f"lynx-pipeline: the folder {tmp_path}/file/home")
    assert done.stderr.count("\n") == 1


def test_selecting_an_asset_works_with_dvc_installed(tmp_path: Path) -> None:
    """Dagster's selection parser and DVC share one antlr runtime, and pip agrees."""
    place = Place(REPO, tmp_path / "home")
    done = place.dagster("asset", "materialize", "--select", "eval_set")
    assert done.returncode == 0, done.stderr
    done = place.run(sys.executable, "-m", "pip", "check")
    assert (done.returncode, done.stdout) == (0, "No broken requirements found.\n")
