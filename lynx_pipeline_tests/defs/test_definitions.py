"""What the definitions contain, and what they import."""

import subprocess
import sys
from pathlib import Path

import pytest
from dagster import AssetCheckKey, AssetKey

from lynx_pipeline.definitions import defs
from lynx_pipeline.defs.checks import _corpus_checks
from lynx_pipeline.defs.gate import PROJECT
from lynx_pipeline_tests.support import REPO
from lynx_pipeline_tests.support.builders import project
from lynx_pipeline_tests.support.corpora import configure_corpus

HEAVY = {"mlflow", "dvc", "duckdb", "scipy", "pandas", "pyarrow", "numpy", "polars"}
CANDIDATE_ASSETS = {"candidate_bundle", "candidate_eval", "promotion_decision"}


def test_the_assets_are_exactly_these() -> None:
    """The flow has six assets, and the three of a candidate are partitioned by it. There is one
    alias for all candidates."""
    graph = defs.resolve_asset_graph()
    names = {key.to_user_string() for key in graph.get_all_asset_keys()}
    assert names == {"eval_set", "eval_baseline", *CANDIDATE_ASSETS, "production_alias"}
    partitioned = {
        key.to_user_string()
        for key in graph.get_all_asset_keys()
        if graph.get(key).partitions_def == PROJECT.partitions
    }
    assert partitioned == CANDIDATE_ASSETS


def test_the_assets_depend_on_each_other_in_flow_order() -> None:
    """The evaluation has three inputs. The promotion uses two of them again, and the alias mirrors
    it."""
    graph = defs.resolve_asset_graph()
    parents = {
        key.to_user_string(): {parent.to_user_string() for parent in graph.get(key).parent_keys}
        for key in graph.get_all_asset_keys()
    }
    assert parents == {
        "eval_set": set(),
        "eval_baseline": set(),
        "candidate_bundle": set(),
        "candidate_eval": {"eval_set", "eval_baseline", "candidate_bundle"},
        "promotion_decision": {"eval_set", "eval_baseline", "candidate_eval"},
        "production_alias": {"promotion_decision"},
    }


def test_the_checks_are_exactly_these() -> None:
    """Two of the six checks block what is downstream. Two are there because this project has a
    corpus."""
    graph = defs.resolve_asset_graph()
    blocking = {key: graph.get_check_spec(key).blocking for key in graph.asset_check_keys}
    assert blocking == {
        _check("eval_set", "eval_set_matches_baseline"): True,
        _check("eval_set", "buckets_can_resolve_tolerance"): False,
        _check("eval_set", "eval_set_not_in_corpus"): False,
        _check("eval_set", "eval_set_represents_corpus"): False,
        _check("candidate_eval", "no_bucket_regression"): True,
        _check("candidate_eval", "within_latency_budget"): False,
    }
    gate = graph.get_check_spec(_check("candidate_eval", "no_bucket_regression"))
    assert gate.partitions_def == PROJECT.partitions


@pytest.mark.parametrize(
    ("checks", "blocking"), [(None, []), ("warn", [False] * 2), ("blocking", [True] * 2)]
)
def test_the_corpus_checks_follow_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checks: str | None, blocking: list[bool]
) -> None:
    """Without a corpus there are none."""
    project(tmp_path / "p")
    monkeypatch.chdir(tmp_path / "p")
    if checks:
        configure_corpus(tmp_path / "p", checks)
    found = [spec for it in _corpus_checks(PROJECT) for spec in it.check_specs]
    assert [spec.blocking for spec in found] == blocking


def test_definitions_load_with_invalid_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The steps report what is wrong."""
    (tmp_path / "pyproject.toml").write_text("[tool.lynx_pipeline]\ncorpus = 7\n")
    monkeypatch.chdir(tmp_path)
    assert _corpus_checks(PROJECT) == []


def test_the_jobs_are_exactly_these() -> None:
    """Each job covers a part of the flow, and runs one candidate in one process."""
    to_verdict = {"eval_set", "eval_baseline", "candidate_bundle", "candidate_eval"}
    promotion = {"promotion_decision"}  # it also updates the alias
    expected = {
        "evaluate": to_verdict,
        "promote": promotion,
        "eval_and_promote": to_verdict | promotion,
    }
    ours = {job.name: job for job in defs.resolve_all_job_defs() if not job.name.startswith("__")}
    assert ours.pop("archive_candidates").partitions_def is None
    jobs = ours.values()
    assert {
        job.name: {key.to_user_string() for key in job.asset_layer.selected_asset_keys}
        for job in jobs
    } == expected
    for job in jobs:
        assert job.partitions_def == PROJECT.partitions
        assert job.executor_def.name == "in_process"


def test_runs_launched_in_the_ui_use_one_process_too() -> None:
    """The implicit job of 'materialize' has the in-process executor as well."""
    assert defs.resolve_implicit_global_asset_job_def().executor_def.name == "in_process"


@pytest.mark.slow
def test_loading_the_definitions_imports_nothing_heavy() -> None:
    """What ``import dagster`` itself imports does not count."""
    found = imported("lynx_pipeline.definitions") - imported("dagster")
    assert "lynx_pipeline" in found
    assert found & HEAVY == set()


@pytest.mark.slow
def test_dagster_validates_the_definitions() -> None:
    """``dagster definitions validate`` loads them as a code location."""
    command = [sys.executable, "-m", "dagster", "definitions", "validate"]
    target = ["-m", "lynx_pipeline.definitions"]
    done = subprocess.run(
        [*command, *target], cwd=REPO, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _check(asset: str, name: str) -> AssetCheckKey:
    return AssetCheckKey(AssetKey(asset), name)


def imported(module: str) -> set[str]:
    """The top-level modules that a fresh interpreter has after importing ``module``."""
    code = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())
