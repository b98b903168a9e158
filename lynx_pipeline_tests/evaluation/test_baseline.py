"""Baseline changes in a real git checkout with a real DVC remote."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from lynx_pipeline.adapters.dvc_data import digest
from lynx_pipeline.adapters.files import write_atomic
from lynx_pipeline.cli import main
from lynx_pipeline.config import Settings, load_settings
from lynx_pipeline.domain.candidate_eval import CandidateEval, score
from lynx_pipeline.domain.eval_set import EvalSet
from lynx_pipeline.domain.scorers import EXACT
from lynx_pipeline.errors import BadInput, SystemFailed
from lynx_pipeline.evaluation.baseline import check, propose, read_reference, reference_file
from lynx_pipeline.evaluation.evidence import EVAL, PREDICTIONS
from lynx_pipeline.evaluation.inputs import read_eval_set
from lynx_pipeline.evaluation.storage.parquet import predictions_bytes, read_predictions
from lynx_pipeline_tests.support.places import git

pytestmark = pytest.mark.slow

ITEMS = [
    {"id": str(i), "prompt": f"{i}?", "expected": "yes", "buckets": {"d": "a" if i < 50 else "b"}}
    for i in range(100)
]


@pytest.fixture(scope="session")
def dvc_checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with an eval set of 100 questions under DVC, and no baseline yet."""
    root = tmp_path_factory.mktemp("dvc") / "project"
    (root / "data").mkdir(parents=True)
    (root / "pyproject.toml").write_text(
        '[tool.lynx_pipeline]\nmodel = "m"\neval_set = "data/e.jsonl"\nbaseline = "b.json"\n'
    )
    (root / "data/e.jsonl").write_text("".join(json.dumps(item) + "\n" for item in ITEMS))
    (root / ".gitignore").write_text("/.lynx/\n")
    git(root, "init", "-q", "-b", "main")
    for command in (["init", "-q"], ["remote", "add", "-q", "-d", "r", "remote"]):
        subprocess.run(["python", "-m", "dvc", *command], cwd=root, check=True)
    subprocess.run(["python", "-m", "dvc", "add", "-q", "data/e.jsonl"], cwd=root, check=True)
    git(root, "add", "-A")
    git(root, "commit", "-qm", "eval set")
    return root


@pytest.fixture
def project(dvc_checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A copy of the DVC checkout, as the working directory."""
    root = tmp_path / "project"
    shutil.copytree(dvc_checkout, root)
    monkeypatch.chdir(root)
    return load_settings(root)


def evidence(settings: Settings, sha: str, wrong: int) -> Path:
    """Evidence of a model that gets the first ``wrong`` questions wrong."""
    eval_set = read_eval_set(settings)
    assert isinstance(eval_set, EvalSet)
    answers = {item.id: "no" if i < wrong else "yes" for i, item in enumerate(eval_set.items)}
    raw = predictions_bytes(list(answers), list(answers.values()))
    result = CandidateEval(
        mlflow_run_id="0" * 32,
        candidate="0" * 32,
        canonical_sha=sha,
        bundle_digest=digest(sha.encode()).sha256,
        parent_sha=None,
        eval_set_dvc_hash=eval_set.dvc_hash,
        eval_set_sha256=eval_set.sha256,
        scorer=EXACT.name,
        predictions_sha256=digest(raw).sha256,
        isolation="none",
        counts=score(eval_set, answers.items()),
        metrics={"latency_p95_ms": 0.25},
    )
    folder = settings.home / f"evidence-{sha}"
    write_atomic(folder / PREDICTIONS, raw)
    write_atomic(folder / EVAL, json.dumps(result.to_json()).encode())
    return folder / EVAL


def accept(settings: Settings, sha: str, wrong: int, why: str) -> None:
    """Propose a baseline and commit it."""
    propose(settings, evidence(settings, sha, wrong), why)
    git(settings.root, "add", "-A")
    git(settings.root, "commit", "-qm", sha)


def test_a_proposal_keeps_lineage_and_predictions(project: Settings) -> None:
    """The old sha becomes previous_baseline_sha; the predictions are pulled from the remote."""
    accept(project, "first", 0, "The first one.")
    accept(project, "second", 1, "It is cheaper to run.")
    written = json.loads(project.baseline.read_bytes())
    assert written["baseline_sha"] == "second"
    assert written["previous_baseline_sha"] == "first"
    assert written["latency_p95_ms"] == 0.25
    assert written["buckets"]["d.a"] == {"accuracy": 0.98, "n": 50, "correct": 49}
    reference_file(project).unlink()
    shutil.rmtree(project.root / ".dvc" / "cache")
    reference = read_reference(project, read_eval_set(project))
    assert reference is not None
    rows = dict(read_predictions(reference[0], "p", 100))
    assert (rows["0"], rows["1"]) == ("no", "yes")
    assert reference[1].correct == 99


def test_a_justified_drop_with_evidence_passes_and_is_shown(
    project: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """The output says which floor fell, and by how much."""
    accept(project, "first", 0, "The first one.")
    accept(project, "second", 1, "It is cheaper to run.")
    assert main(["baseline", "check", "--base", "HEAD~1"]) == 0
    out = capsys.readouterr().out
    assert "d.a: FALLS -2.00 points, 100.00% to 98.00%" in out
    assert "d.b" not in out


def test_a_proposal_says_which_buckets_change(
    project: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also if only their size does, and if none does."""

    def proposed(sha: str) -> str:
        file = str(evidence(project, sha, 0))
        assert main(["baseline", "propose", "--from", file, "--justification", sha]) == 0
        return capsys.readouterr().out

    accept(project, "first", 0, "The first one.")
    assert proposed("second").startswith("No bucket changes in accuracy or size. Review")
    more = {"id": "more", "prompt": "?", "expected": "yes", "buckets": {"d": "a"}}
    project.eval_set.chmod(0o644)
    with project.eval_set.open("a") as file:
        file.write(json.dumps(more) + "\n")
    subprocess.run(["python", "-m", "dvc", "add", "-q", project.eval_set], check=True)
    assert proposed("third").startswith(
        "  d.a: stays at 100.00%, of 51 items instead of 50\n1 bucket changes. Review"
    )


def test_the_files_to_commit_are_named_from_the_working_directory(
    project: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """So that ``git add`` finds them: nothing else was written."""
    file = str(evidence(project, "first", 0))
    monkeypatch.chdir(project.root / "data")
    assert main(["baseline", "propose", "--from", file, "--justification", "The first one."]) == 0
    listed = capsys.readouterr().out.partition("Review and commit ")[2].partition(" and, if")[0]
    git(project.root / "data", "add", *listed.split(", "))
    written = git(project.root, "status", "--porcelain").splitlines()
    assert [it for it in written if not it.startswith(("A  ", "M  "))] == ["?? remote/"]


def test_a_silently_lowered_floor_is_refused(
    project: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """A manual edit has no new justification, no lineage and no evidence."""
    accept(project, "first", 0, "The first one.")
    values = json.loads(project.baseline.read_bytes())
    values["buckets"]["d.b"] = {"accuracy": 0.9, "n": 50, "correct": 45}
    project.baseline.write_text(json.dumps(values))
    assert main(["baseline", "check", "--base", "HEAD"]) == 1
    captured = capsys.readouterr()
    assert "d.b: FALLS -10.00 points" in captured.out
    assert "justification is unchanged from the previous baseline" in captured.err
    assert "previous_baseline_sha is none" in captured.err
    assert "differ from the stored reference predictions: d.b" in captured.err


def test_an_unchanged_baseline_passes(
    project: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """Other changes in the checkout don't matter."""
    accept(project, "first", 3, "The first one.")
    assert main(["baseline", "check", "--base", "HEAD"]) == 0
    assert "is unchanged since HEAD" in capsys.readouterr().out


def test_accumulated_drift_gives_a_warning(
    project: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each drop was justified, but their sum exceeds the tolerance for a single candidate."""
    for step in range(4):
        accept(project, f"step{step}", step, f"Step {step}.")
    assert main(["baseline", "check", "--base", "HEAD~1"]) == 0
    captured = capsys.readouterr()
    assert (
        "d.a: the drops accepted since the first baseline of this eval set add up to -6.00 points"
        in captured.err
    )


@pytest.mark.parametrize("base", ["nowhere", "--help", "HEAD:b.json", ""])
def test_an_unknown_base_is_bad_input(project: Settings, base: str) -> None:
    """A base that is not a commit is reported as such, whatever it looks like."""
    accept(project, "first", 0, "The first one.")
    with pytest.raises(BadInput, match="no commit"):
        check(project, base)


def test_a_proposal_needs_a_justification_and_valid_evidence(project: Settings) -> None:
    """Nothing is written if one of them is missing."""
    file = evidence(project, "first", 0)
    with pytest.raises(BadInput, match="justification"):
        propose(project, file, "  ")
    file.with_name(PREDICTIONS).write_bytes(b"other")
    with pytest.raises(BadInput, match="predictions"):
        propose(project, file, "Because.")
    assert not project.baseline.exists()
    assert not reference_file(project).exists()


@pytest.mark.parametrize("earlier", [False, True], ids=["first", "second"])
def test_a_failed_proposal_leaves_the_tree_as_it_was(project: Settings, earlier: bool) -> None:
    """There is no remote to push to. The same with a baseline and predictions from before."""
    if earlier:
        accept(project, "first", 0, "The first one.")
    file = evidence(project, "second", 1)
    config = project.root / ".dvc/config"
    config.write_text(config.read_text().replace("remote = r", ""))
    before = _tree(project)
    with pytest.raises(SystemFailed, match="could not add and push"):
        propose(project, file, "Because.")
    assert _tree(project) == before


def test_a_proposal_uses_the_eval_sets_own_remote(project: Settings) -> None:
    """There is no default remote, in which the predictions would be looked for otherwise."""
    config = project.root / ".dvc/config"
    config.write_text(config.read_text().replace("remote = r", ""))
    record = project.root / "data/e.jsonl.dvc"
    record.write_text(record.read_text().replace("  path:", "  remote: r\n  path:"))
    propose(project, evidence(project, "first", 0), "The first one.")
    reference_file(project).unlink()
    shutil.rmtree(project.root / ".dvc/cache")
    assert read_reference(project, read_eval_set(project)) is not None


def _tree(project: Settings) -> dict[str, bytes]:
    """The project's files, besides what git ignores for good."""
    ours = (project.root / ".git", project.root / ".dvc", project.home)
    return {
        str(path): path.read_bytes()
        for path in project.root.rglob("*")
        if path.is_file() and not any(it in path.parents for it in ours)
    }
