"""Repositories made by DVC's own commands, cloned fresh, and run through the whole pipeline."""

import shutil
from pathlib import Path

import pytest

from lynx_pipeline.cli import main
from lynx_pipeline.domain.ledger.facts import Evidence
from lynx_pipeline.evaluation.baseline import check, propose
from lynx_pipeline.registry import Registry
from lynx_pipeline.registry.audit import audit
from lynx_pipeline_tests.conftest import Tracking
from lynx_pipeline_tests.end_to_end.conftest import Place
from lynx_pipeline_tests.end_to_end.dvc_projects import BUILDERS, dvc
from lynx_pipeline_tests.support.builders import bundle, eval_set
from lynx_pipeline_tests.support.places import GIT_ENV, git

pytestmark = pytest.mark.slow(seconds=30)

VERSION = "v0.1.0-dev"


@pytest.fixture(scope="module")
def run_id(tracking: Tracking, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A candidate that answers everything."""
    return tracking.run({"model": bundle(tmp_path_factory.mktemp("candidate") / "model")})


@pytest.mark.parametrize("kind", BUILDERS)
def test_a_fresh_clone_is_evaluated_promoted_and_audited(
    kind: str, tmp_path: Path, tracking: Tracking, run_id: str
) -> None:
    """Nothing of DVC's is created beside what ``dvc pull`` creates, and the audit finds the eval
    set again in the remote."""
    origin = tmp_path / "origin"
    project = BUILDERS[kind](origin, str(tmp_path / "remote"))
    git(tmp_path, "clone", "--quiet", str(origin), "clone")
    clone = tmp_path / "clone"
    root = clone / project.relative_to(origin)
    place = Place(root, root / ".lynx").with_variables(MLFLOW_TRACKING_URI=tracking.uri, **GIT_ENV)

    with place.instance() as instance:
        instance.add_dynamic_partitions("candidates", [run_id])
    config = {"ops": {"promotion_decision": {"config": {"semver": VERSION}}}}
    assert place.execute("eval_and_promote", run_id, run_config=config).success
    registry = Registry.open(place.settings)
    evidence = registry.promoted(VERSION).fact.evidence
    assert isinstance(evidence, Evidence)
    assert evidence.eval_set_dvc_hash == eval_set().dvc_hash

    assert git(clone, "status", "--porcelain") == ""
    assert [it.parent for it in clone.rglob(".dvc") if it.is_dir()] == [clone]
    dvc(root, "pull", "-q")  # as before

    shutil.rmtree(clone / ".dvc/cache")
    place.settings.eval_set.unlink()
    assert audit(registry, VERSION).findings == ()


def test_a_proposal_in_an_added_folder_keeps_its_predictions_beside_the_baseline(
    tmp_path: Path, tracking: Tracking, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DVC tracks no further file in a folder that it tracks."""
    root = BUILDERS["in an added folder"](tmp_path / "project", str(tmp_path / "remote"))
    place = Place(root, root / ".lynx").with_variables(MLFLOW_TRACKING_URI=tracking.uri, **GIT_ENV)
    monkeypatch.chdir(root)
    folder, evaluation = bundle(tmp_path / "model"), root / ".lynx/out/candidate_eval.json"
    given = ("--bundle", str(folder), "--eval-set", "data/eval/sets/eval.jsonl")
    assert main(["minieval", *given, "--output", str(evaluation)]) == 0
    propose(place.settings, evaluation, "New.")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "baseline")
    shutil.rmtree(root / ".dvc/cache")
    (root / "eval_baseline.reference.parquet").unlink()
    assert check(place.settings, "HEAD~1").objections == ()
