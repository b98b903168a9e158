"""The latest promotion in MLflow: its alias, and what people can see there about its verdict."""

import json
from pathlib import Path
from typing import Any

import pytest
from dagster import SkipReason, build_sensor_context

from lynx_pipeline.adapters.mlflow_tracking import connected
from lynx_pipeline.cli import main
from lynx_pipeline.config import load_settings
from lynx_pipeline.definitions import defs
from lynx_pipeline.errors import SystemFailed
from lynx_pipeline.registry import Registry
from lynx_pipeline.registry.mirror import alias_problem, mirror
from lynx_pipeline_tests.conftest import Tracking
from lynx_pipeline_tests.support.builders import project
from lynx_pipeline_tests.support.receiver import Receiver
from lynx_pipeline_tests.support.world import World, move_alias, promote_by_hand, register

pytestmark = pytest.mark.slow


@pytest.fixture
def world(tmp_path: Path, tracking: Tracking) -> World:
    """A project whose alias in dev is ``challenger``."""
    settings = project(
        tmp_path / "p",
        environ={"MLFLOW_TRACKING_URI": tracking.uri},
        pyproject='registry = "registry"\naliases = {prod = "champion", dev = "challenger"}\n',
    )
    return World(settings, tracking, tmp_path)


def version(world: World, alias: str = "challenger") -> Any:
    """The version in MLflow that the alias names."""
    with connected(world.tracking.uri) as client:
        return client.get_model_version_by_alias("tiny", alias)


def test_the_version_shows_verdict_accuracies_and_entry(world: World) -> None:
    """Under the configured alias. A rollback moves it to a version that exists already."""
    registry = Registry.open(world.settings)
    first = world.promote(world.candidate("one"), "v0.1.0-dev")
    shown = mirror(registry)
    assert (shown["alias"], shown["semver"]) == ("challenger", "v0.1.0-dev")
    expected = {
        "lynx.semver": "v0.1.0-dev",
        "lynx.canonical_sha": first.fact.canonical_sha,
        "lynx.ledger_hash": first.hash,
        "lynx.verdict": "passed",
        "lynx.worst_bucket": "all.x",
        "lynx.accuracy.all.x": "1.0000",
        "lynx.accuracy.half.a": "1.0000",
        "lynx.accuracy.half.b": "1.0000",
    }
    assert version(world).tags == expected
    world.promote(world.candidate("two"), "v0.2.0-dev")
    assert mirror(registry)["semver"] == version(world).tags["lynx.semver"] == "v0.2.0-dev"
    registry.rollback("v0.1.0-dev")
    assert mirror(registry)["mlflow_version"] == shown["mlflow_version"]
    assert version(world).tags == expected


def test_a_moved_alias_is_noticed(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By ``registry doctor`` too. A missing one names nothing wrong."""
    registry = Registry.open(world.settings)
    assert alias_problem(registry) is None
    made = world.candidate("alias")
    world.promote(made, "v0.9.0-dev")
    mirror(registry)
    assert alias_problem(registry) is None
    monkeypatch.chdir(world.settings.root)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", world.tracking.uri)
    assert main(["registry", "doctor"]) == 0
    other = world.candidate("moved").run_id
    move_alias(world, other)
    assert main(["registry", "doctor"]) == 1
    line = capsys.readouterr().out.splitlines()[-1]
    assert line == alias_problem(registry)
    assert f"of run {other}. The latest promotion is v0.9.0-dev, of run {made.run_id}." in line
    assert main(["registry", "doctor", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)[-1] == {"alias": "challenger", "problem": line}
    mirror(registry)
    assert alias_problem(registry) is None
    with connected(world.tracking.uri) as client:
        client.delete_registered_model_alias("tiny", "challenger")
    assert alias_problem(registry) is None
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////dev/null/mlflow.db")
    capsys.readouterr()
    assert main(["registry", "doctor"]) == 3
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_the_sensor_sends_one_message_about_a_moved_alias(
    world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the second tick that sees it, since a promotion moves the alias after its entry. A failed
    delivery is tried again."""
    registry = Registry.open(world.settings)
    world.promote(world.candidate("watched"), "v0.9.1-dev")
    mirror(registry)
    monkeypatch.chdir(world.settings.root)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", world.tracking.uri)
    cursor: str | None = None

    def tick() -> str:
        nonlocal cursor
        context = build_sensor_context(cursor=cursor)
        watch_alias: Any = defs.resolve_sensor_def("watch_alias")
        result = watch_alias(context)
        assert isinstance(result, SkipReason)
        cursor = context.cursor
        return str(result.skip_message)

    assert tick() == "MLflow's alias names no other version than the latest promotion."
    move_alias(world, world.candidate("by-stealth").run_id)
    problem = alias_problem(registry)
    assert tick() == problem
    assert receiver.got == []
    receiver.status = 500
    with pytest.raises(SystemFailed, match="Not every channel got this"):
        tick()
    receiver.status = 200
    receiver.got.clear()
    for _ in range(3):
        assert tick() == problem
    (message,) = receiver.got
    assert message["title"] == "tiny: MLflow's alias was moved"
    assert message["message"] == problem
    mirror(registry)
    assert tick() == "MLflow's alias names no other version than the latest promotion."
    assert cursor == ""


def test_a_promotion_by_hand_shows_no_verdict(world: World) -> None:
    """It has none."""
    made = world.candidate("by hand")
    register(world, made)
    entry = promote_by_hand(world, made.sha, "v0.1.0-dev")
    mirror(Registry.open(world.settings))
    assert version(world).tags == {
        "lynx.semver": "v0.1.0-dev",
        "lynx.canonical_sha": made.sha,
        "lynx.ledger_hash": entry.hash,
    }


def test_prod_has_its_own_alias(world: World) -> None:
    """By default dev and production."""
    assert world.prod.alias == "champion"
    root = project(world.folder / "q").root
    assert [load_settings(root, {"LYNX_ENV": env}).alias for env in ("dev", "prod")] == [
        "dev",
        "production",
    ]
