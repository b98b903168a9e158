"""Data, models and promoted bundles in S3, on a real server that checks keys and signatures."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from lynx_pipeline.adapters.mlflow_tracking import connected
from lynx_pipeline.registry import Registry
from lynx_pipeline_tests.conftest import Tracking
from lynx_pipeline_tests.end_to_end.conftest import Place, files_in
from lynx_pipeline_tests.end_to_end.dvc_projects import RAW, dvc, finish, start, write_project
from lynx_pipeline_tests.support import mlflow_server, s3_server
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
    """It is not the same as missing data, and it is named."""
    team.forget()
    with _edited(team, ".dvc/config", f"s3://{BUCKET}/", "s3://missing/"):
        assert "the bucket 'missing' " in _assert_fails(team, team.place, *command)


@pytest.mark.parametrize("damage", ["wrong key", "dead server", "missing bucket"])
def test_a_run_whose_data_is_out_of_reach_changes_nothing(team: Team, damage: str) -> None:
    """Neither the ledger nor the bundle store."""
    team.forget()
    bucket = "missing" if damage == "missing bucket" else BUCKET
    with _edited(team, ".dvc/config", f"s3://{BUCKET}/", f"s3://{bucket}/"):
        place = team.place.with_variables(**_DAMAGE.get(damage, {}))
        _assert_fails(team, place, "run", team.run_id, "v0.2.0-dev")


@pytest.fixture(scope="module")
def lost(team: Team) -> str:
    """A run whose artifacts are in a bucket that does not exist."""
    with connected(team.place.settings.tracking_uri) as client:
        experiment = client.create_experiment("lost", "s3://missing/mlflow")
        run_id: str = client.create_run(experiment).info.run_id
        client.set_terminated(run_id)
    return run_id


def test_a_missing_bucket_of_mlflow_is_a_system_failure(team: Team, lost: str) -> None:
    """The run is there. Its artifacts' store is not, which is no mistake in the run's id."""
    paragraph = _assert_fails(team, team.place, "run", lost)
    assert "MLflow's artifacts at 's3://missing/mlflow/" in paragraph
    assert "Check that this place exists" in paragraph


@pytest.mark.parametrize("damage", ["wrong key", "dead server", "missing bucket"])
def test_minieval_of_a_model_that_is_out_of_reach_writes_nothing(
    team: Team, lost: str, tmp_path: Path, damage: str
) -> None:
    """The eval set is there, and MLflow's artifacts can't be reached."""
    dvc(team.place.root, "pull", "-q")
    candidate = lost if damage == "missing bucket" else team.run_id
    output = tmp_path / "out/candidate_eval.json"
    place = team.place.with_variables(**_DAMAGE.get(damage, {}))
    _assert_fails(team, place, *_minieval(candidate, output))
    assert not output.parent.exists()


def test_an_mlflow_server_may_keep_models_in_a_bucket_that_the_project_names(
    team: Team, tmp_path: Path
) -> None:
    """The refusal says what to write. Then the same candidate is evaluated."""
    dvc(team.place.root, "pull", "-q")
    output = tmp_path / "out/candidate_eval.json"
    root = ("--no-serve-artifacts", "--default-artifact-root", f"s3://{BUCKET}/server")
    with mlflow_server.running(tmp_path, *root) as uri:
        with connected(uri) as client:
            experiment = client.create_experiment("tiny")
        run_id = Tracking(uri, experiment).run({"model": bundle(tmp_path / "model")})
        place = team.place.with_variables(MLFLOW_TRACKING_URI=uri)
        refused = place.lynx(*_minieval(run_id, output))
        assert refused.returncode == 1, refused.stderr
        (line,) = re.findall(r"artifact_locations = \[[^]]*\]", refused.stderr)
        assert f"s3://{BUCKET}/server" in line
        assert not output.exists()
        with _edited(team, "pyproject.toml", "baseline =", f"{line}\nbaseline ="):
            done = place.lynx(*_minieval(run_id, output))
            assert done.returncode == 0, done.stderr
            assert output.is_file()
            _assert_fails(
                team, place.with_variables(**_DAMAGE["wrong key"]), *_minieval(run_id, output)
            )


def _minieval(candidate: str, output: Path) -> tuple[str, ...]:
    given = ("--run-id", candidate, "--eval-set", "data/eval.jsonl")
    return ("minieval", *given, "--output", str(output))


@contextmanager
def _edited(team: Team, name: str, old: str, new: str) -> Iterator[None]:
    """A file of the project with ``new`` instead of ``old`` while the block runs."""
    file = team.place.root / name
    before = file.read_text()
    assert old in before
    file.write_text(before.replace(old, new))
    try:
        yield
    finally:
        file.write_text(before)


@pytest.mark.parametrize("damage", ["wrong key", "dead server"])
def test_a_promotion_whose_model_is_out_of_reach_changes_nothing(team: Team, damage: str) -> None:
    """The data is there, and MLflow's artifacts and the bundle store can't be reached."""
    dvc(team.place.root, "pull", "-q")
    sha = Registry.open(team.place.settings).resolve(VERSION).canonical_sha
    evidence = str(team.place.evidence(team.run_id))
    place = team.place.with_variables(**_DAMAGE[damage])
    _assert_fails(team, place, "registry", "promote", sha, "v0.2.0-dev", "--evidence", evidence)


@pytest.mark.parametrize(
    ("key", "secret", "expected"),
    [("", "", 3), ("AKIA00000000", "wrong", 3), ("own", "wrong", 3), ("own", "own", 0)],
    ids=["none", "wrong key", "wrong secret", "right"],
)
def test_the_deploy_workflow_fetches_data_with_the_credentials_of_a_secret(
    team: Team, tmp_path: Path, key: str, secret: str, expected: int
) -> None:
    """They are in no other variable. The file they are written to is gone afterwards."""
    team.forget()
    place = _with_secret(team, _credentials(team, key, secret) if key else "")
    arguments = ("ci", "data", "--output", str(tmp_path / "objects"))
    if expected:
        _assert_fails(team, place, *arguments)
    else:
        done = place.lynx(*arguments)
        assert done.returncode == 0, done.stderr
        assert RAW in files_in(tmp_path / "objects").values()
        assert team.s3.secret not in done.stdout + done.stderr
    assert not _local_config(team).exists()


def test_a_local_configuration_of_dvc_is_not_overwritten(team: Team, tmp_path: Path) -> None:
    """It may be a developer's own."""
    file = _local_config(team)
    file.write_text("# mine\n")
    try:
        place = _with_secret(team, _credentials(team, "own", "own"))
        done = place.lynx("ci", "data", "--output", str(tmp_path / "objects"))
        assert (done.returncode, file.read_text()) == (2, "# mine\n")
        assert "config.local already exists" in done.stderr
    finally:
        file.unlink()


@pytest.mark.parametrize(
    "text",
    ["hunter2", "['remote \"typo\"']\n    password = hunter2\n"],
    ids=["no configuration", "unknown remote"],
)
def test_a_secret_that_dvc_can_not_read_is_refused(team: Team, tmp_path: Path, text: str) -> None:
    """Also when the data is at hand, so that DVC's configuration is not needed. The message does
    not quote it."""
    dvc(team.place.root, "pull", "-q")
    done = _with_secret(team, text).lynx("ci", "data", "--output", str(tmp_path / "objects"))
    assert done.returncode == 2, done.stdout + done.stderr
    (paragraph,) = done.stderr.splitlines()
    assert "DVC can't read the text of DVC_CONFIG_LOCAL" in paragraph
    assert "hunter2" not in paragraph
    assert not _local_config(team).exists()
    assert not (tmp_path / "objects").exists()


def _credentials(team: Team, key: str, secret: str) -> str:
    """The text of a ``config.local``. "own" is the team's."""
    key = key.replace("own", team.s3.key)
    secret = secret.replace("own", team.s3.secret)
    return f"['remote \"team\"']\n    access_key_id = {key}\n    secret_access_key = {secret}\n"


def _with_secret(team: Team, text: str) -> Place:
    """The place, without credentials besides those in the deploy workflow's secret."""
    return team.place.with_variables(**_DAMAGE["no credentials"], DVC_CONFIG_LOCAL=text)


def _local_config(team: Team) -> Path:
    return team.place.root / ".dvc/config.local"


def _assert_fails(team: Team, place: Place, *arguments: str) -> str:
    """Check that a command reports a system failure and changes nothing. Returns what it says."""
    before, ledger = _files(place), files_in(team.place.registry)
    objects = team.s3.objects()
    done = place.lynx(*arguments)
    assert done.returncode == 3, done.stdout + done.stderr
    *steps, paragraph = done.stderr.splitlines()
    assert paragraph.startswith("lynx-pipeline: ")
    # Only 'run' prints a line for each step that it has done.
    assert not any(it.startswith("lynx-pipeline: ") or arguments[0] != "run" for it in steps)
    assert team.s3.secret not in done.stdout + done.stderr
    assert (_files(place), files_in(team.place.registry)) == (before, ledger)
    assert team.s3.objects() == objects
    return paragraph


def _files(place: Place) -> dict[str, bytes]:
    """The project's files, besides what is ignored."""
    ours = (".git/", ".lynx/", ".dvc/tmp/", ".dvc/cache/")
    return {k: v for k, v in files_in(place.root).items() if not k.startswith(ours)}
