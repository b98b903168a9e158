"""The sensors, evaluated as by the daemon: one announces promotions, one requests runs."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from dagster import (
    AssetMaterialization,
    DagsterInstance,
    DagsterRun,
    OpExecutionContext,
    Out,
    Output,
    SensorResult,
    build_run_status_sensor_context,
    build_sensor_context,
    job,
    op,
)

from lynx_pipeline.adapters.mlflow_tracking import connected
from lynx_pipeline.config import load_settings
from lynx_pipeline.definitions import defs
from lynx_pipeline.defs.build import build_definitions
from lynx_pipeline.defs.metadata import IS_NEW
from lynx_pipeline.defs.sensors import LOOKED_AT, REQUESTED
from lynx_pipeline.domain.ledger.facts import TIME
from lynx_pipeline_tests.support import mlflow_server
from lynx_pipeline_tests.support.builders import PROMOTED, fact, project
from lynx_pipeline_tests.support.places import InFolder
from lynx_pipeline_tests.support.receiver import Receiver

V = "v0.1.0-dev"
announce_promotions: Any = defs.resolve_sensor_def("announce_promotions")
tagged_candidates: Any = defs.resolve_sensor_def("tagged_candidates")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> InFolder:
    """The registry of the project that this process runs in."""
    settings = project(tmp_path / "project")
    monkeypatch.chdir(settings.root)
    return InFolder(settings.home / "registry")


def promote(place: InFolder, when: datetime) -> None:
    """Add a promotion to the registry."""
    made = fact(event=PROMOTED, semver=V, time=when.strftime(TIME))
    place.store.append(lambda _: made)


def tick(place: InFolder, *, makes: bool = True, finds: bool = False) -> Any:
    """The sensor's result for a run that ``makes`` the promotion or ``finds`` an earlier one."""
    if finds:
        promote(place, datetime.now(UTC) - timedelta(minutes=1))

    @op(out=Out(is_required=False))
    def decide(context: OpExecutionContext) -> Iterator[Output[None]]:
        if makes:
            promote(place, datetime.now(UTC))
        if makes or finds:
            metadata: dict[str, Any] = {"semver": V, IS_NEW: makes}
            context.log_event(AssetMaterialization("promotion_decision", metadata=metadata))
        yield from ()

    @job
    def promotes() -> None:
        decide()

    with DagsterInstance.ephemeral() as instance:
        done = promotes.execute_in_process(instance=instance)
        context = build_run_status_sensor_context(
            sensor_name="announce_promotions",
            dagster_event=done.get_run_success_event(),
            dagster_instance=instance,
            dagster_run=done.dagster_run,
        )
        return announce_promotions(context)


def test_a_promotion_is_announced(place: InFolder, receiver: Receiver) -> None:
    """There is one announcement, and it contains the version."""
    assert tick(place) is None
    assert [got["title"] for got in receiver.got] == [f"tiny: promoted {V} in dev"]


def test_an_earlier_promotion_is_not_announced_again(place: InFolder, receiver: Receiver) -> None:
    """A repeated run changes nothing and announces nothing."""
    assert "made no new promotion" in tick(place, makes=False).skip_message
    assert "made no new promotion" in tick(place, makes=False, finds=True).skip_message
    assert receiver.got == []


def test_without_a_channel_the_announcement_is_skipped(place: InFolder) -> None:
    """The skip message gives the reason."""
    assert "APPRISE_URLS names no channel" in tick(place).skip_message


def test_a_failing_channel_fails_only_the_tick(place: InFolder, receiver: Receiver) -> None:
    """The promotion stays in the registry."""
    receiver.status = 500
    with pytest.raises(Exception, match="is promoted, but not every channel got"):
        tick(place)
    assert len(place.store.read().entries) == 1


LABELLED = {"deploy-candidate": "true", "lynx.semver": V}


class MLflow:
    """A real server for the sensor, and its database, in which tests create hundreds of runs much
    faster than over HTTP."""

    def __init__(self, uri: str, database: str) -> None:
        self.uri = uri
        self.database = database

    def run(self, tags: Mapping[str, str], status: str = "FINISHED") -> str:
        """A new run."""
        return self.runs(1, tags, status)[0]

    def runs(self, count: int, tags: Mapping[str, str], status: str = "FINISHED") -> list[str]:
        """New runs with the same tags."""
        with connected(self.database) as client:
            made = [client.create_run("0", tags=dict(tags)).info.run_id for _ in range(count)]
            for run_id in made:
                if status != "RUNNING":
                    client.set_terminated(run_id, status)
        return made

    def tag(self, run_id: str, key: str, value: str) -> None:
        """Tag an existing run."""
        with connected(self.database) as client:
            client.set_tag(run_id, key, value)

    def model(self, run_id: str, name: str) -> str:
        """A new logged model of a run. Returns its id."""
        with connected(self.database) as client:
            made = client.create_logged_model("0", name=name, source_run_id=run_id)
            client.finalize_logged_model(made.model_id, "READY")
        return str(made.model_id)

    def clear(self) -> None:
        """Delete all runs that a search finds."""
        with connected(self.database) as client:
            for run in client.search_runs(["0"], max_results=5000):
                client.delete_run(run.info.run_id)


class Daemon:
    """Processes the result of a tick as Dagster's daemon does, but executes no runs."""

    def __init__(self, instance: DagsterInstance) -> None:
        self.instance = instance
        self.cursor: str | None = None

    def tick(self) -> SensorResult:
        """One tick."""
        context = build_sensor_context(instance=self.instance, cursor=self.cursor, definitions=defs)
        result = tagged_candidates(context)
        assert isinstance(result, SensorResult)
        self.cursor = result.cursor
        for request in result.dynamic_partitions_requests or []:
            self.instance.add_dynamic_partitions("candidates", list(request.partition_keys))
        for run_request in result.run_requests or []:
            assert run_request.run_key
            tags = {**run_request.tags, "dagster/run_key": run_request.run_key}
            self.instance.add_run(DagsterRun(job_name=run_request.job_name or "", tags=tags))
        return result

    def ticks(self, count: int) -> list[str]:
        """The run keys that this many ticks request."""
        results = [self.tick() for _ in range(count)]
        return [run_request.run_key or "" for r in results for run_request in r.run_requests or []]

    def skip_message(self) -> str:
        """The skip message of a tick that requests nothing."""
        result = self.tick()
        assert not result.run_requests
        assert result.skip_reason
        return str(result.skip_reason.skip_message)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MLflow]:
    """An MLflow server over HTTP."""
    folder = tmp_path_factory.mktemp("mlflow")
    with mlflow_server.running(folder) as uri:
        yield MLflow(uri, f"sqlite:///{folder / 'mlflow.db'}")


@pytest.fixture
def mlflow(server: MLflow, place: InFolder, monkeypatch: pytest.MonkeyPatch) -> MLflow:
    """The project's server, without runs."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    server.clear()
    return server


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    """A new daemon, without a cursor."""
    with DagsterInstance.ephemeral() as instance:
        yield Daemon(instance)


@pytest.mark.slow
def test_each_of_hundreds_of_runs_is_requested_once(mlflow: MLflow, daemon: Daemon) -> None:
    """Each tick requests a few. A run that is tagged long after it was created is found too."""
    late = mlflow.run({})
    mlflow.runs(50, {})
    tagged = mlflow.runs(LOOKED_AT + 30, LABELLED)
    rounds = len(tagged) // REQUESTED + 3
    first = daemon.tick()
    assert len(first.run_requests or []) == REQUESTED
    keys = [run_request.run_key for run_request in first.run_requests or []] + daemon.ticks(rounds)
    assert sorted(map(str, keys)) == sorted(f"{run_id}:{V}" for run_id in tagged)
    assert set(daemon.instance.get_dynamic_partitions("candidates")) == set(tagged)
    for key, value in LABELLED.items():
        mlflow.tag(late, key, value)
    assert daemon.ticks(3) == [f"{late}:{V}"]
    assert "all were requested before" in daemon.skip_message()


@pytest.mark.slow
def test_a_request_has_everything_that_the_run_needs(mlflow: MLflow, daemon: Daemon) -> None:
    """The job, the partition, the tagged version and the pull request, if there is one. A new
    version is a new request."""
    pull = {"lynx.pull_request": "https://github.com/acme/tutor/pull/7"}
    run_id = mlflow.run({**LABELLED, **pull})
    (run_request,) = daemon.tick().run_requests or []
    assert {key: run_request.tags.get(key) for key in pull} == pull
    assert (run_request.job_name, run_request.partition_key) == ("eval_and_promote", run_id)
    assert run_request.run_config == {"ops": {"promotion_decision": {"config": {"semver": V}}}}
    mlflow.tag(run_id, "lynx.semver", "v0.2.0-dev")
    assert daemon.ticks(2) == [f"{run_id}:v0.2.0-dev"]


@pytest.mark.slow
def test_a_tag_names_one_of_a_runs_models(mlflow: MLflow, daemon: Daemon) -> None:
    """The candidate is that model. Until there is one, the tick says what is missing."""
    run_id = mlflow.run({**LABELLED, "lynx.model": "student"})
    assert "has 0 models named 'student'" in daemon.skip_message()
    model_id = mlflow.model(run_id, "student")
    mlflow.model(run_id, "teacher")
    (run_request,) = daemon.tick().run_requests or []
    assert (run_request.partition_key, run_request.run_key) == (model_id, f"{run_id}:student:{V}")
    assert daemon.instance.get_dynamic_partitions("candidates") == [model_id]
    mlflow.tag(run_id, "lynx.model", "teacher")
    assert daemon.ticks(2) == [f"{run_id}:teacher:{V}"]


@pytest.mark.slow
def test_a_named_gate_requests_only_runs_for_it(mlflow: MLflow, daemon: Daemon) -> None:
    """Several gates may use one server, and a run may be for the gate without a name."""
    tutor = build_definitions(load_settings, "tutor")
    sensor: Any = tutor.resolve_sensor_def("tutor_tagged_candidates")

    def tick() -> SensorResult:
        context = build_sensor_context(instance=daemon.instance, definitions=tutor)
        result = sensor(context)
        assert isinstance(result, SensorResult)
        return result

    unnamed = mlflow.run(LABELLED)
    mlflow.run({**LABELLED, "lynx.gate": "quiz"})
    skipped = tick().skip_reason
    assert skipped and "deploy-candidate=true, lynx.gate=tutor" in str(skipped.skip_message)
    named = mlflow.run({**LABELLED, "lynx.gate": "tutor"})
    assert daemon.ticks(2) == [f"{unnamed}:{V}"]
    result = tick()
    (run_request,) = result.run_requests or []
    assert (run_request.run_key, run_request.job_name) == (
        f"tutor:{named}:{V}",
        "tutor_eval_and_promote",
    )
    promotion = {"tutor__promotion_decision": {"config": {"semver": V}}}
    assert run_request.run_config == {"ops": promotion}
    (added,) = result.dynamic_partitions_requests or []
    assert added.partitions_def_name == "tutor_candidates"


@pytest.mark.slow
def test_in_prod_only_the_evaluation_is_requested(
    mlflow: MLflow, daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the CI workflow can promote in prod."""
    monkeypatch.setenv("LYNX_ENV", "prod")
    mlflow.run(LABELLED)
    assert f"the semver {V!r} can't name a promotion in prod" in daemon.skip_message()
    run_id = mlflow.run({**LABELLED, "lynx.semver": "v1.2.3"})
    (run_request,) = daemon.tick().run_requests or []
    assert (run_request.job_name, run_request.partition_key, run_request.run_config) == (
        "evaluate",
        run_id,
        {},
    )


@pytest.mark.slow
def test_runs_that_cannot_be_requested_are_listed(mlflow: MLflow, daemon: Daemon) -> None:
    """A version is missing or malformed, or a run is not finished. A corrected run is requested."""
    assert "No more MLflow runs have the tag deploy-candidate=true" in daemon.skip_message()
    runs = {
        mlflow.run({"deploy-candidate": "true"}): "semver '' can't name",
        mlflow.run({**LABELLED, "lynx.semver": "0.1"}): "semver '0.1' can't name",
        mlflow.run(LABELLED, "RUNNING"): "is RUNNING: expected FINISHED",
        mlflow.run(LABELLED, "FAILED"): "is FAILED: expected FINISHED",
    }
    message = daemon.skip_message()
    for run_id, problem in runs.items():
        assert run_id in message
        assert problem in message
    corrected = list(runs)[1]
    mlflow.tag(corrected, "lynx.semver", V)
    assert daemon.ticks(1) == [f"{corrected}:{V}"]


def test_an_mlflow_failure_is_reported_and_resets_the_cursor(
    place: InFolder, daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message does not show the password in the server's address."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:s3cret@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    daemon.cursor = "from another server"
    message = daemon.skip_message()
    assert "MLflow at http://127.0.0.1:9 failed" in message
    assert "s3cret" not in message
    assert daemon.cursor == ""


def test_the_sensor_for_candidates_is_off_by_default() -> None:
    """Tags in MLflow start nothing until somebody turns the sensor on."""
    assert tagged_candidates.default_status.value == "STOPPED"
