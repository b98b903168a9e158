"""Answers with the version in force, and follows promotions and rollbacks.

A new version is fetched, verified and loaded before requests go to it; the old one finishes
those that it has. Whatever fails on the way, the loaded version goes on serving, and ``problem``
says why it is not replaced.
"""

import asyncio
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from examples.miniserve.process import ModelFailed, ModelProcess
from examples.miniserve.versions import Version, Versions
from lynx_pipeline.errors import LynxError

_START_SECONDS = 15.0  # to wait for the registry before serving what was served last
_LOAD_SECONDS = 300.0  # for a model to load
_SLOWEST = 8  # after failures, the service looks this many times less often

log = logging.getLogger("miniserve")


@dataclass(frozen=True, slots=True)
class Serving:
    """A loaded version."""

    version: Version
    process: ModelProcess
    since: str


class Service:
    """Serves the latest of ``versions``, and looks for another one every ``poll`` seconds."""

    def __init__(self, versions: Versions, poll: float) -> None:
        self.serving: Serving | None = None
        self.problem: str | None = None
        self.problem_since: str | None = None
        self._versions, self._poll = versions, poll
        self._remembered: Version | None = None
        self._closing = set[asyncio.Task[None]]()

    async def run(self) -> None:
        """Follow the registry until this is cancelled."""
        first = asyncio.create_task(self._follow())
        await asyncio.wait({first}, timeout=_START_SECONDS)
        await self._fall_back()
        await first
        failures = 0
        while True:
            await asyncio.sleep(self._poll * min(2**failures, _SLOWEST))
            if await self._follow():
                failures = 0
            else:
                failures += 1
                await self._fall_back()

    async def close(self) -> None:
        """End all processes, after their last answers."""
        if self.serving is not None:
            self._close(self.serving.process)
        await asyncio.gather(*self._closing)

    async def _follow(self) -> bool:
        """Switch to the version in force. Returns whether it is served now."""
        try:
            version = await asyncio.to_thread(self._versions.latest)
            if self.serving is None or self.serving.version != version:
                folder = await asyncio.to_thread(self._versions.fetch, version)
                await self._switch(version, folder)
            if self._remembered != version:
                await asyncio.to_thread(self._versions.remember, version)
                self._remembered = version
        except Exception as error:  # nothing may end the service
            if not isinstance(error, LynxError | ModelFailed | OSError):
                log.exception("unexpected error")
            self._report(str(error) or type(error).__name__)
            return False
        self._report(None)
        return True

    async def _fall_back(self) -> None:
        """Serve what was served last, if nothing is loaded yet."""
        if self.serving is not None:
            return
        try:
            version, folder = await asyncio.to_thread(self._versions.last_served)
            await self._switch(version, folder, only_if_idle=True)
        except (LynxError, ModelFailed, OSError) as error:
            log.warning("no earlier version can be served: %s", error)

    async def _switch(self, version: Version, folder: Path, *, only_if_idle: bool = False) -> None:
        versions = self._versions
        process = ModelProcess(folder, version.bundle_digest, versions.mib, versions.answer_column)
        try:
            async with asyncio.timeout(_LOAD_SECONDS):
                await process.load()
        except TimeoutError:
            process.kill()
            raise ModelFailed(f"{version.semver} did not load in {_LOAD_SECONDS:g} s") from None
        except BaseException:
            self._close(process)
            raise
        old = self.serving
        if only_if_idle and old is not None:
            self._close(process)
            return
        self.serving = Serving(version, process, _now())
        log.info("serving %s %s in %s", version.model, version.semver, version.environment)
        if old is not None:
            self._close(old.process)

    def _close(self, process: ModelProcess) -> None:
        closing = asyncio.create_task(process.close())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    def _report(self, problem: str | None) -> None:
        if problem != self.problem:
            log.warning("%s", problem or "following the registry again")
        if (problem is None) != (self.problem is None):
            self.problem_since = _now() if problem else None
        self.problem = problem


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
