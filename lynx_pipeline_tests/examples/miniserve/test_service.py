"""The real service under constant load, while everything around it changes and fails."""

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from lynx_pipeline.adapters.mlflow_tracking import connected
from lynx_pipeline.registry import Registry
from lynx_pipeline_tests.conftest import Tracking
from lynx_pipeline_tests.examples.miniserve.load import Load
from lynx_pipeline_tests.examples.miniserve.running import (
    Cable,
    Running,
    command_line,
    miniserve,
    wait_until,
)
from lynx_pipeline_tests.support import git_server, mlflow_server
from lynx_pipeline_tests.support.builders import project
from lynx_pipeline_tests.support.places import BRANCH, InFolder, OnGit, Place
from lynx_pipeline_tests.support.world import Made, World

ONE, TWO, THREE = "v0.1.0-dev", "v0.2.0-dev", "v0.3.0-dev"


def candidate(world: World, name: str) -> Made:
    """A candidate that puts its name before each prompt."""
    return world.candidate(name, body=f"return [{name!r} + ': ' + prompt for prompt in prompts]")


@dataclass(frozen=True)
class Faults:
    """A registry that can fail: ``hang`` until ``go_on``, be repaired after damage, disappear."""

    place: Place
    hang: Callable[[], object]
    go_on: Callable[[], object]
    repair: Callable[[bytes], object]
    remove: Callable[[], object]


@contextmanager
def in_folder(root: Path, _: pytest.MonkeyPatch) -> Iterator[Faults]:
    """A folder. It does not hang."""
    place = InFolder(root / "registry")

    def nothing() -> None:
        pass

    yield Faults(
        place, nothing, nothing, place.overwrite, lambda: place.folder.rename(root / "away")
    )


@contextmanager
def on_git(root: Path, patch: pytest.MonkeyPatch) -> Iterator[Faults]:
    """A git branch that an HTTPS server serves."""
    bare = OnGit.new(root / "git/registry.git", partial=True)
    bare.git("config", "http.receivepack", "true")
    answers = Event()
    answers.set()

    def authorize(*_: object) -> int:
        answers.wait()
        return 200

    def repair(_: bytes) -> None:
        bare.git("update-ref", f"refs/heads/{BRANCH}", f"{BRANCH}~1")

    with git_server.serving(bare.bare.parent, authorize) as server:
        patch.setenv("GIT_SSL_CAINFO", str(server.pem))
        place = OnGit(bare.bare, f"{server.url}/registry.git")
        yield Faults(
            place, answers.clear, answers.set, repair, lambda: bare.bare.rename(root / "away")
        )
        answers.set()


@pytest.mark.slow(seconds=60)
@pytest.mark.parametrize("kind", [in_folder, on_git])
def test_no_request_is_lost_whatever_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Callable[..., Any]
) -> None:
    """A promotion, rollbacks, MLflow unreachable, a registry that hangs or is damaged, a killed
    model process; then restarts without the registry, and in prod."""
    with kind(tmp_path, monkeypatch) as faults:
        no_request_is_lost(tmp_path, faults)


def no_request_is_lost(tmp_path: Path, faults: Faults) -> None:
    """All that may happen, one after the other."""
    served = tmp_path / "served"
    served.mkdir()
    with mlflow_server.running(served) as uri:
        cable = Cable(int(uri.rpartition(":")[2]))
        cable.plug()
        with connected(uri) as client:
            tracking = Tracking(uri, client.create_experiment("tiny"))
        settings = project(
            tmp_path / "project",
            environ={"MLFLOW_TRACKING_URI": uri},
            pyproject=f'registry = "{faults.place.setting}"\n',
        )
        world = World(settings, tracking, tmp_path)
        registry = Registry.open(settings)
        made = {
            version: candidate(world, name)
            for version, name in ((ONE, "one"), (TWO, "two"), (THREE, "three"))
        }
        world.promote(made[ONE], ONE)
        log = tmp_path / "log"
        with miniserve(settings.root, log, MLFLOW_TRACKING_URI=cable.url) as service:
            service.wait(lambda: service.serves(ONE))
            with Load(service.url).running() as load:
                service.wait(lambda: load.every_thread_got(ONE))

                world.promote(made[TWO], TWO)
                service.wait(lambda: load.every_thread_got(TWO))
                registry.rollback(ONE)
                service.wait(lambda: load.every_thread_got(ONE))

                faults.hang()
                count = len(load.all())
                service.wait(lambda: len(load.all()) > count + 300)
                faults.go_on()

                cable.cut()
                world.promote(made[THREE], THREE)
                service.wait(lambda: problem(service))
                assert load.every_thread_got(ONE)
                registry.rollback(TWO)  # it is on the service's disk
                service.wait(lambda: load.every_thread_got(TWO) and not problem(service))
                registry.rollback(THREE)
                service.wait(lambda: problem(service))
                cable.plug()
                service.wait(lambda: load.every_thread_got(THREE) and not problem(service))

                whole = faults.place.index()
                faults.place.overwrite(whole.replace(b'"promoted"', b'"Promoted"', 1))
                service.wait(lambda: "line 1" in problem(service))
                service.wait(lambda: len(service.model_processes()) == 1)
                (old,) = service.model_processes()
                os.kill(old, signal.SIGKILL)
                service.wait(lambda: old not in service.model_processes())
                count = len(load.all())
                service.wait(lambda: len(load.all()) > count + 300)
                faults.repair(whole)
                service.wait(lambda: not problem(service))
            print(f"\n{load.summary()}")
            check(load, service, made)
            (model,) = service.model_processes()
            service.process.send_signal(signal.SIGKILL)
            service.process.wait()
        wait_until(lambda: not command_line(model), log)
        cable.cut()
    restarts(settings.root, log, faults)


def problem(service: Running) -> str:
    """Why the service can't follow the registry; empty if it can."""
    return (service.get("/health")[1] or {}).get("problem") or ""


def check(load: Load, service: Running, made: dict[str, Made]) -> None:
    """Every request was answered by the version that the response names, in the right order."""
    assert load.lost == []
    names = {ONE: "one", TWO: "two", THREE: "three"}
    for reply in load.all():
        assert reply.answer == f"{names[reply.version]}: {reply.prompt}"
    for order in load.orders():
        assert order == [ONE, TWO, ONE, TWO, THREE]
    status, found = service.get("/version")
    assert status == 200
    assert found.pop("since")
    assert found == {
        "environment": "dev",
        "model": "tiny",
        "semver": THREE,
        "canonical_sha": made[THREE].sha,
        "bundle_digest": made[THREE].digest,
    }


def restarts(root: Path, log: Path, faults: Faults) -> None:
    """Without registry and MLflow the last version is served again. prod never serves it."""
    nowhere = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:1"}
    home = root / ".lynx/miniserve"
    shutil.copytree(home / "dev", home / "prod")
    with miniserve(root, log, LYNX_ENV="prod", **nowhere) as service:
        service.wait(lambda: "nothing was promoted in prod" in problem(service))
        time.sleep(1)  # it would have loaded a version by now
        assert service.get("/health")[0] == service.get("/version")[0] == 503
    faults.remove()
    with miniserve(root, log, **nowhere) as service:
        started = time.monotonic()
        service.wait(lambda: service.serves(THREE))
        print(f"restarted without registry, serving after {time.monotonic() - started:.1f} s")
        assert service.get("/health")[0] == 200
        assert problem(service)
