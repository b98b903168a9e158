"""Data, models and promoted bundles in S3, on a real server that checks keys and signatures."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lynx_pipeline.adapters.mlflow_tracking import connected
from lynx_pipeline.registry import Registry
from lynx_pipeline_tests.conftest import Tracking
from lynx_pipeline_tests.end_to_end.conftest import Place, files_in
from lynx_pipeline_tests.end_to_end.dvc_projects import RAW, dvc, finish, start, write_project
from lynx_pipeline_tests.support import s3_server
from lynx_pipeline_tests.support.builders import bundle, eval_items, jsonl
from lynx_pipeline_tests.support.places import GIT_ENV, git
from lynx_pipeline_tests.support.s3_server import BUCKET, S3

pytestmark = pytest.mark.slow(seconds=60)

VERSION = "v0.1.0-dev"


@dataclass(frozen=True)
class Team:
    """A clone of a project whose data, models and bundles are in S3, after one promotion."""

    s3: S3
    place: Place
    run_id: str

    def forget(self) -> None:
        """Remove what was pulled."""
        shutil.rmtree(self.place.root / ".dvc/cache", ignore_errors=True)
        self.place.settings.eval_set.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    """The team. Its data is pulled, a candidate evaluated and promoted."""
    folder = tmp_path_factory.mktemp("s3")
    with s3_server.running(folder) as s3, pytest.MonkeyPatch.context() as patch:
        for name, value in s3.environ.items():
            patch.setenv(name, value)
        origin = folder / "origin"
        start(origin, f"s3://{BUCKET}/data")
        _add_data(origin)
        git(folder, "clone", "--quiet", str(origin), "clone")
        uri = f"sqlite:///{folder / 'mlflow.db'}"
        with connected(uri) as client:
            experiment = client.create_experiment("tiny", f"s3://{BUCKET}/mlflow")
        run_id = Tracking(uri, experiment).run({"model": bundle(folder / "model")})
        yield Team(s3, _promoted(folder / "clone", uri, run_id), run_id)


def _add_data(origin: Path) -> None:
    """The project's files, with its eval set in the remote."""
    write_project(origin, "data/eval.jsonl", f'bundle_store = "s3://{BUCKET}/bundles"\n')
    (origin / "data/eval.jsonl").write_bytes(RAW)
    dvc(origin, "add", "-q", "data/eval.jsonl")
    finish(origin)


def _promoted(root: Path, uri: str, run_id: str) -> Place:
    """The project in ``root``, after the promotion of a candidate."""
    place = Place(root, root / ".lynx").with_variables(MLFLOW_TRACKING_URI=uri, **GIT_ENV)
    with place.instance() as instance:
        instance.add_dynamic_partitions("candidates", [run_id])
    config = {"ops": {"promotion_decision": {"config": {"semver": VERSION}}}}
    assert place.execute("eval_and_promote", run_id, run_config=config).success
    return place


def test_a_promotion_is_audited_and_fetched_from_s3(team: Team, tmp_path: Path) -> None:
    """The audit finds the eval set there, and a server the bundle, without MLflow."""
    team.forget()
    audit = team.place.lynx("audit", VERSION)
    assert audit.returncode == 0, audit.stdout + audit.stderr
    away = team.place.with_variables(MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    fetched = away.lynx("registry", "fetch", VERSION, "--to", str(tmp_path / "model"))
    assert fetched.returncode == 0, fetched.stderr
    assert (tmp_path / "model/MLmodel").is_file()
    folders = {name.partition("/")[0] for name in team.s3.objects()}
    assert folders == {"data", "mlflow", "bundles"}


def test_an_older_eval_set_in_a_remote_with_versions_is_audited(team: Team, tmp_path: Path) -> None:
    """The bucket has both versions under the same name."""
    status = {"Status": "Enabled"}
    team.s3.client().create_bucket(Bucket="versions")
    team.s3.client().put_bucket_versioning(Bucket="versions", VersioningConfiguration=status)
    root = tmp_path / "project"
    start(root, "s3://versions/data")
    dvc(root, "remote", "modify", "-q", "team", "version_aware", "true")
    _add_data(root)
    place = _promoted(root, team.place.variables["MLFLOW_TRACKING_URI"], team.run_id)
    (root / "data/eval.jsonl").unlink()
    (root / "data/eval.jsonl").write_bytes(jsonl(eval_items(20)))
    dvc(root, "add", "-q", "data/eval.jsonl")
    finish(root)
    Team(team.s3, place, team.run_id).forget()
    audit = place.lynx("audit", VERSION)
    assert audit.returncode == 0, audit.stdout + audit.stderr
    dead = place.with_variables(**_DAMAGE["dead server"]).lynx("audit", VERSION)
    assert dead.returncode == 3, dead.stderr


_DAMAGE = {
    "wrong key": {"AWS_ACCESS_KEY_ID": "AKIA00000000"},
    "wrong secret": {"AWS_SECRET_ACCESS_KEY": "wrong"},
    "dead server": dict.fromkeys(
        ("AWS_ENDPOINT_URL_S3", "MLFLOW_S3_ENDPOINT_URL"), "http://127.0.0.1:9"
    ),
    "no credentials": {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "HOME": "/nowhere"},
}


@pytest.mark.parametrize("damage", _DAMAGE)
def test_data_in_an_unusable_s3_is_a_system_failure_that_changes_nothing(
    team: Team, damage: str
) -> None:
    """One paragraph that names the cause, without the secret."""
    team.forget()
    _assert_fails(team, team.place.with_variables(**_DAMAGE[damage]), "gate", "power")


def test_an_audit_without_its_data_is_a_system_failure(team: Team) -> None:
    """It is no finding about the version."""
    team.forget()
    _assert_fails(team, team.place.with_variables(**_DAMAGE["dead server"]), "audit", VERSION)


@pytest.mark.parametrize("command", [("gate", "power"), ("audit", VERSION)])
def test_a_missing_bucket_is_a_system_failure(team: Team, command: tuple[str, ...]) -> None:
    """It is not the same as missing data."""
    config = team.place.root / ".dvc/config"
    before = config.read_text()
    config.write_text(before.replace(f"s3://{BUCKET}/", "s3://missing/"))
    team.forget()
    try:
        _assert_fails(team, team.place, *command)
    finally:
        config.write_text(before)


def test_a_missing_bucket_of_mlflow_is_a_system_failure(team: Team) -> None:
    """The run is there. Its artifacts' store is not, which is no mistake in the run's id."""
    with connected(team.place.settings.tracking_uri) as client:
        experiment = client.create_experiment("lost", "s3://missing/mlflow")
        run_id = client.create_run(experiment).info.run_id
        client.set_terminated(run_id)
    _assert_fails(team, team.place, "run", run_id)
    done = team.place.lynx("run", run_id)
    assert "MLflow's artifacts at 's3://missing/mlflow/" in done.stderr
    assert "Check that this place exists" in done.stderr


@pytest.mark.parametrize("damage", ["wrong key", "dead server"])
def test_a_promotion_whose_model_is_out_of_reach_changes_nothing(team: Team, damage: str) -> None:
    """The data is there, and MLflow's artifacts and the bundle store can't be reached."""
    dvc(team.place.root, "pull", "-q")
    sha = Registry.open(team.place.settings).resolve(VERSION).canonical_sha
    evidence = str(team.place.evidence(team.run_id))
    place = team.place.with_variables(**_DAMAGE[damage])
    _assert_fails(team, place, "registry", "promote", sha, "v0.2.0-dev", "--evidence", evidence)


def _assert_fails(team: Team, place: Place, *arguments: str) -> None:
    before, ledger = _files(place), files_in(team.place.registry)
    objects = team.s3.objects()
    done = place.lynx(*arguments)
    assert done.returncode == 3, done.stdout + done.stderr
    (paragraph,) = done.stderr.splitlines()
    assert paragraph.startswith("lynx-pipeline: ")
    assert team.s3.secret not in paragraph
    assert (_files(place), files_in(team.place.registry)) == (before, ledger)
    assert team.s3.objects() == objects


def _files(place: Place) -> dict[str, bytes]:
    """The project's files, besides what is ignored."""
    ours = (".git/", ".lynx/", ".dvc/tmp/", ".dvc/cache/")
    return {k: v for k, v in files_in(place.root).items() if not k.startswith(ours)}
