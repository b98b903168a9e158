"""The sensors, evaluated as the daemon does: one tells of promotions, one asks for runs."""

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
from lynx_pipeline.definitions import defs
from lynx_pipeline.defs.metadata import IS_NEW
from lynx_pipeline.defs.sensors import LOOKED_AT, REQUESTED, announce_promotions, tagged_candidates
from lynx_pipeline.domain.ledger.facts import TIME
from lynx_pipeline_tests.support import mlflow_server
from lynx_pipeline_tests.support.builders import PROMOTED, fact, project
from lynx_pipeline_tests.support.places import InFolder
from lynx_pipeline_tests.support.receiver import Receiver

V = "v0.1.0-dev"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> InFolder:
    """The registry of the project that this process runs in."""
    settings = project(tmp_path / "project")
    monkeypatch.chdir(settings.root)
    return InFolder(settings.home / "registry")


def promote(place: InFolder, when: datetime) -> None:
    """Add the promotion."""
    made = fact(event=PROMOTED, semver=V, time=when.strftime(TIME))
    place.store.append(lambda _: made)


def tick(place: InFolder, *, makes: bool = True, finds: bool = False) -> Any:
    """The sensor's look at a run that ``makes`` the promotion, or ``finds`` it made before."""
    if finds:
        promote(place, datetime.now(UTC) - timedelta(minutes=1))

    @op(out=Out(is_required=False))
    def decide(context: OpExecutionContext) -> Iterator[Output[None]]:
        if makes:
            promote(place, datetime.now(UTC))
        if makes or finds:
            shown: dict[str, Any] = {"semver": V, IS_NEW: makes}
            context.log_event(AssetMaterialization("promotion_decision", metadata=shown))
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
    """Once, with its version."""
    assert tick(place) is None
    assert [got["title"] for got in receiver.got] == [f"tiny: promoted {V} in dev"]


def test_a_promotion_that_was_there_is_not_announced_again(
    place: InFolder, receiver: Receiver
) -> None:
    """A run that is repeated changes nothing and tells nothing."""
    assert "made no new promotion" in tick(place, makes=False).skip_message
    assert "made no new promotion" in tick(place, makes=False, finds=True).skip_message
    assert receiver.got == []


def test_without_a_channel_it_skips(place: InFolder) -> None:
    """And says why."""
    assert "APPRISE_URLS names no channel" in tick(place).skip_message


def test_a_channel_that_was_not_told_fails_the_tick_only(
    place: InFolder, receiver: Receiver
) -> None:
    """The promotion stands."""
    receiver.status = 500
    with pytest.raises(Exception, match="is promoted, but not every channel got"):
        tick(place)
    assert len(place.store.read().entries) == 1


LABELLED = {"deploy-candidate": "true", "lynx.semver": V}


class MLflow:
    """A real server, which the sensor asks, and its database, where hundreds of runs are made in
    the time that a few take over HTTP."""

    def __init__(self, uri: str, database: str) -> None:
        self.uri = uri
        self.database = database

    def run(self, tags: Mapping[str, str], status: str = "FINISHED") -> str:
        """A new run."""
        return self.runs(1, tags, status)[0]

    def runs(self, count: int, tags: Mapping[str, str], status: str = "FINISHED") -> list[str]:
        """New runs, all alike."""
        with connected(self.database) as client:
            made = [client.create_run("0", tags=dict(tags)).info.run_id for _ in range(count)]
            for run_id in made:
                if status != "RUNNING":
                    client.set_terminated(run_id, status)
        return made

    def tag(self, run_id: str, key: str, value: str) -> None:
        """Tag a run that is there."""
        with connected(self.database) as client:
            client.set_tag(run_id, key, value)

    def clear(self) -> None:
        """No run is left that a search finds."""
        with connected(self.database) as client:
            for run in client.search_runs(["0"], max_results=5000):
                client.delete_run(run.info.run_id)


class Daemon:
    """What Dagster's daemon does with what a tick returns, but for executing the runs."""

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
        for asked in result.run_requests or []:
            assert asked.run_key
            tags = {**asked.tags, "dagster/run_key": asked.run_key}
            self.instance.add_run(DagsterRun(job_name=asked.job_name or "", tags=tags))
        return result

    def ticks(self, count: int) -> list[str]:
        """The keys that so many ticks requested."""
        results = [self.tick() for _ in range(count)]
        return [asked.run_key or "" for r in results for asked in r.run_requests or []]

    def says(self) -> str:
        """Why a tick requests nothing."""
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
    """A daemon that starts anew."""
    with DagsterInstance.ephemeral() as instance:
        yield Daemon(instance)


@pytest.mark.slow
def test_of_hundreds_of_runs_each_is_requested_once(mlflow: MLflow, daemon: Daemon) -> None:
    """A few a tick; one that is tagged long after it was made is not lost."""
    late = mlflow.run({})
    mlflow.runs(50, {})
    tagged = mlflow.runs(LOOKED_AT + 30, LABELLED)
    rounds = len(tagged) // REQUESTED + 3
    first = daemon.tick()
    assert len(first.run_requests or []) == REQUESTED
    keys = [asked.run_key for asked in first.run_requests or []] + daemon.ticks(rounds)
    assert sorted(map(str, keys)) == sorted(f"{run_id}:{V}" for run_id in tagged)
    assert set(daemon.instance.get_dynamic_partitions("candidates")) == set(tagged)
    for key, value in LABELLED.items():
        mlflow.tag(late, key, value)
    assert daemon.ticks(3) == [f"{late}:{V}"]
    assert "all were requested before" in daemon.says()


@pytest.mark.slow
def test_a_request_holds_all_that_the_run_needs(mlflow: MLflow, daemon: Daemon) -> None:
    """Partition, job, the version as it was tagged, and the pull request if one is named; another
    version is another request."""
    pull = {"lynx.pull_request": "https://github.com/acme/tutor/pull/7"}
    run_id = mlflow.run({**LABELLED, **pull})
    (asked,) = daemon.tick().run_requests or []
    assert {key: asked.tags.get(key) for key in pull} == pull
    assert (asked.job_name, asked.partition_key) == ("eval_and_promote", run_id)
    assert asked.run_config == {"ops": {"promotion_decision": {"config": {"semver": V}}}}
    mlflow.tag(run_id, "lynx.semver", "v0.2.0-dev")
    assert daemon.ticks(2) == [f"{run_id}:v0.2.0-dev"]


@pytest.mark.slow
def test_in_prod_it_asks_for_the_evaluation_only(
    mlflow: MLflow, daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There only the CI workflow can promote."""
    monkeypatch.setenv("LYNX_ENV", "prod")
    mlflow.run(LABELLED)
    assert f"the semver {V!r} can't name a promotion in prod" in daemon.says()
    run_id = mlflow.run({**LABELLED, "lynx.semver": "v1.2.3"})
    (asked,) = daemon.tick().run_requests or []
    assert (asked.job_name, asked.partition_key, asked.run_config) == ("evaluate", run_id, {})


@pytest.mark.slow
def test_what_can_not_be_requested_is_named(mlflow: MLflow, daemon: Daemon) -> None:
    """No run, no version, a malformed one, a run that has not finished; and it is, once it is
    mended."""
    assert "No more MLflow runs have the tag deploy-candidate=true" in daemon.says()
    runs = {
        mlflow.run({"deploy-candidate": "true"}): "semver '' can't name",
        mlflow.run({**LABELLED, "lynx.semver": "0.1"}): "semver '0.1' can't name",
        mlflow.run(LABELLED, "RUNNING"): "is RUNNING: expected FINISHED",
        mlflow.run(LABELLED, "FAILED"): "is FAILED: expected FINISHED",
    }
    said = daemon.says()
    for run_id, problem in runs.items():
        assert run_id in said
        assert problem in said
    mended = list(runs)[1]
    mlflow.tag(mended, "lynx.semver", V)
    assert daemon.ticks(1) == [f"{mended}:{V}"]


def test_without_mlflow_it_says_so_and_starts_anew(
    place: InFolder, daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No password of the server's address is in what it says."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:s3cret@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    daemon.cursor = "from another server"
    said = daemon.says()
    assert "MLflow at http://127.0.0.1:9 failed" in said
    assert "s3cret" not in said
    assert daemon.cursor == ""


def test_it_is_off_until_somebody_switches_it_on() -> None:
    """What is in MLflow starts nothing by itself."""
    assert tagged_candidates.default_status.value == "STOPPED"
