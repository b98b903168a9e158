"""Repositories made by DVC's own commands, cloned fresh, and run through the whole pipeline."""

import json
import shutil
from pathlib import Path

import pytest

from lynx_pipeline_tests.conftest import Tracking
from lynx_pipeline_tests.end_to_end.conftest import Place, files_in, job
from lynx_pipeline_tests.end_to_end.dvc_projects import BUILDERS, dvc
from lynx_pipeline_tests.support.builders import bundle
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

    asked = place.lynx("request", "--run-id", run_id, "--semver", VERSION, "--output", "run.json")
    assert asked.returncode == 0, asked.stderr
    (root / "run.json").rename(tmp_path / "run.json")
    done = place.dagster(*job("eval_and_promote", run_id), "-c", str(tmp_path / "run.json"))
    assert done.returncode == 0, done.stderr[-3000:]
    (entry,) = json.loads(place.lynx("registry", "list", "--json").stdout)
    assert (
        entry["evidence"]["eval_set_dvc_hash"]
        == json.loads((root / "eval_baseline.json").read_bytes())["eval_set_dvc_hash"]
    )

    assert git(clone, "status", "--porcelain") == ""
    assert [it.parent for it in clone.rglob(".dvc") if it.is_dir()] == [clone]
    dvc(root, "pull", "-q")  # as before

    shutil.rmtree(clone / ".dvc/cache")
    place.settings.eval_set.unlink()
    before = files_in(place.registry)
    audit = place.lynx("audit", VERSION)
    assert audit.returncode == 0, audit.stdout + audit.stderr
    assert files_in(place.registry) == before


def test_a_proposal_in_an_added_folder_keeps_its_predictions_beside_the_baseline(
    tmp_path: Path, tracking: Tracking, run_id: str
) -> None:
    """DVC tracks no further file in a folder that it tracks."""
    root = BUILDERS["in an added folder"](tmp_path / "project", str(tmp_path / "remote"))
    place = Place(root, root / ".lynx").with_variables(MLFLOW_TRACKING_URI=tracking.uri, **GIT_ENV)
    folder = bundle(tmp_path / "model")
    evaluation = ".lynx/out/candidate_eval.json"
    done = place.lynx(
        *("minieval", "--bundle", str(folder), "--eval-set", "data/eval/sets/eval.jsonl"),
        *("--output", evaluation),
    )
    assert done.returncode == 0, done.stderr
    proposed = place.lynx("baseline", "propose", "--from", evaluation, "--justification", "New.")
    assert proposed.returncode == 0, proposed.stderr
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "baseline")
    shutil.rmtree(root / ".dvc/cache")
    (root / "eval_baseline.reference.parquet").unlink()
    checked = place.lynx("baseline", "check", "--base", "HEAD~1")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "its numbers are supported" in checked.stdout
