"""A moved alias, reported as soon as MLflow's webhook calls: a real MLflow server makes the
calls."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from lynx_pipeline.adapters.mlflow_tracking import connected
from lynx_pipeline.adapters.mlflow_webhook import WebhookServer
from lynx_pipeline.adapters.notify import CHANNELS
from lynx_pipeline.registry import Registry, alias_watch
from lynx_pipeline.registry.alias_watch import AliasWatch
from lynx_pipeline.registry.mirror import alias_problem, mirror
from lynx_pipeline_tests.conftest import Tracking
from lynx_pipeline_tests.support import mlflow_server
from lynx_pipeline_tests.support.builders import project
from lynx_pipeline_tests.support.receiver import Receiver
from lynx_pipeline_tests.support.world import World, move_alias

pytestmark = pytest.mark.slow
SECRET = "a-secret-of-the-webhook"
RIGHT = "tiny: MLflow's alias 'dev' names no other version than the latest promotion."


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tracking]:
    """An MLflow server that may call a webhook on this machine."""
    folder = tmp_path_factory.mktemp("mlflow")
    allowed = {
        "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http",
        "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
        "MLFLOW_WEBHOOK_CACHE_TTL": "0",
        # Otherwise only the worker that created the webhook knows its secret.
        "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": Fernet.generate_key().decode(),
    }
    with (
        mlflow_server.running(folder, workers=2, variables=allowed) as url,
        connected(url) as client,
    ):
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
def watch(
    world: World, lines: list[str], receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> Iterator[AliasWatch]:
    """Checks as soon as MLflow calls. The channel works again after the first failure."""
    monkeypatch.setattr(alias_watch, "CONFIRM_AFTER", 0.2)

    def say(line: str) -> None:
        lines.append(line)
        if "try 1 of 5" in line:
            receiver.status = 200

    watch = AliasWatch(lambda: [world.settings], say)
    with (
        WebhookServer(("127.0.0.1", 0), SECRET.encode(), watch.enqueue, lines.append) as listening,
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
            assert client.test_webhook(made.webhook_id).response_status == 202
            watch.check(30)
            assert lines == ["example_model is not a model of this project."]
            lines.clear()
            yield watch
        finally:
            client.delete_webhook(made.webhook_id)
            listening.shutdown()


def test_a_moved_alias_is_reported_and_a_promotion_is_not(
    world: World, watch: AliasWatch, lines: list[str], receiver: Receiver
) -> None:
    """MLflow calls for both. A problem is reported once."""
    registry = Registry.open(world.settings)
    world.promote(world.candidate("one"), "v0.1.0-dev")
    mirror(registry)
    watch.check(30)
    assert lines == [RIGHT]
    move_alias(world, world.candidate("by-stealth").run_id)
    watch.check(30)
    problem = alias_problem(registry)
    assert problem is not None
    assert lines == [RIGHT, problem]
    (message,) = receiver.got
    assert message["title"] == "tiny: MLflow's alias was moved"
    assert message["message"] == problem
    watch.enqueue("tiny")
    watch.check(0)
    assert lines == [RIGHT, problem, problem]
    assert len(receiver.got) == 1
    mirror(registry)
    watch.check(30)
    assert lines[3:] == [RIGHT]
    move_alias(world, world.candidate("again").run_id)
    watch.check(30)
    assert len(receiver.got) == 2


def test_another_model_is_named_once(
    world: World, watch: AliasWatch, lines: list[str], receiver: Receiver
) -> None:
    """MLflow calls for every model that it has."""
    for _ in range(2):
        watch.enqueue("other\n")
        watch.check(0)
    assert lines == ["other? is not a model of this project."]
    assert receiver.got == []


def test_a_failure_is_said_and_tried_again(
    world: World, watch: AliasWatch, lines: list[str], receiver: Receiver
) -> None:
    """The channel, or MLflow, may be down for a while."""
    world.promote(world.candidate("two"), "v0.2.0-dev")
    mirror(Registry.open(world.settings))
    watch.check(30)
    receiver.status = 500
    move_alias(world, world.candidate("once-more").run_id)
    watch.check(30)
    problem = alias_problem(Registry.open(world.settings))
    assert lines[0] == RIGHT
    assert lines[1].startswith(f"tiny: try 1 of 5 failed: {problem} Not reported: delivery")
    assert lines[2:] == [problem]
    (message,) = receiver.got
    assert message["message"] == problem


def test_a_channel_that_fails_beside_others_is_named(
    world: World,
    watch: AliasWatch,
    lines: list[str],
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The others get the message once."""
    monkeypatch.setenv(CHANNELS, f"{receiver.url} json://127.0.0.1:9/")
    world.promote(world.candidate("three"), "v0.3.0-dev")
    move_alias(world, world.candidate("beside").run_id)
    watch.check(30)
    assert lines[0].startswith("tiny: not reported on every channel: delivery to channel 2 ")
    assert len(lines) == 2
    assert len(receiver.got) == 1
