"""Promotion, fetch and rollback with a bundle store, also when MLflow's copy is gone."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lynx_pipeline.adapters import files
from lynx_pipeline.adapters.bundle_files import read_bundle
from lynx_pipeline.adapters.mlflow_tracking import connected
from lynx_pipeline.cli import main
from lynx_pipeline.config import Settings, load_settings
from lynx_pipeline.errors import BadInput, Refused, SystemFailed
from lynx_pipeline.registry import Registry
from lynx_pipeline_tests.conftest import Tracking
from lynx_pipeline_tests.simulators.faults.trial import forked, kill_self
from lynx_pipeline_tests.support.builders import PROMOTED, fact, project
from lynx_pipeline_tests.support.fetching import V, fetch
from lynx_pipeline_tests.support.object_server import object_server
from lynx_pipeline_tests.support.world import Made, World, promote_by_hand, register

V2 = "v0.2.0-dev"


def settings(root: Path, tracking: Tracking, store: str) -> Settings:
    """A project with this bundle store."""
    return project(
        root,
        environ={"MLFLOW_TRACKING_URI": tracking.uri},
        pyproject=f'registry = "registry"\nbundle_store = "{store}"\n',
    )


@pytest.fixture
def world(tmp_path: Path, tracking: Tracking) -> World:
    """A project whose bundle store is a folder in it."""
    return World(settings(tmp_path / "project", tracking, "store"), tracking, tmp_path)


@pytest.fixture
def two(world: World) -> tuple[Made, Made]:
    """Two promoted candidates."""
    first, second = world.candidate("first"), world.candidate("second")
    world.promote(first, V)
    world.promote(second, V2)
    return first, second


def lose(world: World, made: Made) -> None:
    """Delete MLflow's copy."""
    shutil.rmtree(world.tracking.artifacts(made.run_id))


def objects(world: World) -> dict[str, bytes]:
    """What is in the store."""
    found = (it for it in (world.settings.root / "store").rglob("*") if it.is_file())
    return {it.parent.name + it.name: it.read_bytes() for it in found if it.name != ".lock"}


def test_without_mlflows_copy_the_version_is_fetched_and_rolled_back_to(
    world: World, two: tuple[Made, Made], to: Path
) -> None:
    """The store alone is enough. Equal files of both bundles are stored once."""
    first, _ = two
    lose(world, first)
    fetch(world, to, V)
    assert read_bundle(to).digest == first.digest
    assert Registry.open(world.settings).rollback(V).is_new
    assert Registry.open(world.settings).resolve().semver == V
    rows = [json.loads(objects(world)[it.digest]) for it in two]
    shared = [{row["sha256"] for row in it if "sha256" in row} for it in rows]
    assert shared[0] & shared[1]
    assert len(objects(world)) == len(shared[0] | shared[1]) + 2


def test_without_a_store_a_lost_version_cannot_become_the_latest(
    world: World, two: tuple[Made, Made], to: Path
) -> None:
    """The ledger is unchanged. Restoring MLflow's copy helps."""
    first, _ = two
    plain = replace(world.settings, bundle_store=None)
    kept = world.tracking.artifacts(first.run_id)
    before = world.state
    kept.rename(kept.with_name("lost"))
    message = rf"{V} can't become the latest version, .* 'registry doctor' lists"
    with pytest.raises(Refused, match=message):
        Registry.open(plain).rollback(V)
    assert world.state == before
    kept.with_name("lost").rename(kept)
    (kept / "model" / "more").write_text("x")
    with pytest.raises(Refused, match="'more' was added"):
        Registry.open(plain).rollback(V)
    (kept / "model" / "more").unlink()
    assert Registry.open(plain).rollback(V).is_new


def test_a_damaged_store_is_no_obstacle_while_mlflow_has_the_bundle(
    world: World, two: tuple[Made, Made], to: Path
) -> None:
    """Otherwise the message names both reasons. Promoting again repairs the store."""
    first, _ = two
    path = world.settings.root / "store" / first.digest[:2] / first.digest[2:]
    path.write_bytes(b"[]")
    fetch(world, to, V)
    lost = world.tracking.artifacts(first.run_id)
    lost.rename(lost.with_name("gone"))
    with pytest.raises(Refused) as caught:
        fetch(world, to.with_name("other"), V)
    assert f"the bundle of {V} can't be fetched: the bundle store" in str(caught.value)
    assert "manifest, is damaged. Promoting" in str(caught.value)
    assert " And: " in str(caught.value)
    lost.with_name("gone").rename(lost)
    assert not Registry.open(world.settings).promote(first.sha, V, evidence=first.evidence).is_new
    lose(world, first)
    assert fetch(world, to.with_name("other"), V).is_new


def test_the_doctor_names_the_places(
    world: World,
    two: tuple[Made, Made],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A version that one place has can be fetched. Only one that no place has is a failure."""
    first, second = two
    monkeypatch.chdir(world.settings.root)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", world.tracking.uri)
    world.forget_alias()
    assert main(["registry", "doctor"]) == 0
    both = "can be fetched from the bundle store and MLflow"
    assert capsys.readouterr().out == f"{V}  {both}\n{V2}  {both}\n"
    (world.tracking.artifacts(first.run_id) / "model/more").write_text("x")
    (world.settings.root / "store" / second.digest[:2] / second.digest[2:]).unlink()
    assert main(["registry", "doctor", "--json"]) == 0
    one, other = json.loads(capsys.readouterr().out)
    assert one["problem"] is other["problem"] is None
    assert one["places"]["the bundle store"] is other["places"]["MLflow"] is None
    assert "'more' was added" in one["places"]["MLflow"]
    assert "has no manifest of" in other["places"]["the bundle store"]
    assert main(["registry", "doctor"]) == 0
    out = capsys.readouterr().out
    assert f"{V}  can be fetched from the bundle store. Not from MLflow: MLflow's copy" in out
    (world.tracking.artifacts(second.run_id) / "model/more").write_text("x")
    assert main(["registry", "doctor"]) == 1
    out = capsys.readouterr().out
    assert f"{V2}  the bundle of {V2} can't be fetched: the bundle store" in out
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////dev/null/mlflow.db")
    assert main(["registry", "doctor"]) == 3
    kept, lost = capsys.readouterr().out.splitlines()
    assert f"{V}  can be fetched from the bundle store. Not from MLflow: " in kept
    assert f"{V2}  the bundle of {V2} can't be fetched: the bundle store" in lost


@pytest.mark.parametrize("by_hand", [False, True])
def test_a_store_that_fails_stops_the_promotion(world: World, by_hand: bool) -> None:
    """Nothing is promoted or registered, and doing it again works."""
    good = world.candidate("good")
    (world.settings.root / "store").write_text("a file")
    with pytest.raises(SystemFailed, match=r"store.*can't be created"):
        if by_hand:
            register(world, good)
        else:
            world.promote(good, V)
    assert world.state == {}
    (world.settings.root / "store").unlink()
    world.promote(good, V)
    assert good.digest in objects(world)


def test_a_refused_candidate_is_not_kept(world: World) -> None:
    """The store has only what passed the gate."""
    bad = world.candidate("bad", wrong=12)
    with pytest.raises(Refused):
        world.promote(bad, V)
    assert objects(world) == {}


def test_a_registration_by_hand_keeps_the_bundle(world: World, to: Path) -> None:
    """A promotion by hand has no download of its own."""
    good = world.candidate("good")
    register(world, good)
    promote_by_hand(world, good.sha, V)
    lose(world, good)
    assert fetch(world, to).is_new


def test_a_killed_promotion_converges(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is killed while the bundle is kept, so the ledger is the old one."""
    good = world.candidate("good")

    def killed(_: list[str]) -> None:
        monkeypatch.setattr(files, "sync", lambda _: kill_self())
        world.promote(good, V)

    assert forked(killed).code < 0
    assert world.state == {}
    world.promote(good, V)
    assert good.digest in objects(world)
    assert not (world.settings.root / "store/.new").exists()


def test_a_rollback_to_a_version_without_a_digest_works_as_before(
    world: World, two: tuple[Made, Made]
) -> None:
    """It can't be verified, so it is not fetched."""
    ledger = Registry.open(world.settings).store
    ledger.append(lambda _: fact(event=PROMOTED, semver="v0.3.0-dev"))
    Registry.open(world.settings).rollback(V)
    assert Registry.open(world.settings).rollback("v0.3.0-dev").is_new


def test_a_store_on_a_web_server(tmp_path: Path, tracking: Tracking, to: Path) -> None:
    """DVC reads and writes it."""
    root = tmp_path / "project"
    with object_server(root) as server:
        world = World(settings(root, tracking, "remote://web/bundles"), tracking, tmp_path)
        good = world.candidate("good")
        world.promote(good, V)
        assert f"/bundles/{good.digest[:2]}/{good.digest[2:]}" == server.uploads[-1]
        lose(world, good)
        fetch(world, to)
        assert read_bundle(to).digest == good.digest
        server.objects.clear()
        with pytest.raises(Refused, match="remote://web/bundles has no manifest of"):
            fetch(world, to.with_name("other"))


@pytest.fixture
def served(server: tuple[Tracking, Path], tmp_path: Path) -> Iterator[tuple[World, Made]]:
    """Two promotions from a real MLflow server, of which the first run is deleted for good."""
    tracking, artifacts = server
    world = World(settings(tmp_path / "p", tracking, "store"), tracking, tmp_path)
    first = world.candidate("first")
    world.promote(first, V)
    world.promote(world.candidate("second"), V2)
    with connected(tracking.uri) as client:
        client.delete_run(first.run_id)
    database = f"sqlite:///{artifacts.with_name('mlflow.db')}"
    command = [sys.executable, "-m", "mlflow", "gc", "--backend-store-uri", database]
    environ = {**os.environ, "MLFLOW_TRACKING_URI": tracking.uri}
    environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    done = subprocess.run(
        [*command, "--artifacts-destination", str(artifacts), "--run-ids", first.run_id],
        env=environ,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert not [it for it in artifacts.rglob("MLmodel") if first.run_id in it.parts]
    yield world, first


@pytest.mark.slow(seconds=20)
def test_a_version_outlives_its_deleted_run(served: tuple[World, Made], to: Path) -> None:
    """After MLflow's garbage collection it can be fetched and rolled back to. Without a store, both
    are refused."""
    world, first = served
    without = replace(world, settings=replace(world.settings, bundle_store=None))
    with pytest.raises(Refused, match=r"MLflow at .* has no files at .* any more"):
        fetch(without, to, V)
    before = world.state
    with pytest.raises(Refused, match=rf"{V} can't become the latest version.*no files at"):
        Registry.open(without.settings).rollback(V)
    assert world.state == before
    fetch(world, to, V)
    assert read_bundle(to).digest == first.digest
    assert Registry.open(world.settings).rollback(V).is_new


def test_a_url_with_a_password_or_of_a_folder_is_refused(tmp_path: Path) -> None:
    """pyproject.toml is public. The message does not show it."""
    for url in (
        "https://user:hunter2@example.org/b",
        "https://hunter2@example.org/b",
        "ssh://user:hunter2@example.org/b",
        "https://example.org/b?signature=hunter2",
    ):
        (tmp_path / "pyproject.toml").write_text(
            f'[tool.lynx_pipeline]\nmodel = "m"\nbundle_store = "{url}"\n'
        )
        with pytest.raises(BadInput, match="'bundle_store': the URL contains a user name") as it:
            load_settings(tmp_path, {})
        assert "hunter2" not in str(it.value)
    for url in ("file:///mnt/bundles", "://bundles"):  # DVC would create a folder of this name
        (tmp_path / "pyproject.toml").write_text(
            f'[tool.lynx_pipeline]\nmodel = "m"\nbundle_store = "{url}"\n'
        )
        with pytest.raises(BadInput, match="Write a folder without 'file://'"):
            load_settings(tmp_path, {})
    for good in ("s3://bucket/b", "ssh://user@example.org/b", "remote://web/b"):
        (tmp_path / "pyproject.toml").write_text(
            f'[tool.lynx_pipeline]\nmodel = "m"\nbundle_store = "{good}"\n'
        )
        assert load_settings(tmp_path, {}).bundle_store == good


def test_the_rollback_command_moves_the_mlflow_alias(
    world: World,
    two: tuple[Made, Made],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """If MLflow is down, the rollback still succeeds, with a warning about the alias."""

    def alias() -> str:
        with connected(world.tracking.uri) as client:
            version = client.get_model_version_by_alias("tiny", "dev")
        return str(version.tags["lynx.semver"])

    monkeypatch.chdir(world.settings.root)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", world.tracking.uri)
    for version in (V, V2):
        assert main(["registry", "rollback", version]) == 0
        assert alias() == version
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert main(["registry", "rollback", V]) == 0
    assert "not all that mirrors it" in capsys.readouterr().err
    assert Registry.open(world.settings).resolve().semver == V
    assert alias() == V2
