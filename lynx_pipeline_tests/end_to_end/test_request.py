"""A release request prepares a run."""

import json
import shutil
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from lynx_pipeline.adapters.mlflow_tracking import connected
from lynx_pipeline_tests.end_to_end.conftest import Demo, Place, files_in
from lynx_pipeline_tests.support import REPO

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("dagster_home", [False, True], ids=["DAGSTER_HOME unset", "set"])
def test_the_printed_command_runs(demo: Demo, tmp_path: Path, dagster_home: bool) -> None:
    """A repeated request for a promoted version is prepared and run, and changes nothing.

    Partition and run are in ``DAGSTER_HOME`` if it is set, otherwise in LYNX_HOME. The request is
    made in a subfolder in that case, and the command pasted there.
    """
    place = demo.copy(tmp_path / "home")
    if dagster_home:
        (tmp_path / "dagster").mkdir()
        place = place.with_variables(DAGSTER_HOME=str(tmp_path / "dagster"))
    registry, history = files_in(place.registry), _runs(demo.place)
    there = place if dagster_home else replace(place, root=REPO / "docs")
    done = there.lynx("request", "--run-id", demo.good, "--semver", "v0.1.0-dev")
    assert done.returncode == 0, done.stderr
    command = done.stdout.splitlines()[-1].strip()
    start = "" if dagster_home else f"cd {REPO} && {Path(sys.executable).parent}/"
    assert command.startswith(f"{start}dagster job execute ")
    ran = there.run("bash", "-c", command)
    assert ran.returncode == 0, ran.stderr
    assert files_in(place.registry) == registry

    if dagster_home:
        assert _runs(Place(REPO, place.home)) == history
    with place.instance() as instance:
        latest = instance.get_runs(limit=1)[0]
        assert latest.tags["dagster/partition"] == demo.good
        assert instance.has_dynamic_partition("candidates", demo.good)


def test_a_named_model_of_a_run_is_evaluated_and_promoted(demo: Demo, tmp_path: Path) -> None:
    """The run also has a worse model among its artifacts. Evidence, entry and audit name the one
    that was requested."""
    place = demo.copy(tmp_path / "home")
    candidates = demo.place.settings.candidates
    tracking = place.settings.tracking_uri
    with connected(tracking) as client:
        experiment = client.get_run(demo.good).info.experiment_id
        run_id = client.create_run(experiment).info.run_id
        client.log_artifacts(run_id, str(candidates / demo.bad / "bundle"), "teacher")
        made = client.create_logged_model(experiment, name="student", source_run_id=run_id)
        client.log_model_artifacts(made.model_id, str(candidates / demo.good / "bundle"))
        client.finalize_logged_model(made.model_id, "READY")
        client.set_terminated(run_id)
    asked = ("--run-id", run_id, "--semver", "v0.2.0-dev")
    refused = place.lynx("request", *asked)
    assert refused.returncode == 2
    assert "has 2 models, expected exactly one" in refused.stderr
    done = place.lynx("request", *asked, "--model", "student", "--json")
    assert done.returncode == 0, done.stderr
    request = json.loads(done.stdout)
    assert (request["candidate"], request["mlflow_run_id"]) == (made.model_id, run_id)
    ran = place.run(*request["command"])
    assert ran.returncode == 0, ran.stderr
    shown = place.lynx("audit", "v0.2.0-dev")
    assert shown.returncode == 0, shown.stdout
    assert f"from        models:/{made.model_id}, MLflow run {run_id}" in shown.stdout


def test_a_candidate_that_changed_after_the_request_is_refused(demo: Demo, tmp_path: Path) -> None:
    """The request's digest is in the run config. The comment does not change the canonical sha."""
    place = demo.copy(tmp_path / "home")
    bundle = shutil.copytree(demo.place.settings.candidates / demo.good / "bundle", tmp_path / "b")
    with connected(place.settings.tracking_uri) as client:
        experiment = client.get_run(demo.good).info.experiment_id
        run_id = client.create_run(experiment).info.run_id
        client.log_artifacts(run_id, str(bundle), "model")
        client.set_terminated(run_id)
        done = place.lynx("request", "--run-id", run_id, "--semver", "v0.2.0-dev", "--json")
        assert done.returncode == 0, done.stderr
        with (bundle / "MLmodel").open("a") as file:
            file.write("# a comment\n")
        client.log_artifact(run_id, str(bundle / "MLmodel"), "model")
    registry = files_in(place.registry)
    ran = place.run(*json.loads(done.stdout)["command"])
    assert ran.returncode == 1
    says = f"candidate {run_id} changed in MLflow after it was requested: 'MLmodel' was changed."
    assert says in ran.stderr
    assert files_in(place.registry) == registry


BAD_REQUESTS: Mapping[str, tuple[str, str, str]] = {
    "a malformed run id": ("../../etc", "v0.1.0-dev", "is not a candidate: expected"),
    "a malformed version": ("0" * 32, "v1; rm -rf /", "can't name a promotion in dev"),
    "a prod version in dev": ("0" * 32, "v0.1.0", "expected vX.Y.Z-dev"),
    "an unknown run": ("0" * 32, "v0.1.0-dev", "Check the run id"),
}


@pytest.mark.parametrize("name", BAD_REQUESTS)
def test_an_invalid_request_is_refused(demo: Demo, tmp_path: Path, name: str) -> None:
    """The exit code is 2, stderr has one paragraph, and nothing is prepared."""
    place = Place(REPO, tmp_path / "home").with_variables(
        MLFLOW_TRACKING_URI=demo.place.settings.tracking_uri
    )
    run_id, semver, says = BAD_REQUESTS[name]
    done = place.lynx("request", "--run-id", run_id, "--semver", semver, "--json")
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not place.home.exists()


def _runs(place: Place) -> list[str]:
    with place.instance() as instance:
        return [run.run_id for run in instance.get_runs()]
