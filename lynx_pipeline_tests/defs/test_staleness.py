"""What Dagster shows as stale, and why.

The tests use an instance like the project's, real candidates and evaluations, and the resolver
behind the UI.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from dagster import (
    AssetKey,
    AssetRecordsFilter,
    DagsterInstance,
    Definitions,
    map_asset_specs,
)
from dagster._core.asset_graph_view.asset_graph_view import AssetGraphView
from dagster._core.definitions.data_version import CachingStaleStatusResolver
from dagster._core.definitions.temporal_context import TemporalContext
from dagster._time import get_current_datetime

from lynx_pipeline.config import Settings
from lynx_pipeline.definitions import defs
from lynx_pipeline.defs.assets import build_assets
from lynx_pipeline.defs.gate import PROJECT
from lynx_pipeline.defs.instance import open_instance
from lynx_pipeline.defs.requests import add_candidate
from lynx_pipeline_tests.conftest import Tracking
from lynx_pipeline_tests.support import REPO
from lynx_pipeline_tests.support.builders import (
    GOOD,
    baseline_of,
    bundle,
    eval_items,
    eval_set,
    jsonl,
    md5,
)
from lynx_pipeline_tests.support.builders import project as new_project

pytestmark = pytest.mark.slow

SEMVER = "v0.1.0-dev"
FLOW = ("eval_set", "eval_baseline", "candidate_bundle", "candidate_eval", "promotion_decision")
PARTITIONED = FLOW[2:]


@dataclass(frozen=True)
class Flow:
    """A project, its MLflow and its Dagster instance."""

    settings: Settings
    tracking: Tracking
    folder: Path
    instance: DagsterInstance

    def candidate(self, name: str) -> str:
        """Add a candidate that is always right. Returns its run id."""
        made = bundle(self.folder / name, body=f"{GOOD}  # {name}")
        run_id = self.tracking.run({"model": made})
        add_candidate(PROJECT, run_id)
        return run_id

    def run(self, job: str, run_id: str, **config: Any) -> None:
        """Run a job for a candidate. It must succeed."""
        ops = {name: {"config": values} for name, values in config.items()}
        done = defs.resolve_job_def(job).execute_in_process(
            {"ops": ops}, instance=self.instance, partition_key=run_id
        )
        assert done.success

    def promote(self, run_id: str) -> None:
        """Evaluate and promote a candidate."""
        self.run("eval_and_promote", run_id, promotion_decision={"semver": SEMVER})

    def stale(self, run_id: str, definitions: Definitions = defs) -> dict[str, str]:
        """The candidate's assets that are not fresh, each with the reasons."""
        graph = definitions.resolve_asset_graph()
        now = TemporalContext(effective_dt=get_current_datetime(), last_event_id=None)
        view = AssetGraphView(temporal_context=now, instance=self.instance, asset_graph=graph)
        resolver = CachingStaleStatusResolver(self.instance, graph, view)
        found = {}
        for name in FLOW:
            key, partition = AssetKey(name), run_id if name in PARTITIONED else None
            causes = resolver.get_stale_causes(key, partition)
            status = resolver.get_status(key, partition).value
            assert (status == "STALE") == bool(causes)
            if status != "FRESH":
                reasons = (f"{c.dependency_asset_key} {c.reason}" for c in causes)
                found[name] = "; ".join(reasons) or status
        return found

    def reused(self, run_id: str) -> bool:
        """Whether the last materialization reused the existing evaluation."""
        records_filter = AssetRecordsFilter(AssetKey("candidate_eval"), asset_partitions=[run_id])
        (record,) = self.instance.fetch_materializations(records_filter, limit=1).records
        assert record.asset_materialization
        return bool(record.asset_materialization.metadata["kept_from_before"].value)

    def answered_at(self, run_id: str) -> int:
        """The time at which the candidate's answers were written."""
        evidence = self.settings.candidates / run_id / "evidence"
        return (evidence / "predictions.parquet").stat().st_mtime_ns

    def rewrite_baseline(self, **changes: Any) -> None:
        """Change values in the baseline."""
        file = self.settings.baseline
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))

    def rewrite_eval_set(self, n: int) -> None:
        """Replace the eval set and its .dvc file, and the baseline to match."""
        items = eval_items(n)
        raw, file = jsonl(items), self.settings.eval_set
        file.write_bytes(raw)
        file.with_name(f"{file.name}.dvc").write_text(
            f"outs:\n- md5: {md5(raw)}\n  size: {len(raw)}\n  hash: md5\n  path: {file.name}\n"
        )
        self.settings.baseline.write_text(json.dumps(baseline_of(eval_set(items))))


@pytest.fixture
def flow(tmp_path: Path, tracking: Tracking, monkeypatch: pytest.MonkeyPatch) -> Iterator[Flow]:
    """A project as the working directory, with an instance as ``dagster dev`` opens it."""
    settings = new_project(tmp_path / "project", environ={"MLFLOW_TRACKING_URI": tracking.uri})
    (settings.root / "dagster.yaml").write_bytes((REPO / "dagster.yaml").read_bytes())
    monkeypatch.chdir(settings.root)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking.uri)
    with open_instance() as instance:
        yield Flow(settings, tracking, tmp_path, instance)


def test_an_asset_that_never_ran_is_missing_not_fresh(flow: Flow) -> None:
    """A candidate that was only added has no assets yet."""
    assert flow.stale(flow.candidate("a")) == dict.fromkeys(FLOW, "MISSING")


def test_the_evaluation_of_an_unchanged_candidate_is_reused(flow: Flow) -> None:
    """A repeated run writes no answers, and all data versions stay the same."""
    a = flow.candidate("a")
    flow.promote(a)
    assert flow.stale(a) == {}
    assert not flow.reused(a)
    before = flow.answered_at(a)
    flow.promote(a)
    assert flow.reused(a)
    assert flow.answered_at(a) == before
    assert flow.stale(a) == {}


def test_a_changed_baseline_makes_evaluations_and_promotions_stale(flow: Flow) -> None:
    """Dagster has to see the new baseline first. A new verdict does not run the model again, and a
    promotion stays stale until it is repeated."""
    a, b = flow.candidate("a"), flow.candidate("b")
    flow.promote(a)
    flow.run("evaluate", b)
    flow.rewrite_baseline(justification="Measured again.")
    assert flow.stale(a) == {}  # Dagster has not seen the new baseline yet

    before = flow.answered_at(b)
    flow.run("evaluate", b)
    reason = f"{AssetKey('eval_baseline')} has a new dependency data version"
    assert flow.stale(a) == {"candidate_eval": reason, "promotion_decision": reason}
    assert flow.stale(b) == {"promotion_decision": "MISSING"}
    assert flow.reused(b)
    assert flow.answered_at(b) == before

    flow.run("evaluate", a)
    assert flow.reused(a)
    assert flow.stale(a) == {"promotion_decision": reason}
    flow.promote(a)
    assert flow.stale(a) == {}


def test_a_changed_eval_set_makes_every_evaluation_stale(flow: Flow) -> None:
    """Old answers are no evidence for new questions, so the model runs again."""
    a, b = flow.candidate("a"), flow.candidate("b")
    flow.promote(a)
    flow.run("evaluate", b)
    flow.rewrite_eval_set(14)
    flow.run("evaluate", b)
    assert not flow.reused(b)
    assert {"eval_set", "eval_baseline"} == {
        name for name in FLOW if name in flow.stale(a).get("candidate_eval", "")
    }
    assert flow.stale(b) == {"promotion_decision": "MISSING"}

    before = flow.answered_at(a)
    flow.run("evaluate", a)
    assert flow.answered_at(a) > before
    # The promotion used the old answers, baseline and eval set.
    assert set(flow.stale(a)) == {"promotion_decision"}
    reasons = flow.stale(a)["promotion_decision"].split("; ")
    assert set(reasons) == {
        f"{AssetKey(name)} has a new dependency data version"
        for name in ("candidate_eval", "eval_baseline", "eval_set")
    }


def test_a_changed_bundle_makes_only_its_own_candidate_stale(flow: Flow) -> None:
    """The artifacts in MLflow were overwritten, so the evaluation is of a different bundle."""
    a, b = flow.candidate("a"), flow.candidate("b")
    for run_id in (a, b):
        flow.run("evaluate", run_id)
    loader = flow.tracking.artifacts(a) / "model/code/tiny_loader.py"
    loader.write_text(loader.read_text() + "# changed\n")
    result = defs.resolve_implicit_global_asset_job_def().get_subset(
        asset_selection={AssetKey("candidate_bundle")}
    )
    assert result.execute_in_process(instance=flow.instance, partition_key=a).success
    reason = f"{AssetKey('candidate_bundle')} has a new dependency data version"
    assert flow.stale(a) == {"candidate_eval": reason, "promotion_decision": "MISSING"}
    assert flow.stale(b) == {"promotion_decision": "MISSING"}


def test_a_new_code_version_makes_its_asset_stale(flow: Flow) -> None:
    """The new ``code_version`` of the evaluation is the only reason."""
    a = flow.candidate("a")
    flow.promote(a)
    name = "candidate_eval"
    changed = map_asset_specs(
        lambda spec: spec.replace_attributes(code_version="2") if spec.key.path == [name] else spec,
        build_assets(PROJECT),
    )
    assert flow.stale(a, Definitions(changed)) == {name: "None has a new code version"}
