"""Two models in one project: one code location, and the same run as a candidate of both."""

import json
from pathlib import Path

import pytest

from lynx_pipeline_tests.conftest import Tracking
from lynx_pipeline_tests.end_to_end.conftest import Place, files_in
from lynx_pipeline_tests.support.builders import GOOD, bundle, eval_items, project

pytestmark = pytest.mark.slow

# Right for the tutor's items, wrong for the router's.
ANSWERS = GOOD
DAGSTER = "instance_class: {module: lynx_pipeline.defs.instance, class: LynxInstance}\n"


@pytest.fixture
def place(tmp_path: Path, tracking: Tracking) -> Place:
    """A project with a tutor and a router, whose eval sets differ."""
    root = tmp_path / "p"
    project(root, eval_items(12))
    other = project(tmp_path / "other", [{**it, "expected": "no"} for it in eval_items(6)])
    other.root.rename(root / "router")
    (root / "pyproject.toml").write_text(
        "[tool.lynx_pipeline]\n"
        + "".join(
            f'[[tool.lynx_pipeline.models]]\nname = "{name}"\n'
            f'eval_set = "{folder}data/eval.jsonl"\nbaseline = "{folder}eval_baseline.json"\n'
            for name, folder in (("tutor", ""), ("my-router", "router/"))
        )
    )
    (root / "dagster.yaml").write_text(DAGSTER)
    return Place(root, root / ".lynx", {"MLFLOW_TRACKING_URI": tracking.uri})


@pytest.mark.slow(seconds=60)
def test_one_run_is_promoted_as_one_model_and_refused_as_the_other(
    place: Place, tracking: Tracking, tmp_path: Path
) -> None:
    """By command, and by the jobs of the one code location."""
    run_id = tracking.run({"model": bundle(tmp_path / "good", body=ANSWERS)})
    unnamed = place.lynx("run", run_id, "v0.1.0-dev")
    assert unnamed.returncode == 2
    assert "has 2 models: tutor, my-router. Name one: --gate tutor" in unnamed.stderr

    promoted = place.lynx("run", run_id, "v0.1.0-dev", "--gate", "tutor")
    assert promoted.returncode == 0, promoted.stderr
    assert "PROMOTED: tutor v0.1.0-dev is " in promoted.stdout
    before = files_in(place.home / "tutor")

    refused = place.lynx("--gate", "my-router", "run", run_id, "v0.1.0-dev")
    assert refused.returncode == 1, refused.stderr
    assert "REFUSED: 3 of 3 buckets fell below their floor." in refused.stdout
    tags = json.dumps({"dagster/partition": run_id, "lynx.semver": "v0.1.0-dev"})
    job = place.dagster("job", "execute", "-j", "my_router_eval_and_promote", "--tags", tags)
    assert job.returncode == 1
    assert "the gate refused" in job.stderr + job.stdout

    assert files_in(place.home / "tutor") == before
    assert not (place.home / "my-router/registry/index.jsonl").exists()
    for model, outcome in (("tutor", "promoted"), ("my-router", "refused")):
        listed = place.lynx("candidates", "list", "--json", "--gate", model)
        assert [(it["key"], it["outcome"]) for it in json.loads(listed.stdout)] == [
            (run_id, outcome)
        ]
    latest = place.with_variables(LYNX_GATE="tutor").lynx("registry", "resolve", "--json")
    assert json.loads(latest.stdout)["model"] == "tutor"
    shown = place.lynx("audit", "v0.1.0-dev", "--gate", "tutor")
    assert shown.returncode == 0, shown.stdout + shown.stderr


@pytest.mark.slow(seconds=20)
def test_one_graph_shows_both(place: Place) -> None:
    """An asset materialized without a job is recorded like in a job."""
    listed = place.dagster("asset", "list")
    assert listed.returncode == 0, listed.stderr
    names = set(listed.stdout.split())
    assets = ("eval_set", "eval_baseline", "candidate_bundle", "candidate_eval",
              "promotion_decision", "production_alias")  # fmt: skip
    assert {f"{gate}/{it}" for gate in ("tutor", "my_router") for it in assets} <= names
    done = place.dagster("asset", "materialize", "--select", "my_router/eval_set")
    assert done.returncode == 0, done.stderr
