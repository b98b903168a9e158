"""A moved alias, reported as soon as MLflow's webhook calls: a real MLflow server makes the
calls."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lynx_pipeline.adapters.mlflow_tracking import connected
from lynx_pipeline.adapters.mlflow_webhook import WebhookServer
from lynx_pipeline.registry import Registry, alias_watch
from lynx_pipeline.registry.alias_watch import AliasWatch
from lynx_pipeline.registry.mirror import alias_problem, mirror
from lynx_pipeline_tests.conftest import Tracking
from lynx_pipeline_tests.support import mlflow_server
from lynx_pipeline_tests.support.builders import project
from lynx_pipeline_tests.support.receiver import Receiver
from lynx_pipeline_tests.support.world import World

pytestmark = pytest.mark.slow
SECRET = "a-secret-of-the-webhook"
RIGHT = "tiny: MLflow's alias is as it should be."


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tracking]:
    """An MLflow server that may call a webhook on this machine."""
    folder = tmp_path_factory.mktemp("mlflow")
    allowed = {
        "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http",
        "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
        "MLFLOW_WEBHOOK_CACHE_TTL": "0",
    }
    with mlflow_server.running(folder, variables=allowed) as url, connected(url) as client:
        yield Tracking(url, client.create_experiment("tiny"))


@pytest.fixture
def world(tmp_path: Path, server: Tracking) -> World:
    """A project whose candidates are on that server."""
    settings = project(
        tmp_path / "p",
        environ={"MLFLOW_TRACKING_URI": server.uri},
        pyproject='registry = "registry"\n',
    )
    return World(settings, server, tmp_path)


@pytest.fixture
def lines() -> list[str]:
    """What was said."""
    return []


@pytest.fixture
def watch(world: World, lines: list[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[AliasWatch]:
    """Looks as soon as MLflow calls."""
    monkeypatch.setattr(alias_watch, "CONFIRM_AFTER", 0.2)
    watch = AliasWatch([world.settings], lines.append)
    with (
        WebhookServer(("127.0.0.1", 0), SECRET.encode(), watch.moved) as listening,
        connected(world.tracking.uri) as client,
    ):
        threading.Thread(target=listening.serve_forever, args=(0.01,), daemon=True).start()
        made = client.create_webhook(
            "lynx",
            f"http://127.0.0.1:{listening.server_port}/",
            ["model_version_alias.created", "model_version_alias.deleted"],
            secret=SECRET,
        )
        try:
            yield watch
        finally:
            client.delete_webhook(made.webhook_id)
            listening.shutdown()


def move(world: World, name: str) -> None:
    """Point the alias at a model that nobody promoted."""
    run_id = world.candidate(name).run_id
    with connected(world.tracking.uri) as client:
        made = client.create_model_version("tiny", f"runs:/{run_id}/model", run_id=run_id)
        client.set_registered_model_alias("tiny", world.settings.alias, made.version)


def test_a_moved_alias_is_reported_and_a_promotion_is_not(
    world: World, watch: AliasWatch, lines: list[str], receiver: Receiver
) -> None:
    """MLflow calls for both. Another model's alias is nobody's business here."""
    registry = Registry.open(world.settings)
    world.promote(world.candidate("one"), "v0.1.0-dev")
    mirror(registry)
    watch.look(30)
    assert lines == [RIGHT]
    move(world, "by-stealth")
    watch.look(30)
    problem = alias_problem(registry)
    assert problem is not None
    assert lines == [RIGHT, problem]
    (message,) = receiver.got
    assert message["title"] == "tiny: MLflow's alias was moved"
    assert message["message"] == problem
    with connected(world.tracking.uri) as client:
        client.create_registered_model("other")
        (version,) = client.search_model_versions("name='tiny'", max_results=1)
        made = client.create_model_version("other", version.source, run_id=version.run_id)
        client.set_registered_model_alias("other", "production", made.version)
    mirror(registry)
    watch.look(30)
    assert lines == [RIGHT, problem, RIGHT]
    watch.look(0.1)
    assert len(receiver.got) == 1


def test_a_failure_is_said_and_tried_again(
    world: World, watch: AliasWatch, lines: list[str], receiver: Receiver
) -> None:
    """The channel, or what is looked at, may be down for a while."""
    world.promote(world.candidate("two"), "v0.2.0-dev")
    mirror(Registry.open(world.settings))
    watch.look(30)
    receiver.status = 500
    move(world, "again")

    def repair() -> None:
        receiver.status = 200

    threading.Timer(0.6, repair).start()
    watch.look(30)
    assert lines[1].startswith("tiny: try 1 of 5 failed: MLflow's alias")
    assert "Not every channel got this message" in lines[1]
    assert lines[-1].startswith("MLflow's alias")
    assert receiver.got[-1]["title"] == "tiny: MLflow's alias was moved"
