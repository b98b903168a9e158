"""How the service replaces versions when something fails, without real models."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from examples.miniserve import service as module
from examples.miniserve.process import ModelFailed
from examples.miniserve.service import Service
from examples.miniserve.versions import Version, Versions
from lynx_pipeline.errors import BadInput, SystemFailed

BROKEN, SLOW = "v0.9.0-dev", "v0.8.0-dev"


def version(semver: str) -> Version:
    """A version, whose digest is its name."""
    return Version("dev", "tiny", semver, "sha", semver)


ONE, TWO = version("v0.1.0-dev"), version("v0.2.0-dev")


class Process:
    """A model's process that only knows whether it was closed."""

    closed: list[str] = []  # noqa: RUF012  # cleared for each test

    def __init__(self, folder: Path, digest: str, mib: int, answer_column: str | None) -> None:
        self.digest = digest

    async def load(self) -> None:
        """Fail for one version, and never end for another."""
        if self.digest == BROKEN:
            raise ModelFailed("can't be loaded")
        if self.digest == SLOW:
            await asyncio.Event().wait()

    def kill(self) -> None:
        """Note it."""
        self.closed.append(self.digest)

    async def close(self) -> None:
        """Note it."""
        self.closed.append(self.digest)


@dataclass
class Scripted(Versions):
    """Versions without registry and disk. An exception as a value is raised."""

    in_force: Version | Exception = ONE
    stored: Version | Exception = field(default_factory=lambda: BadInput("no earlier version"))
    disk: Exception | None = None
    hang: threading.Event = field(default_factory=threading.Event)
    mib: int = 1
    answer_column: str | None = None

    def __post_init__(self) -> None:
        self.hang.set()

    def latest(self) -> Version:
        """Wait while the registry hangs."""
        self.hang.wait(10)
        return _value(self.in_force)

    def fetch(self, version: Version) -> Path:
        """Any folder."""
        return Path()

    def remember(self, version: Version) -> None:
        """Note it, if the disk works."""
        if self.disk is not None:
            raise self.disk
        self.stored = version

    def last_served(self) -> tuple[Version, Path]:
        """What was noted."""
        return _value(self.stored), Path()


def _value(value: Version | Exception) -> Version:
    if isinstance(value, Exception):
        raise value
    return value


@pytest.fixture(autouse=True)
def without_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """No model is started, and the service waits for a fraction of a second only."""
    monkeypatch.setattr(module, "ModelProcess", Process)
    monkeypatch.setattr(module, "_START_SECONDS", 0.1)
    monkeypatch.setattr(module, "_LOAD_SECONDS", 0.3)
    Process.closed.clear()


def run(versions: Scripted, check: Callable[[Service], Awaitable[None]]) -> None:
    """Run ``check`` while a service follows these versions."""

    async def use() -> None:
        service = Service(versions, 0.01)
        following = asyncio.create_task(service.run())
        try:
            await check(service)
        finally:
            versions.hang.set()
            following.cancel()
            await service.close()

    asyncio.run(use())


async def until(condition: Callable[[], object]) -> None:
    """Wait until the condition holds."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


def serves(service: Service, wanted: Version) -> bool:
    return service.serving is not None and service.serving.version == wanted


def test_a_version_that_cannot_be_loaded_does_not_replace_another() -> None:
    """The problem is shown until a version that works is in force."""
    versions = Scripted()

    async def check(service: Service) -> None:
        await until(lambda: serves(service, ONE))
        assert service.problem is None
        versions.in_force = version(BROKEN)
        await until(lambda: service.problem)
        assert service.problem == "can't be loaded"
        assert service.problem_since is not None
        assert serves(service, ONE)
        versions.in_force = TWO
        await until(lambda: serves(service, TWO) and service.problem is None)
        assert service.problem_since is None
        assert Process.closed.count(ONE.bundle_digest) == 1

    run(versions, check)
    assert versions.stored == TWO
    assert Process.closed[-1] == TWO.bundle_digest


def test_a_registry_that_hangs_at_the_start_does_not_stop_the_service() -> None:
    """It serves what it served last, and the version in force as soon as it knows it."""
    versions = Scripted(in_force=TWO, stored=ONE)
    versions.hang.clear()

    async def check(service: Service) -> None:
        await until(lambda: serves(service, ONE))
        versions.hang.set()
        await until(lambda: serves(service, TWO))
        await until(lambda: Process.closed == [ONE.bundle_digest])

    run(versions, check)


@pytest.mark.parametrize("error", [SystemFailed("no"), OSError("no"), RuntimeError("no")])
def test_no_error_ends_the_service(error: Exception) -> None:
    """Not even a bug. With nothing to serve, it goes on looking."""
    versions = Scripted(in_force=error)

    async def check(service: Service) -> None:
        await until(lambda: service.problem == "no")
        assert service.serving is None
        versions.in_force = ONE
        await until(lambda: serves(service, ONE) and service.problem is None)
        versions.in_force = error
        await until(lambda: service.problem == "no")
        assert serves(service, ONE)

    run(versions, check)


def test_a_full_disk_does_not_stop_a_switch() -> None:
    """It may be a rollback that is urgent. It is recorded once that works again."""
    versions = Scripted(disk=SystemFailed("full"))

    async def check(service: Service) -> None:
        await until(lambda: serves(service, ONE) and service.problem == "full")
        versions.disk = None
        await until(lambda: service.problem is None)
        assert versions.stored == ONE
        assert Process.closed == []

    run(versions, check)


def test_a_version_that_never_loads_stops_nothing() -> None:
    """At the start, the version that was served last is served meanwhile. The problem is shown, and
    the next version is followed."""
    versions = Scripted(in_force=version(SLOW), stored=ONE)

    async def check(service: Service) -> None:
        await until(lambda: service.serving and service.serving.version == ONE)
        await until(lambda: service.problem)
        assert f"{SLOW} did not load in 0.3 s" in str(service.problem)
        assert SLOW in Process.closed
        versions.in_force = TWO
        await until(lambda: service.serving and service.serving.version == TWO)

    run(versions, check)
