"""Which versions may be served, and what is kept on disk."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from examples.miniserve.versions import KEPT, Version, Versions
from lynx_pipeline.adapters.bundle_files import read_bundle
from lynx_pipeline.errors import BadInput, Refused
from lynx_pipeline.registry import Registry
from lynx_pipeline_tests.conftest import Tracking
from lynx_pipeline_tests.support.builders import PROMOTED, fact, project
from lynx_pipeline_tests.support.world import World

pytestmark = pytest.mark.slow

V = "v0.1.0-dev"


@pytest.fixture
def world(tmp_path: Path, tracking: Tracking) -> World:
    """A project with one promoted version."""
    environ = {"MLFLOW_TRACKING_URI": tracking.uri}
    settings = project(tmp_path / "p", environ=environ, pyproject='registry = "registry"\n')
    world = World(settings, tracking, tmp_path)
    world.promote(world.candidate("good"), V)
    return world


def served(world: World) -> tuple[Versions, Version, Path]:
    """The latest version, fetched and remembered."""
    versions = Versions(world.settings)
    version = versions.latest()
    folder = versions.fetch(version)
    versions.remember(version)
    return versions, version, folder


def test_what_was_served_last_needs_no_registry(world: World) -> None:
    """Neither MLflow. The folder is the one that was fetched."""
    _, version, folder = served(world)
    shutil.rmtree(world.settings.root / "registry")
    nowhere = replace(world.settings, tracking_uri="http://127.0.0.1:1")
    assert Versions(nowhere).last_served() == (version, folder)
    assert version.semver == V


def test_a_changed_folder_is_fetched_again(world: World) -> None:
    """Also one without a model in it."""
    versions, version, folder = served(world)
    (folder / "code/tiny_loader.py").write_text("he goed")
    assert versions.fetch(version) == folder
    assert read_bundle(folder).digest == version.bundle_digest
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "notes").touch()
    assert versions.fetch(version) == folder
    assert read_bundle(folder).digest == version.bundle_digest


@pytest.mark.parametrize("state", [None, b"", b"{}", b'{"environment": "dev"}', b"[", b"\xff"])
def test_a_damaged_state_file_is_an_error(world: World, state: bytes | None) -> None:
    """Or a missing one."""
    versions, _, folder = served(world)
    file = folder.parent / "serving.json"
    file.unlink() if state is None else file.write_bytes(state)
    with pytest.raises(BadInput, match=r"serving\.json"):
        versions.last_served()


def test_prod_never_serves_a_dev_version(world: World) -> None:
    """Neither from the registry, nor from a state file of dev, even if it claims to be of prod."""
    _, version, folder = served(world)
    prod = Versions(world.prod)
    with pytest.raises(Refused, match="nothing was promoted in prod"):
        prod.latest()
    with pytest.raises(BadInput, match="served last is unknown"):
        prod.last_served()
    home = folder.parent.with_name("prod")
    shutil.copytree(folder.parent, home)
    with pytest.raises(BadInput, match="can't name a promotion in prod"):
        prod.last_served()
    state = {"environment": "prod", "semver": V}
    values = {name: getattr(version, name) for name in Version.__slots__}
    (home / "serving.json").write_text(json.dumps({**values, **state}))
    with pytest.raises(BadInput, match="can't name a promotion in prod"):
        prod.last_served()
    (home / V).rename(home / "v0.1.0")
    (home / "serving.json").write_text(json.dumps({**values, "semver": "v0.1.0"}))
    with pytest.raises(BadInput, match="got tiny in dev, expected tiny in prod"):
        prod.last_served()


def test_another_models_state_is_not_served(world: World) -> None:
    """Two projects may share a state folder by mistake."""
    served(world)
    other = Versions(replace(world.settings, model="other"))
    with pytest.raises(BadInput, match="got tiny in dev, expected other in dev"):
        other.last_served()


def test_old_versions_are_removed_from_the_disk(world: World) -> None:
    """The most recently served ones are kept, so that a rollback to one needs no download."""
    versions, first, folder = served(world)
    for number in range(2, 6):
        semver = f"v0.{number}.0-dev"
        world.promote(world.candidate(semver), semver)
        version = versions.latest()
        versions.fetch(version)
        versions.remember(version)
        versions.remember(first)
        # Times that differ even on a file system that counts in seconds.
        os.utime(folder.with_name(semver), (number, number))
    kept = sorted(it.name for it in folder.parent.iterdir() if not it.name.startswith("."))
    assert kept == ["serving.json", V, "v0.4.0-dev", "v0.5.0-dev"]
    assert len(kept) == KEPT + 1


def test_a_version_without_a_digest_is_not_served(world: World) -> None:
    """It could not be verified."""
    old = fact(event=PROMOTED, semver="v0.2.0-dev")
    Registry.open(world.settings).store.append(lambda _: old)
    with pytest.raises(Refused, match="has no bundle digest"):
        Versions(world.settings).latest()


def test_a_failed_fetch_keeps_what_is_there(world: World) -> None:
    """The version that was served last can still be loaded."""
    versions, version, folder = served(world)
    made = world.candidate("next")
    world.promote(made, "v0.2.0-dev")
    shutil.rmtree(world.tracking.artifacts(made.run_id))
    with pytest.raises(Refused, match="any more"):
        versions.fetch(versions.latest())
    assert versions.last_served() == (version, folder)
