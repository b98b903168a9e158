"""An evaluation: run, resumed, and written completely or not at all."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from lynx_pipeline.adapters.bundle_files import read_bundle
from lynx_pipeline.config import EvaluationSettings, Limits, Settings, load_settings
from lynx_pipeline.domain.candidate_eval import BUBBLEWRAP, LOCAL, NONE, CandidateEval
from lynx_pipeline.domain.scorers import EXACT
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.errors import BadInput, Refused
from lynx_pipeline.evaluation import run as run_module
from lynx_pipeline.evaluation.candidate import candidate
from lynx_pipeline.evaluation.evidence import (
    BUNDLE_MANIFEST,
    EVAL,
    PREDICTIONS,
    PRINTED,
    TIMINGS,
    read_evidence,
)
from lynx_pipeline.evaluation.judgement import judge_evidence
from lynx_pipeline.evaluation.run import evaluate, evaluate_candidate, hidden_folders
from lynx_pipeline.evaluation.storage import StoredEvalSet
from lynx_pipeline.evaluation.storage.large import build
from lynx_pipeline.evaluation.storage.parquet import read_predictions
from lynx_pipeline.sandbox.inside import worker
from lynx_pipeline.sandbox.isolation import choose_isolation
from lynx_pipeline_tests.support.builders import RUN, bundle, eval_items, eval_set, jsonl, project
from lynx_pipeline_tests.support.wheels import use_only_wheels

ITEMS = eval_set()


def run(
    folder: Path,
    output: Path,
    env: Env = Env.DEV,
    eval_set: StoredEvalSet = ITEMS,
    workers: int = 0,
    progress: Callable[[int, int], object] = lambda *_: None,
    answer_column: str | None = None,
    **limits: int,
) -> CandidateEval:
    """Evaluate a bundle and ignore warnings."""
    return evaluate(
        folder,
        eval_set,
        output / EVAL,
        EvaluationSettings(Limits(**limits), workers=workers, answer_column=answer_column),
        candidate=None,
        env=env,
        warn=lambda _: None,
        progress=progress,
    ).evaluation


ECHO_WORKER = """
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
    """A bundle that answers all questions but one; its process starts without MLflow."""
    (tmp_path / "script.py").write_text(ECHO_WORKER)
    monkeypatch.setattr(worker, "__file__", str(tmp_path / "script.py"))
    return bundle(tmp_path / "bundle")


def test_an_evaluation_reads_back_equal(model: Path, tmp_path: Path) -> None:
    """Promotion reads exactly the values that were measured, to the last digit."""
    result = run(model, tmp_path / "out")
    read = read_evidence(tmp_path / "out", ITEMS)
    assert asdict(read.evaluation) == asdict(result)
    assert (result.counts.n, result.counts.correct, result.counts.nulls) == (12, 11, 1)
    assert result.canonical_sha == read_bundle(model).canonical_sha
    assert (result.mlflow_run_id, result.scorer) == (RUN, EXACT.name)
    assert result.isolation == choose_isolation(Env.DEV, (), lambda _: None).level
    names = {EVAL, PREDICTIONS, TIMINGS, BUNDLE_MANIFEST}
    assert {p.name for p in (tmp_path / "out").iterdir()} == names
    assert (tmp_path / "out" / BUNDLE_MANIFEST).read_bytes() == read_bundle(model).manifest


def test_answers_that_are_too_long_together_end_the_evaluation(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise they would be refused as predictions, after the whole evaluation."""
    monkeypatch.setattr(run_module, "most_bytes", lambda rows: 4 * rows)
    with pytest.raises(BadInput, match=r"its answers have \d+ bytes, expected at most 24 for"):
        run(model, tmp_path / "out", batch_size=5)
    assert not (tmp_path / "out" / EVAL).exists()


@pytest.mark.slow
def test_what_a_failed_candidate_printed_is_kept(tmp_path: Path) -> None:
    """The error names the file and the line that failed. The file is for the last failure only."""
    folder, output = tmp_path / "bundle", tmp_path / "out"
    long = "print('x' * 2_000_000, 'the end'); "
    bundle(folder, body=f"{long}raise KeyError('go')")
    with pytest.raises(BadInput) as caught:
        run(folder, output, batch_size=5)
    printed = output / PRINTED
    message = str(caught.value)
    assert message.endswith(
        "failed with KeyError: 'go'. It was raised at code/tiny_loader.py, line 2, in answer. "
        f"What it printed is in the file {printed}."
    )
    assert " the end\n" in printed.read_text()
    assert "Traceback (most recent call last):" in printed.read_text()
    assert printed.stat().st_size <= 1 << 20
    assert not (output / EVAL).exists()
    shutil.rmtree(folder)
    run(bundle(folder), output)
    assert not printed.exists()


def test_predictions_do_not_depend_on_the_batch_size(model: Path, tmp_path: Path) -> None:
    """The digest of their bytes is the evaluation's data version."""
    contents = set()
    for size in (1, 5, 12, 64):
        run(model, tmp_path / f"{size}", batch_size=size)
        contents.add((tmp_path / f"{size}" / PREDICTIONS).read_bytes())
    assert len(contents) == 1


def test_a_large_eval_set_gives_the_same_evaluation(model: Path, tmp_path: Path) -> None:
    """Large sets are on disk and counted by DuckDB. The evidence reads back with either kind of
    set."""
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


def test_an_interrupted_evaluation_resumes(model: Path, tmp_path: Path) -> None:
    """Only unanswered questions are asked again, and the predictions are identical to the byte."""
    script = model.parent / "script.py"
    good = script.read_text()
    uninterrupted = run(model, tmp_path / "uninterrupted")
    script.write_text(f"{good}    n = locals().get('n', 0) + 1\n    n == 3 and sys.exit(3)\n")
    out = tmp_path / "out"
    with pytest.raises(BadInput, match="exit code 3"):
        run(model, out, batch_size=2, workers=1)
    assert [path.name for path in out.iterdir()] == [f"{EVAL}.journal"]
    script.write_text(good)
    reported: list[tuple[int, int]] = []
    resumed = run(model, out, batch_size=5, progress=lambda *counts: reported.append(counts))
    assert reported == [(6, 12), (11, 12), (12, 12)]
    expected = tmp_path / "uninterrupted" / PREDICTIONS
    assert (out / PREDICTIONS).read_bytes() == expected.read_bytes()
    assert resumed.counts == uninterrupted.counts


@pytest.mark.parametrize("run_id", ["", "-x", None, "../../etc", "\ud800", ["a"], "A" * 257])
def test_an_invalid_run_id_in_a_bundle_is_ignored(
    model: Path, tmp_path: Path, run_id: object
) -> None:
    """The candidate's author wrote it, and it is used in file names and in the evidence."""
    text = json.dumps({"flavors": {}, "run_id": run_id})  # JSON is YAML
    (model / "MLmodel").write_text(text)
    assert run(model, tmp_path / "out").mlflow_run_id is None
    assert read_evidence(tmp_path / "out", ITEMS).evaluation.mlflow_run_id is None


def test_a_failed_evaluation_leaves_the_old_evidence_unchanged(model: Path, tmp_path: Path) -> None:
    """Only a completed evaluation replaces evidence."""
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
    """Dev runs it, and the evidence records the isolation level."""
    marker = tmp_path / "ran"
    script = tmp_path / "script.py"
    script.write_text(f"open({str(marker)!r}, 'w')\n" + ECHO_WORKER)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Refused, match="only in isolation"):
        run(model, tmp_path / "out", Env.PROD)
    assert not marker.exists()
    assert not (tmp_path / "out").exists()
    assert run(model, tmp_path / "out").isolation == NONE
    assert marker.exists()
    assert json.loads((tmp_path / "out" / EVAL).read_bytes())["isolation"] == NONE


@pytest.mark.parametrize("isolation", [NONE, "chroot", ""])
def test_prod_does_not_reuse_evidence_that_it_would_not_promote(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, isolation: str
) -> None:
    """The candidate is evaluated again, which fails here because isolation is unavailable."""
    settings = replace(project(tmp_path / "project"), env=Env.PROD)
    target = candidate(settings, RUN)
    target.folder.mkdir(parents=True)
    model.rename(target.bundle)
    evaluation = run(target.bundle, target.evidence)
    text = json.dumps(replace(evaluation, mlflow_run_id=RUN, isolation=isolation).to_json())
    (target.evidence / EVAL).write_text(text)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Refused, match="only in isolation"):
        evaluate_candidate(
            settings, target, again=False, warn=lambda _: None, progress=lambda *_: None
        )


def test_evidence_from_a_different_environment_is_not_reused(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Different packages could give different answers. With the same packages the evidence is
    reused, and judged like new evidence."""
    use_only_wheels(monkeypatch, tmp_path / "wheels")
    ours = project(tmp_path / "project")
    own = replace(ours, evaluation=EvaluationSettings(environments=ours.home / "environments"))
    target = candidate(ours, RUN)
    target.folder.mkdir(parents=True)
    model.rename(target.bundle)
    (target.bundle / "requirements.txt").write_text("mlflow==1.0\n")

    def evaluated(settings: Settings) -> tuple[str, bool]:
        judged, reused = evaluate_candidate(
            settings, target, again=False, warn=lambda _: None, progress=lambda *_: None
        )
        stored = judge_evidence(settings, target.evidence)
        assert (judged.evidence, judged.verdict) == (stored.evidence, stored.verdict)
        assert judged.baseline == stored.baseline
        return judged.evidence.evaluation.environment, reused

    assert [evaluated(ours), evaluated(ours)] == [(LOCAL, False), (LOCAL, True)]
    digest = evaluated(own)[0]
    assert len(digest) == 64
    assert [evaluated(own), evaluated(ours)] == [(digest, True), (LOCAL, False)]


# Answers with the name of the column that is asked for.
COLUMN_WORKER = """
import json, sys
form = json.loads(sys.argv[-1]) if sys.argv[-1].startswith("{") else {}
print(json.dumps({"ready": 0.5}), flush=True)
for line in sys.stdin:
    ids = json.loads(line)["ids"]
    predictions = [form.get("answer_column")] * len(ids)
    answer = {"ids": ids, "predictions": predictions, "seconds": 0.1, "peak_mib": 1}
    print(json.dumps(answer), flush=True)
"""


def test_answers_of_two_columns_are_never_mixed(model: Path, tmp_path: Path) -> None:
    """An evaluation that was interrupted under another setting starts again."""
    script, out = model.parent / "script.py", tmp_path / "out"
    script.write_text(COLUMN_WORKER + "    ids[-1] == 5 and sys.exit(3)\n")
    with pytest.raises(BadInput, match="exit code 3"):
        run(model, out, batch_size=2, workers=1, answer_column="score")
    script.write_text(COLUMN_WORKER)
    result = run(model, out, answer_column="label")
    found = read_predictions((out / PREDICTIONS).read_bytes(), PREDICTIONS, 12)
    assert {answer for _, answer in found} == {"label"}
    assert result.answer_column == "label"


def test_another_answer_column_evaluates_an_unchanged_candidate_again(
    model: Path, tmp_path: Path
) -> None:
    """So does none. With the same one the evidence is reused."""
    (model.parent / "script.py").write_text(COLUMN_WORKER)
    settings = project(tmp_path / "project")
    target = candidate(settings, RUN)
    target.folder.mkdir(parents=True)
    model.rename(target.bundle)
    found = []
    for column in ("label", "label", "score", None, None):
        options = replace(settings.evaluation, answer_column=column)
        judged, reused = evaluate_candidate(
            replace(settings, evaluation=options),
            target,
            again=False,
            warn=lambda _: None,
            progress=lambda *_: None,
        )
        found.append((judged.evidence.evaluation.answer_column, reused))
    assert found == [
        *(("label", False), ("label", True), ("score", False)),
        *((None, False), (None, True)),
    ]
    with pytest.raises(BadInput, match="'answer_column' is None, expected label"):
        judge_evidence(
            replace(settings, evaluation=EvaluationSettings(answer_column="label")),
            target.evidence,
        )


@pytest.mark.slow
def test_a_model_that_mlflow_loads_is_evaluated(tmp_path: Path) -> None:
    """Where isolation works, this includes prod. The batch size does not change the predictions."""
    model = bundle(tmp_path / "bundle")
    works = choose_isolation(Env.DEV, (), lambda _: None).level == BUBBLEWRAP
    result = run(model, tmp_path / "a", Env.PROD if works else Env.DEV)
    assert (result.counts.correct, result.counts.n) == (12, 12)
    run(model, tmp_path / "b", batch_size=1)
    assert (tmp_path / "a" / PREDICTIONS).read_bytes() == (
        tmp_path / "b" / PREDICTIONS
    ).read_bytes()


def test_the_repositories_above_a_project_are_hidden(tmp_path: Path) -> None:
    """They have the right answers too: in DVC's cache and in other services' folders."""
    root = tmp_path / "repository" / "services" / "tutor"
    root.mkdir(parents=True)
    for folder in (".dvc", ".git"):
        (tmp_path / "repository" / folder).mkdir()
    (root / "pyproject.toml").write_text('[tool.lynx_pipeline]\nmodel = "m"\n')
    settings = load_settings(root, {})
    assert hidden_folders(settings) == (root, settings.home, tmp_path / "repository")
