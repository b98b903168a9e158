"""An evaluation: asked, resumed, and written whole or not at all."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from lynx_pipeline.adapters.bundle_files import read_bundle
from lynx_pipeline.config import EvaluationSettings, Limits, Settings
from lynx_pipeline.domain.candidate_eval import BUBBLEWRAP, LOCAL, NONE, CandidateEval
from lynx_pipeline.domain.scorers import EXACT
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.errors import BadInput, Refused
from lynx_pipeline.evaluation.answers import AnyEvalSet
from lynx_pipeline.evaluation.candidate import candidate
from lynx_pipeline.evaluation.evidence import EVAL, PREDICTIONS, TIMINGS, read_evidence
from lynx_pipeline.evaluation.run import evaluate, evaluate_candidate
from lynx_pipeline.evaluation.storage.large import build
from lynx_pipeline.sandbox.inside import worker
from lynx_pipeline.sandbox.isolation import choose_isolation
from lynx_pipeline_tests.support.builders import RUN, bundle, eval_items, eval_set, jsonl, project
from lynx_pipeline_tests.support.wheels import use_only_wheels

ITEMS = eval_set()


def run(
    folder: Path,
    output: Path,
    env: Env = Env.DEV,
    eval_set: AnyEvalSet = ITEMS,
    workers: int = 0,
    progress: Callable[[int, int], object] = lambda *_: None,
    **limits: int,
) -> CandidateEval:
    """Evaluate a bundle without watching."""
    return evaluate(
        folder,
        eval_set,
        output / EVAL,
        EvaluationSettings(Limits(**limits), workers=workers),
        run_id=None,
        env=env,
        warn=lambda _: None,
        progress=progress,
    )


SPEAKS = """
import json, sys
print(json.dumps({"ready": 0.5}), flush=True)
for line in sys.stdin:
    batch = json.loads(line)
    answers = [p.removeprefix("Say ") if p != "Say word3" else None for p in batch["prompts"]]
    answer = {"ids": batch["ids"], "predictions": answers, "seconds": 0.1, "peak_mib": 1}
    print(json.dumps(answer), flush=True)
"""


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle that answers all but one question; its process starts without MLflow."""
    (tmp_path / "script.py").write_text(SPEAKS)
    monkeypatch.setattr(worker, "__file__", str(tmp_path / "script.py"))
    return bundle(tmp_path / "bundle")


def test_an_evaluation_reads_back_equal(model: Path, tmp_path: Path) -> None:
    """What promotion reads is what was measured, to the last digit."""
    result = run(model, tmp_path / "out")
    read = read_evidence(tmp_path / "out", ITEMS)
    assert asdict(read.evaluation) == asdict(result)
    assert (result.counts.n, result.counts.correct, result.counts.nulls) == (12, 11, 1)
    assert result.canonical_sha == read_bundle(model).canonical_sha
    assert (result.mlflow_run_id, result.scorer) == (RUN, EXACT.name)
    assert result.isolation == choose_isolation(Env.DEV, (), lambda _: None).level
    assert {p.name for p in (tmp_path / "out").iterdir()} == {EVAL, PREDICTIONS, TIMINGS}


def test_the_batch_size_changes_no_byte_of_the_predictions(model: Path, tmp_path: Path) -> None:
    """Their digest is the evaluation's data version."""
    made = set()
    for size in (1, 5, 12, 64):
        run(model, tmp_path / f"{size}", batch_size=size)
        made.add((tmp_path / f"{size}" / PREDICTIONS).read_bytes())
    assert len(made) == 1


def test_a_large_eval_set_gives_the_same_evaluation(model: Path, tmp_path: Path) -> None:
    """Kept on disk and worked on by DuckDB: the same counts, and it reads back."""
    items = build(
        jsonl(eval_items(12)).split(b"\n"), "f", ITEMS.dvc_hash, ITEMS.sha256, EXACT, None
    )
    small, large = run(model, tmp_path / "small"), run(model, tmp_path / "large", eval_set=items)
    assert large.counts == small.counts
    assert {**asdict(large), "metrics": 0, "predictions_sha256": 0} == {
        **asdict(small),
        "metrics": 0,
        "predictions_sha256": 0,
    }
    assert read_evidence(tmp_path / "large", items).evaluation == large
    assert read_evidence(tmp_path / "large", ITEMS).evaluation == large


def test_an_evaluation_goes_on_where_it_broke_off(model: Path, tmp_path: Path) -> None:
    """Only what was not answered is asked again, and the predictions are the same to the byte."""
    script = model.parent / "script.py"
    good = script.read_text()
    whole = run(model, tmp_path / "whole")
    script.write_text(f"{good}    n = locals().get('n', 0) + 1\n    n == 3 and sys.exit(3)\n")
    out = tmp_path / "out"
    with pytest.raises(BadInput, match="exit code 3"):
        run(model, out, batch_size=2, workers=1)
    assert [path.name for path in out.iterdir()] == [f"{EVAL}.journal"]
    script.write_text(good)
    told: list[tuple[int, int]] = []
    resumed = run(model, out, batch_size=5, progress=lambda *now: told.append(now))
    assert told == [(6, 12), (11, 12), (12, 12)]
    assert (out / PREDICTIONS).read_bytes() == (tmp_path / "whole" / PREDICTIONS).read_bytes()
    assert resumed.counts == whole.counts


@pytest.mark.parametrize("run_id", ["", "x", None, "../../etc", "\ud800", ["a"], "A" * 32])
def test_a_run_id_that_is_none_is_not_taken_from_a_bundle(
    model: Path, tmp_path: Path, run_id: object
) -> None:
    """The candidate wrote it; it goes into file names and into the evidence."""
    text = json.dumps({"flavors": {}, "run_id": run_id})  # JSON is YAML
    (model / "MLmodel").write_text(text)
    assert run(model, tmp_path / "out").mlflow_run_id is None
    assert read_evidence(tmp_path / "out", ITEMS).evaluation.mlflow_run_id is None


def test_a_failed_evaluation_writes_nothing_and_keeps_the_one_before(
    model: Path, tmp_path: Path
) -> None:
    """Evidence is replaced by evidence only."""
    run(model, tmp_path / "out")
    before = {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()}
    (tmp_path / "script.py").write_text("raise SystemExit(1)")
    for output in (tmp_path / "out", tmp_path / "new"):
        with pytest.raises(BadInput, match="ended during loading"):
            run(model, output)
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()} == before
    assert list((tmp_path / "new").iterdir()) == []


def test_prod_without_isolation_runs_nothing(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dev runs it, and the evidence says how."""
    marker = tmp_path / "ran"
    script = tmp_path / "script.py"
    script.write_text(f"open({str(marker)!r}, 'w')\n" + SPEAKS)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Refused, match="only in isolation"):
        run(model, tmp_path / "out", Env.PROD)
    assert not marker.exists()
    assert not (tmp_path / "out").exists()
    assert run(model, tmp_path / "out").isolation == NONE
    assert marker.exists()
    assert json.loads((tmp_path / "out" / EVAL).read_bytes())["isolation"] == NONE


@pytest.mark.parametrize("isolation", [NONE, "chroot", ""])
def test_an_evaluation_that_prod_would_not_promote_is_not_kept_there(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, isolation: str
) -> None:
    """The candidate is asked again, which here can't be done."""
    settings = replace(project(tmp_path / "project"), env=Env.PROD)
    here = candidate(settings, RUN)
    here.folder.mkdir(parents=True)
    model.rename(here.bundle)
    evaluation = run(here.bundle, here.evidence)
    text = json.dumps(replace(evaluation, mlflow_run_id=RUN, isolation=isolation).to_json())
    (here.evidence / EVAL).write_text(text)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Refused, match="only in isolation"):
        evaluate_candidate(
            settings, here, again=False, warn=lambda _: None, progress=lambda *_: None
        )


def test_an_evaluation_in_another_environment_does_not_hold(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same packages are not asked for again; the answers of others would not be the same."""
    use_only_wheels(monkeypatch, tmp_path / "wheels")
    ours = project(tmp_path / "project")
    own = replace(ours, evaluation=EvaluationSettings(environments=ours.home / "environments"))
    here = candidate(ours, RUN)
    here.folder.mkdir(parents=True)
    model.rename(here.bundle)
    (here.bundle / "requirements.txt").write_text("mlflow==1.0\n")

    def found(settings: Settings) -> tuple[str, bool]:
        result, kept = evaluate_candidate(
            settings, here, again=False, warn=lambda _: None, progress=lambda *_: None
        )
        return result.environment, kept

    assert [found(ours), found(ours)] == [(LOCAL, False), (LOCAL, True)]
    digest = found(own)[0]
    assert len(digest) == 64
    assert [found(own), found(ours)] == [(digest, True), (LOCAL, False)]


@pytest.mark.slow
def test_a_model_that_mlflow_loads_is_evaluated(tmp_path: Path) -> None:
    """In prod too where isolation works; batch by batch or all at once, the same bytes."""
    model = bundle(tmp_path / "bundle")
    works = choose_isolation(Env.DEV, (), lambda _: None).level == BUBBLEWRAP
    result = run(model, tmp_path / "a", Env.PROD if works else Env.DEV)
    assert (result.counts.correct, result.counts.n) == (12, 12)
    run(model, tmp_path / "b", batch_size=1)
    assert (tmp_path / "a" / PREDICTIONS).read_bytes() == (
        tmp_path / "b" / PREDICTIONS
    ).read_bytes()
