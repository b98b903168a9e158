"""The latest promotion in MLflow: its alias, and what people can see there about its verdict."""

from pathlib import Path
from typing import Any

import pytest

from lynx_pipeline.adapters.mlflow_tracking import connected
from lynx_pipeline.config import load_settings
from lynx_pipeline.registry import Registry
from lynx_pipeline.registry.mirror import mirror
from lynx_pipeline_tests.conftest import Tracking
from lynx_pipeline_tests.support.builders import project
from lynx_pipeline_tests.support.world import World, promote_by_hand, register

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
