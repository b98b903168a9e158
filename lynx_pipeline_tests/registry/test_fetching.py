"""Fetching a promoted bundle: exactly the promoted bytes, in one step, or a refusal that names what
differs."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lynx_pipeline.adapters import files
from lynx_pipeline.adapters.bundle_files import read_bundle
from lynx_pipeline.cli import main
from lynx_pipeline.domain.ledger.facts import Evidence
from lynx_pipeline.errors import BadInput, Refused, SystemFailed
from lynx_pipeline.registry import Registry
from lynx_pipeline_tests.end_to_end.conftest import files_in
from lynx_pipeline_tests.simulators.faults.trial import forked, kill_self
from lynx_pipeline_tests.support.builders import PROMOTED, fact
from lynx_pipeline_tests.support.fetching import CHANGES, V, fetch
from lynx_pipeline_tests.support.world import Made, World, promote_by_hand, register


@pytest.fixture
def made(world: World) -> Made:
    """A promoted candidate."""
    good = world.candidate("good")
    world.promote(good, V)
    return good


def test_the_promoted_bundle_is_fetched_once(world: World, made: Made, to: Path) -> None:
    """The second call finds it and writes nothing. An empty folder is not in the way."""
    to.mkdir(parents=True)
    entry, is_new = fetch(world, to)
    assert (entry.fact.semver, is_new) == (V, True)
    assert read_bundle(to).digest == made.digest == entry.fact.bundle_digest
    assert sorted(it.name for it in to.parent.iterdir()) == [".current.lock", "current"]
    before = to.stat()
    assert fetch(world, to, V) == (entry, False)
    assert to.stat() == before


def test_an_earlier_version_is_fetched_by_name(world: World, made: Made, to: Path) -> None:
    """After a rollback, ``latest`` is the earlier version too."""
    other = world.candidate("other")
    world.promote(other, "v0.2.0-dev")
    fetch(world, to, V)
    assert read_bundle(to).digest == made.digest
    fetch(world, to.with_name("latest"))
    assert read_bundle(to.with_name("latest")).digest == other.digest
    Registry.open(world.settings).rollback(V)
    fetch(world, to.with_name("back"))
    assert read_bundle(to.with_name("back")).digest == made.digest


def _file_to_folder(folder: Path) -> None:
    (folder / "code" / "tiny_loader.py").unlink()
    (folder / "code" / "tiny_loader.py").mkdir()


# What a store on this machine keeps, and a server does not.
LOCAL_CHANGES = [
    pytest.param(lambda f: (f / "MLmodel").chmod(0o755), "'MLmodel' is executable", id="mode"),
    pytest.param(_file_to_folder, "'code/tiny_loader.py' is a folder", id="folder for a file"),
]


@pytest.mark.parametrize(("change", "message"), [*CHANGES, *LOCAL_CHANGES])
def test_a_changed_bundle_is_refused(
    world: World, made: Made, to: Path, change: Callable[[Path], object], message: str
) -> None:
    """MLflow's copy differs from what was promoted. Nothing is left in the target's folder."""
    change(world.tracking.artifacts(made.run_id) / "model")
    with pytest.raises(Refused, match=f"MLflow's copy of {V} is not the bundle") as caught:
        fetch(world, to)
    assert message in str(caught.value)
    assert [it.name for it in to.parent.iterdir()] == [".current.lock"]


@pytest.mark.slow
@pytest.mark.parametrize(("change", "message"), [*CHANGES, *LOCAL_CHANGES])
def test_a_changed_target_is_refused(
    world: World, made: Made, to: Path, change: Callable[[Path], object], message: str
) -> None:
    """What is in the target's folder is compared, and never overwritten."""
    fetch(world, to)
    change(to)
    before = files_in(to)
    with pytest.raises(Refused) as caught:
        fetch(world, to)
    assert f"{to} is not the bundle" in str(caught.value)
    assert message in str(caught.value)
    assert files_in(to) == before


@pytest.mark.parametrize("kind", ["a file", "other files", "a dangling link"])
def test_anything_else_in_the_way_is_bad_input(
    world: World, made: Made, to: Path, kind: str
) -> None:
    """It is not touched."""
    to.parent.mkdir()
    if kind == "a file":
        to.write_text("x")
    elif kind == "other files":
        to.mkdir()
        (to / "notes").write_text("x")
    else:
        to.symlink_to("nowhere")
    with pytest.raises(BadInput, match=r"not a folder|not an MLflow model"):
        fetch(world, to)
    assert to.is_symlink() or to.exists()


def test_only_some_of_many_differences_are_listed(world: World, made: Made, to: Path) -> None:
    """The message stays readable."""
    for number in range(12):
        (world.tracking.artifacts(made.run_id) / f"model/{number:02}").write_text("x")
    with pytest.raises(Refused, match=r"'09' was added and 2 more\. Its digest is"):
        fetch(world, to)


def test_a_promotion_without_a_digest_is_refused(world: World, to: Path) -> None:
    """Older entries don't say which bytes were promoted."""
    old = fact(event=PROMOTED, semver=V)
    assert old.bundle_digest is None
    Registry.open(world.settings).store.append(lambda _: old)
    with pytest.raises(Refused, match="before the registry recorded bundle digests"):
        fetch(world, to)


def test_a_promotion_by_hand_is_fetched_too(world: World, to: Path) -> None:
    """The registration has recorded the digest and kept the manifest."""
    good = world.candidate("good")
    register(world, good)
    promote_by_hand(world, good.sha, V)
    (world.tracking.artifacts(good.run_id) / "model/more").write_text("x")
    with pytest.raises(Refused, match="'more' was added"):
        fetch(world, to)
    (world.tracking.artifacts(good.run_id) / "model/more").unlink()
    assert fetch(world, to).is_new


def test_without_its_manifest_a_bundle_is_still_compared(
    world: World, made: Made, to: Path
) -> None:
    """The entry's digest is enough to refuse."""
    kept = world.settings.root / f"registry/evidence/{made.digest[:2]}/{made.digest}"
    kept.unlink()
    (world.tracking.artifacts(made.run_id) / "model/more").write_text("x")
    with pytest.raises(Refused, match="its manifest is not in the registry"):
        fetch(world, to)


def test_a_killed_fetch_leaves_no_target(
    world: World, made: Made, to: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is killed before the download is renamed. The next one removes the rest and succeeds."""

    def killed(_: list[str]) -> None:
        monkeypatch.setattr(files, "sync", lambda _: kill_self())
        fetch(world, to)

    assert forked(killed).code < 0
    assert not to.exists()
    assert (to.parent / ".current.new").exists()
    assert fetch(world, to).is_new
    assert sorted(it.name for it in to.parent.iterdir()) == [".current.lock", "current"]


@pytest.mark.slow
def test_of_two_fetches_at_once_one_writes(world: World, made: Made, to: Path) -> None:
    """The slower one waits, finds the other's folder, and checks it."""
    command = [sys.executable, "-m", "lynx_pipeline", "registry", "fetch", "--json", "--to"]
    environ = {**os.environ, "MLFLOW_TRACKING_URI": world.tracking.uri}
    both = [
        subprocess.Popen(
            [*command, str(to)], cwd=world.settings.root, env=environ, stdout=subprocess.PIPE
        )
        for _ in range(2)
    ]
    found = [json.loads(process.communicate()[0])["is_new"] for process in both]
    assert sorted(found) == [False, True]
    assert read_bundle(to).digest == made.digest


def test_a_folder_with_another_version_is_named(world: World, made: Made, to: Path) -> None:
    """A new promotion needs a folder of its own, and the message does not sound like damage."""
    fetch(world, to)
    world.promote(world.candidate("other"), "v0.2.0-dev")
    with pytest.raises(
        Refused, match=rf"{to} has {V}, and v0\.2\.0-dev was requested. Use another"
    ):
        fetch(world, to)
    assert not fetch(world, to, V).is_new


@pytest.mark.slow
def test_a_model_that_was_loaded_from_the_folder(world: World, made: Made, to: Path) -> None:
    """Python writes bytecode beside the model's code, which could run in place of it."""
    fetch(world, to)
    load = f"from mlflow import pyfunc; pyfunc.load_model({str(to)!r})"
    environ = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    for more in ({"PYTHONDONTWRITEBYTECODE": "1"}, {}):
        subprocess.run([sys.executable, "-c", load], env={**environ, **more}, check=True)
        if more:
            assert not fetch(world, to).is_new
    with pytest.raises(BadInput, match="'code/__pycache__' has compiled Python"):
        fetch(world, to)


def test_a_file_system_without_modes_is_recognized(world: World, made: Made, to: Path) -> None:
    """It shows every file as executable."""
    fetch(world, to)
    for path in to.rglob("*"):
        path.chmod(0o777)
    with pytest.raises(Refused, match="may not keep file modes: use another one"):
        fetch(world, to)


def test_a_target_that_cannot_be_created_is_named(
    world: World, made: Made, to: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that is too long, a file in place of a folder above it, and a mount point."""
    to.parent.write_text("x")
    for wrong in (to.with_name("x" * 300), to):
        with pytest.raises(SystemFailed) as caught:
            fetch(world, wrong)
        assert str(to.parent) in str(caught.value)
    to.parent.unlink()
    monkeypatch.setattr(Path, "is_mount", lambda _: True)
    with pytest.raises(BadInput, match=r"is a mount point\. Name a folder in it"):
        fetch(world, to)


def test_a_forged_manifest_is_no_traceback(world: World, made: Made, to: Path) -> None:
    """Whoever can write to the registry may name any evidence as the digest."""
    registry = Registry.open(world.settings)
    entry = registry.promoted()
    assert isinstance(entry.fact.evidence, Evidence)
    for digest in (
        entry.fact.evidence.predictions_sha256,
        entry.fact.evidence.candidate_eval_sha256,
    ):
        version = f"v0.{len(registry.verify().entries)}.9-dev"
        forged = replace(entry.fact, semver=version, bundle_digest=digest)
        registry.store.append(lambda _, forged=forged: forged)  # type: ignore[misc]
        with pytest.raises(Refused, match="its manifest is not in the registry"):
            fetch(world, to, version)


def test_the_command_prints_text_or_json(
    world: World,
    made: Made,
    to: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its exit code is 1 if the bundle was changed."""
    monkeypatch.chdir(world.settings.root)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", world.tracking.uri)
    assert main(["registry", "fetch", "--to", str(to)]) == 0
    assert capsys.readouterr().out == f"tiny {V} is now in {to}, digest {made.digest}.\n"
    assert main(["registry", "fetch", V, "--to", str(to), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "semver": V,
        "canonical_sha": made.sha,
        "bundle_digest": made.digest,
        "folder": str(to),
        "stale": None,
        "is_new": False,
    }
    (to / "more").write_text("x")
    assert main(["registry", "fetch", "--to", str(to)]) == 1
    assert "'more' was added" in capsys.readouterr().err
    assert main(["registry", "fetch", "v9.9.9-dev", "--to", str(to)]) == 1


def test_the_doctor_finds_what_cannot_be_fetched(
    world: World,
    made: Made,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A bundle that was changed, and one whose entry has no digest. Its exit code is then 1."""
    world.promote(world.candidate("other"), "v0.2.0-dev")
    monkeypatch.chdir(world.settings.root)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", world.tracking.uri)
    world.forget_alias()
    assert main(["registry", "doctor"]) == 0
    assert capsys.readouterr().out == (
        f"{V}  can be fetched from MLflow\nv0.2.0-dev  can be fetched from MLflow\n"
    )
    (world.tracking.artifacts(made.run_id) / "model/more").write_text("x")
    old = fact(event=PROMOTED, semver="v0.3.0-dev")
    Registry.open(world.settings).store.append(lambda _: old)
    assert main(["registry", "doctor", "--json"]) == 1
    first, second, third = json.loads(capsys.readouterr().out)
    assert first["semver"] == V
    assert "'more' was added" in first["problem"]
    assert second == {"semver": "v0.2.0-dev", "problem": None, "places": {"MLflow": None}}
    assert "before the registry recorded bundle digests" in third["problem"]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////dev/null/mlflow.db")
    assert main(["registry", "doctor"]) == 3
    shown = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in shown] == [V, "v0.2.0-dev", "v0.3.0-dev"]
    assert "can be fetched" not in "".join(shown)
