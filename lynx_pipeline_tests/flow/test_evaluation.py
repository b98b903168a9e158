"""Evidence: written whole or not at all, the same for the same answers, and never believed."""

import contextlib
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from lynx_pipeline import worker
from lynx_pipeline.adapters.bundle_files import read_bundle
from lynx_pipeline.adapters.isolation import choose_isolation
from lynx_pipeline.adapters.large_eval_set import build
from lynx_pipeline.adapters.parquet import predictions_bytes, read_predictions
from lynx_pipeline.config import Asking, Limits, Settings
from lynx_pipeline.domain.evaluation import BUBBLEWRAP, LOCAL, NONE, CandidateEval
from lynx_pipeline.domain.scorers import EXACT
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.errors import BadInput, Refused
from lynx_pipeline.flow.answers import AnyEvalSet
from lynx_pipeline.flow.candidate import candidate
from lynx_pipeline.flow.evaluation import (
    EVAL,
    PREDICTIONS,
    TIMINGS,
    evaluate,
    evaluate_candidate,
    read_evidence,
)
from lynx_pipeline_tests.builders import (
    RUN,
    bundle,
    candidate_eval,
    eval_items,
    eval_set,
    jsonl,
    project,
    sha256,
)
from lynx_pipeline_tests.wheels import only

ITEMS = eval_set()
ANSWERS: dict[str, str | None] = {
    item.id: None if k == 3 else f"word{k % 9}" for k, item in enumerate(ITEMS.items)
}
IDS = [item.id for item in ITEMS.items]


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
        Asking(Limits(**limits), workers=workers),
        run_id=None,
        env=env,
        warn=lambda _: None,
        progress=progress,
    )


def encoded(answers: dict[str, str | None]) -> bytes:
    """The predictions file of these answers."""
    return predictions_bytes(list(answers), list(answers.values()))


@pytest.fixture
def evidence(tmp_path: Path) -> Path:
    """True evidence of a model that is right on most questions."""
    folder = tmp_path / "evidence"
    folder.mkdir()
    raw = encoded(ANSWERS)
    (folder / PREDICTIONS).write_bytes(raw)
    values = candidate_eval(ITEMS, raw, ANSWERS).to_json()
    (folder / EVAL).write_text(json.dumps(values))
    return folder


def edit(folder: Path, change: Callable[[Any], object]) -> None:
    """Change the evaluation's JSON."""
    values = json.loads((folder / EVAL).read_bytes())
    change(values)
    (folder / EVAL).write_text(json.dumps(values))


def replace_answers(folder: Path, answers: dict[str, str | None]) -> None:
    """Swap the predictions and make the evaluation name the new file."""
    raw = encoded(answers)
    (folder / PREDICTIONS).write_bytes(raw)
    edit(folder, lambda v: v.update(predictions_sha256=sha256(raw)))


def test_true_evidence_is_read(evidence: Path) -> None:
    """With the digest of its file and the bytes of both."""
    read = read_evidence(evidence, ITEMS)
    assert read.files == ((evidence / EVAL).read_bytes(), encoded(ANSWERS))
    assert read.sha256 == sha256((evidence / EVAL).read_bytes())
    assert (read.evaluation.counts.correct, read.evaluation.counts.nulls) == (8, 1)


ALL_RIGHT: dict[str, str | None] = {item.id: item.answers[0] for item in ITEMS.items}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param(
            lambda f: (f / PREDICTIONS).write_bytes(
                predictions_bytes(IDS, list(ALL_RIGHT.values()))
            ),
            "SHA-256 differs",
            id="better predictions",
        ),
        pytest.param(
            lambda f: replace_answers(f, ALL_RIGHT), "counts are not", id="predictions and digest"
        ),
        pytest.param(
            lambda f: replace_answers(f, dict(list(ANSWERS.items())[:-1])),
            "lack the item",
            id="n-1",
        ),
        pytest.param(
            lambda f: replace_answers(f, {**ANSWERS, "i99": "x"}), "at most 12 rows", id="n+1"
        ),
        pytest.param(
            lambda f: replace_answers(f, {**dict(list(ANSWERS.items())[1:]), "i99": "x"}),
            "lack the item .i0.",
            id="another item",
        ),
        pytest.param(lambda f: edit(f, lambda v: v.update(correct=12)), "counts are", id="correct"),
        pytest.param(lambda f: edit(f, lambda v: v.update(n=8)), "counts are", id="n"),
        pytest.param(
            lambda f: edit(f, lambda v: v.update(null_answers=0)), "counts are", id="nulls"
        ),
        pytest.param(
            lambda f: edit(f, lambda v: v["buckets"].update({"half.a": _all(6)})),
            "counts are",
            id="a bucket's counts",
        ),
        pytest.param(
            lambda f: edit(f, lambda v: v["buckets"].pop("half.a")), "counts are", id="bucket gone"
        ),
        pytest.param(
            lambda f: edit(f, lambda v: v["buckets"].update({"new.x": _all(1)})),
            "counts are",
            id="bucket added",
        ),
        pytest.param(
            lambda f: edit(f, lambda v: v["buckets"]["half.a"].pop("correct")),
            "counts are",
            id="only accuracy",
        ),
        pytest.param(
            lambda f: edit(f, lambda v: v.update(eval_set_dvc_hash="0" * 32)),
            "out of date",
            id="other eval set",
        ),
        pytest.param(
            lambda f: edit(f, lambda v: v.update(eval_set_sha256="0" * 64)),
            "out of date",
            id="other bytes",
        ),
        pytest.param(
            lambda f: edit(f, lambda v: v.update(scorer="always-right/1")), "scorer", id="scorer"
        ),
        pytest.param(lambda f: edit(f, lambda v: v.pop("scorer")), "scorer", id="no scorer"),
        pytest.param(lambda f: (f / PREDICTIONS).unlink(), "no predictions", id="no predictions"),
        pytest.param(lambda f: (f / EVAL).unlink(), "not evaluated", id="no evaluation"),
        pytest.param(lambda f: shutil.rmtree(f), "not evaluated", id="nothing"),
    ],
)
def test_edited_evidence_is_refused(
    evidence: Path, change: Callable[[Path], object], says: str
) -> None:
    """The stored predictions are counted again; nothing that the file claims is believed."""
    change(evidence)
    with pytest.raises(BadInput, match=says):
        read_evidence(evidence, ITEMS)


def test_evidence_from_before_there_was_a_choice_names_our_environment(evidence: Path) -> None:
    """Candidates could run nowhere else."""
    edit(evidence, lambda v: v.pop("environment"))
    assert read_evidence(evidence, ITEMS).evaluation.environment == LOCAL


def _all(n: int) -> dict[str, object]:
    return {"accuracy": 1.0, "n": n, "correct": n}


def test_evidence_of_another_eval_set_is_refused(evidence: Path) -> None:
    """Also where only one expected answer was corrected since."""
    changed = eval_items()
    changed[0]["expected"] = "another"
    with pytest.raises(BadInput, match="out of date"):
        read_evidence(evidence, eval_set(changed))


def _parquet(**columns: Any) -> bytes:
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def _no_text() -> Any:
    import pyarrow as pa

    return pa.array([b"\xff\xfe"], pa.binary()).view(pa.string())


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(lambda: b"", id="empty"),
        pytest.param(lambda: b"PAR1" * 9, id="magic only"),
        pytest.param(lambda: encoded(ANSWERS)[:-9], id="cut"),
        pytest.param(lambda: _parquet(id=["a"]), id="no predictions"),
        pytest.param(lambda: _parquet(prediction=["a"]), id="no ids"),
        pytest.param(lambda: _parquet(id=[None], prediction=["a"]), id="null id"),
        pytest.param(lambda: _parquet(id=["a"], prediction=[["a"]]), id="lists"),
        pytest.param(lambda: _parquet(id=["a"], prediction=[{"a": "b"}]), id="structs"),
        pytest.param(lambda: _parquet(id=["a"], prediction=[b"\xff"]), id="bytes"),
        pytest.param(lambda: _parquet(id=["a"], prediction=_no_text()), id="text that is none"),
    ],
)
def test_a_file_that_holds_no_predictions_is_refused(raw: Callable[[], bytes]) -> None:
    """Whatever pyarrow makes of it."""
    with pytest.raises(BadInput, match="not a predictions file"):
        read_predictions(raw(), "predictions.parquet", 99)


def test_any_byte_of_a_predictions_file_may_flip() -> None:
    """Reading it gives rows or our error; which rows, the digest has settled before."""
    good = encoded(ANSWERS)
    assert read_predictions(good, "p", 99) == list(ANSWERS.items())
    for place in range(len(good)):
        damaged = bytearray(good)
        damaged[place] ^= 0xFF
        with contextlib.suppress(BadInput):
            read_predictions(bytes(damaged), "p", 99)


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
    assert {**asdict(large), "measured": 0, "predictions_sha256": 0} == {
        **asdict(small),
        "measured": 0,
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
    only(monkeypatch, tmp_path / "wheels")
    ours = project(tmp_path / "project")
    own = replace(ours, asking=Asking(environments=ours.home / "environments"))
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
