"""What Dagster calls out of date, and why: the project's own instance, real candidates and real
evaluations, and the resolver that the UI asks."""

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
from lynx_pipeline.defs import assets
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
        """A new candidate that is always right; its run id."""
        made = bundle(self.folder / name, body=f"{GOOD}  # {name}")
        run_id = self.tracking.run({"model": made})
        add_candidate(run_id)
        return run_id

    def run(self, job: str, run_id: str, **config: Any) -> None:
        """Run a job for a candidate, which has to succeed."""
        ops = {name: {"config": values} for name, values in config.items()}
        done = defs.resolve_job_def(job).execute_in_process(
            {"ops": ops}, instance=self.instance, partition_key=run_id
        )
        assert done.success

    def promoted(self, run_id: str) -> None:
        """Evaluate and promote a candidate."""
        self.run("eval_and_promote", run_id, promotion_decision={"semver": SEMVER})

    def stale(self, run_id: str, definitions: Definitions = defs) -> dict[str, str]:
        """Of what the candidate has: what is out of date, and the reasons."""
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
                said = (f"{c.dependency_asset_key} {c.reason}" for c in causes)
                found[name] = "; ".join(said) or status
        return found

    def kept(self, run_id: str) -> bool:
        """Whether the last materialization kept the evaluation that was there."""
        wanted = AssetRecordsFilter(AssetKey("candidate_eval"), asset_partitions=[run_id])
        (record,) = self.instance.fetch_materializations(wanted, limit=1).records
        assert record.asset_materialization
        return bool(record.asset_materialization.metadata["kept_from_before"].value)

    def answered(self, run_id: str) -> int:
        """When the candidate's answers were written."""
        evidence = self.settings.candidates / run_id / "evidence"
        return (evidence / "predictions.parquet").stat().st_mtime_ns

    def rewrite_baseline(self, **changes: Any) -> None:
        """Another committed baseline."""
        file = self.settings.baseline
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))

    def rewrite_eval_set(self, n: int) -> None:
        """Another versioned eval set, and the baseline that was measured on it."""
        items = eval_items(n)
        raw, file = jsonl(items), self.settings.eval_set
        file.write_bytes(raw)
        file.with_name(f"{file.name}.dvc").write_text(
            f"outs:\n- md5: {md5(raw)}\n  size: {len(raw)}\n  hash: md5\n  path: {file.name}\n"
        )
        self.settings.baseline.write_text(json.dumps(baseline_of(eval_set(items))))


@pytest.fixture
def flow(tmp_path: Path, tracking: Tracking, monkeypatch: pytest.MonkeyPatch) -> Iterator[Flow]:
    """A project that this process runs in, with an instance as ``dagster dev`` opens it there."""
    settings = new_project(tmp_path / "project", environ={"MLFLOW_TRACKING_URI": tracking.uri})
    (settings.root / "dagster.yaml").write_bytes((REPO / "dagster.yaml").read_bytes())
    monkeypatch.chdir(settings.root)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking.uri)
    with open_instance() as instance:
        yield Flow(settings, tracking, tmp_path, instance)


def test_what_was_never_run_is_missing_not_fresh(flow: Flow) -> None:
    """A candidate that was only added has nothing yet."""
    assert flow.stale(flow.candidate("a")) == dict.fromkeys(FLOW, "MISSING")


def test_an_unchanged_candidate_is_kept_and_nothing_is_out_of_date(flow: Flow) -> None:
    """Run again, its answers are the files they were, and every data version is the same."""
    a = flow.candidate("a")
    flow.promoted(a)
    assert flow.stale(a) == {}
    assert not flow.kept(a)
    before = flow.answered(a)
    flow.promoted(a)
    assert flow.kept(a)
    assert flow.answered(a) == before
    assert flow.stale(a) == {}


def test_a_changed_baseline_dates_evaluations_and_promotions(flow: Flow) -> None:
    """Once Dagster has seen it, what was judged by the one before says that it is the baseline.
    Judging anew asks no model again, and a promotion stays marked until it is judged too."""
    a, b = flow.candidate("a"), flow.candidate("b")
    flow.promoted(a)
    flow.run("evaluate", b)
    flow.rewrite_baseline(justification="Measured again.")
    assert flow.stale(a) == {}  # nobody told Dagster yet

    before = flow.answered(b)
    flow.run("evaluate", b)
    reason = f"{AssetKey('eval_baseline')} has a new dependency data version"
    assert flow.stale(a) == {"candidate_eval": reason, "promotion_decision": reason}
    assert flow.stale(b) == {"promotion_decision": "MISSING"}
    assert flow.kept(b)
    assert flow.answered(b) == before

    flow.run("evaluate", a)
    assert flow.kept(a)
    assert flow.stale(a) == {"promotion_decision": reason}
    flow.promoted(a)
    assert flow.stale(a) == {}


def test_a_changed_eval_set_dates_every_evaluation_and_asks_again(flow: Flow) -> None:
    """New questions: the evaluation of before is no evidence, so the model is asked."""
    a, b = flow.candidate("a"), flow.candidate("b")
    flow.promoted(a)
    flow.run("evaluate", b)
    flow.rewrite_eval_set(14)
    flow.run("evaluate", b)
    assert not flow.kept(b)
    assert {"eval_set", "eval_baseline"} == {
        name for name in FLOW if name in flow.stale(a).get("candidate_eval", "")
    }
    assert flow.stale(b) == {"promotion_decision": "MISSING"}

    before = flow.answered(a)
    flow.run("evaluate", a)
    assert flow.answered(a) > before
    # The promotion was made on other answers, by another measure.
    assert set(flow.stale(a)) == {"promotion_decision"}
    reasons = flow.stale(a)["promotion_decision"].split("; ")
    assert set(reasons) == {
        f"{AssetKey(name)} has a new dependency data version"
        for name in ("candidate_eval", "eval_baseline", "eval_set")
    }


def test_a_changed_bundle_dates_its_own_candidate_only(flow: Flow) -> None:
    """Artifacts overwritten in MLflow: that candidate's evaluation is of another bundle."""
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


def test_other_code_dates_what_it_made(flow: Flow) -> None:
    """A new ``code_version`` of the evaluation, and nothing else, is a reason too."""
    a = flow.candidate("a")
    flow.promoted(a)
    name = "candidate_eval"
    changed = map_asset_specs(
        lambda spec: spec.replace_attributes(code_version="2") if spec.key.path == [name] else spec,
        assets.ALL,
    )
    assert flow.stale(a, Definitions(changed)) == {name: "None has a new code version"}
