"""Evaluations in Dagster: concurrent, repeated, and with a wrong eval set."""

import hashlib
import json
import re
from pathlib import Path

import pytest
from dagster import AssetKey

from lynx_pipeline.evaluation.candidate import PULL_REQUEST_TAG
from lynx_pipeline_tests.end_to_end.conftest import (
    MODULE,
    Demo,
    Place,
    asset,
    clone,
    files_in,
    job,
    metadata,
)

pytestmark = pytest.mark.slow

EVAL_SET, CORPUS = "data/eval/phase-20.jsonl", "data/processed/train.jsonl"


def test_concurrent_evaluations_do_not_mix(demo: Demo, tmp_path: Path) -> None:
    """Two processes evaluate in a clone whose data is not pulled yet. Each candidate gets its own
    verdict and evidence, and only the clone's state folder changes."""
    root = clone(tmp_path / "clone")
    place = Place(root, tmp_path / "home").with_variables(
        MLFLOW_TRACKING_URI=demo.place.settings.tracking_uri
    )
    elsewhere, tracked = _state(demo.place), files_in(root)
    with place.instance() as instance:
        assert instance.get_runs() == []
        instance.add_dynamic_partitions("candidates", [demo.good, demo.bad])

    started = [
        place.start("dagster", *job("evaluate", run_id), *MODULE, log=tmp_path / run_id)
        for run_id in (demo.good, demo.bad)
    ]
    codes = [process.wait(180) for process in started]
    assert [bool(code) for code in codes] == [False, True]

    for run_id, passed in ((demo.good, True), (demo.bad, False)):
        check = place.checked("candidate_eval", "no_bucket_regression", run_id)
        assert check.found.passed is passed
        with place.instance() as instance:
            run = instance.get_run_by_id(check.run_id)
        assert run and run.tags["dagster/partition"] == run_id
        ours, theirs = place.evidence(run_id), demo.place.evidence(run_id)
        evaluation = json.loads((ours / "candidate_eval.json").read_bytes())
        assert evaluation["mlflow_run_id"] == run_id
        predictions = (ours / "predictions.parquet").read_bytes()
        assert evaluation["predictions_sha256"] == hashlib.sha256(predictions).hexdigest()
        # The same answers as in the demo, which evaluated them one by one.
        assert predictions == (theirs / "predictions.parquet").read_bytes()

    assert _state(demo.place) == elsewhere
    assert not place.registry.exists()
    added = {name for name in files_in(root) if not name.startswith((".dvc/", ".git/"))}
    assert added - tracked.keys() == {EVAL_SET, CORPUS}


def test_an_unchanged_candidate_is_not_evaluated_again(demo: Demo, tmp_path: Path) -> None:
    """The evidence file is kept, unless the run config says ``again``."""
    place = demo.copy(tmp_path / "home")
    file = place.evidence(demo.good) / "candidate_eval.json"
    before = file.stat()
    assert place.execute("evaluate", demo.good).success
    kept = place.latest("candidate_eval", demo.good)
    assert metadata(kept)["kept_from_before"] is True
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)

    again = {"ops": {"candidate_eval": {"config": {"again": True}}}}
    only = [AssetKey("candidate_eval")]
    done = place.execute("evaluate", demo.good, run_config=again, asset_selection=only)
    assert done.success
    repeated = place.latest("candidate_eval", demo.good)
    assert metadata(repeated)["kept_from_before"] is False
    assert file.stat().st_mtime_ns > before.st_mtime_ns
    assert metadata(repeated)["predictions_sha256"] == metadata(kept)["predictions_sha256"]


def test_the_check_links_the_requesting_pull_request(demo: Demo, tmp_path: Path) -> None:
    """The link is the run's tag, which the workflow and the sensor set."""
    place, page = demo.copy(tmp_path / "home"), "https://github.com/acme/tutor/pull/7"
    *command, tags = job("evaluate", demo.bad)
    tagged = json.dumps({**json.loads(tags), PULL_REQUEST_TAG: page})
    assert place.dagster(*command, tagged).returncode == 1  # the gate refuses it
    check = ("candidate_eval", "no_bucket_regression", demo.bad)
    assert place.checked(*check).found.metadata["pull_request"].value == page
    assert "pull_request" not in demo.place.checked(*check).found.metadata


def test_a_changed_eval_set_stops_the_run_before_a_model_runs(demo: Demo, tmp_path: Path) -> None:
    """One byte differs: no worker starts, nothing is written, and the error says what to do."""
    root = clone(tmp_path / "clone")
    demo.copy(root / ".lynx")
    calls = tmp_path / "calls"
    place = _recording_bwrap(Place(root, root / ".lynx"), tmp_path / "bin", calls)
    (place.evidence(demo.good) / "candidate_eval.json").unlink()
    pulled = place.run("dvc", "pull", "--quiet", f"{EVAL_SET}.dvc")
    assert pulled.returncode == 0, pulled.stderr
    file = root / EVAL_SET
    altered = bytearray(file.read_bytes())
    altered[100] ^= 1
    file.unlink()  # DVC may have linked it to its cache
    file.write_bytes(altered)

    done = place.dagster(*job("evaluate", demo.good))
    assert done.returncode != 0
    md5 = hashlib.md5(altered, usedforsecurity=False).hexdigest()
    assert f"{file}: the file was changed: its MD5 is {md5}" in done.stdout + done.stderr
    alone = place.dagster(*asset("candidate_eval", demo.good))
    assert alone.returncode != 0
    check = place.dagster(
        *job("evaluate", demo.good), "--op-selection", "eval_set_eval_set_matches_baseline"
    )
    assert check.returncode != 0
    found = place.checked("eval_set", "eval_set_matches_baseline").found
    assert not found.passed
    assert found.blocking
    assert md5 in (found.description or "")
    assert not calls.exists()
    assert not (place.evidence(demo.good) / "candidate_eval.json").exists()

    # The advice in the error fixes it.
    advice = re.search("run '(dvc checkout [^']+)'", found.description or "")
    assert advice
    advised = place.run(*advice[1].split())
    assert advised.returncode == 0, advised.stderr
    done = place.dagster(*job("evaluate", demo.good))
    assert done.returncode == 0, done.stderr
    assert calls.exists()


def test_an_eval_set_that_differs_from_the_baselines_is_blocked(demo: Demo, tmp_path: Path) -> None:
    """The eval set and its .dvc file are replaced: it is valid, but not the baseline's."""
    root = clone(tmp_path / "clone")
    place = _recording_bwrap(demo.copy(tmp_path / "home"), tmp_path / "bin", tmp_path / "calls")
    place = Place(root, place.home, place.variables)
    (place.evidence(demo.good) / "candidate_eval.json").unlink()
    raw = (Path(demo.place.root) / EVAL_SET).read_bytes().replace(b"She wants", b"She needs")
    (root / EVAL_SET).write_bytes(raw)
    added = place.run("dvc", "add", "--quiet", EVAL_SET)
    assert added.returncode == 0, added.stderr

    done = place.dagster(*job("evaluate", demo.good))
    assert done.returncode != 0
    found = place.checked("eval_set", "eval_set_matches_baseline").found
    assert not found.passed
    assert "the baseline was measured on the eval set" in (found.description or "")
    assert not (tmp_path / "calls").exists()
    assert not (place.evidence(demo.good) / "candidate_eval.json").exists()


def _state(place: Place) -> tuple[dict[str, bytes], dict[str, bytes], list[str]]:
    """The files of registry and candidates, and the ids of Dagster's runs."""
    with place.instance() as instance:
        runs = [run.run_id for run in instance.get_runs()]
    return files_in(place.registry), files_in(place.home / "candidates"), runs


def _recording_bwrap(place: Place, folder: Path, calls: Path) -> Place:
    """The same place with a wrapper of ``bwrap`` that records its calls in ``calls``."""
    folder.mkdir()
    program = folder / "bwrap"
    program.write_text(f'#!/bin/sh\necho "$@" >>{calls}\nexec /usr/bin/bwrap "$@"\n')
    program.chmod(0o755)
    return place.with_variables(PATH=f"{folder}:{place.environ['PATH']}")


def test_a_slow_candidate_gets_a_warning_and_passes(demo: Demo, tmp_path: Path) -> None:
    """The limit is twice the baseline's latency. It does not affect the verdict."""
    place = demo.copy(tmp_path / "home")
    file = place.evidence(demo.good) / "candidate_eval.json"
    values = json.loads(file.read_bytes())
    for latency, within in ((0.01, True), (99.0, False)):
        values["measured"]["latency_p95_ms"] = latency
        file.write_text(json.dumps(values))
        assert place.execute("evaluate", demo.good).success
        found = place.checked("candidate_eval", "within_latency_budget", demo.good).found
        assert (found.passed, found.severity.value, found.blocking) == (within, "WARN", False)
        assert found.metadata["latency_p95_ms"].value == latency
        assert found.metadata["budget_ms"].value == 0.14
    del values["measured"]["latency_p95_ms"]
    file.write_text(json.dumps(values))
    assert place.execute("evaluate", demo.good).success
    found = place.checked("candidate_eval", "within_latency_budget", demo.good).found
    assert found.passed
    assert "the candidate's evaluation names no latency_p95_ms" in (found.description or "")
