"""Candidates asked on the nodes of a Ray cluster: the same worker process, the same limits, the
same answers.

The cluster is the one that Ray finds: ``RAY_ADDRESS``, or the one this machine is a node of. See
:mod:`lynx_pipeline.sandbox.ray.driver` for how the work is spread, and
:mod:`lynx_pipeline.sandbox.ray.node` for what a node does.
"""

import importlib.util
import multiprocessing
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Any

from lynx_pipeline.config import Limits
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.errors import BadInput, SystemFailed
from lynx_pipeline.sandbox.ray.driver import GRACE, KEPT, Order
from lynx_pipeline.sandbox.ray.node import Task, software
from lynx_pipeline.sandbox.workers import Answered, Batch

# By its module's name: Ray has to find the actor's class there on the nodes.
_DRIVER = "from lynx_pipeline.sandbox.ray import driver; driver.main()"
_LOG_KEPT = 600


@dataclass(frozen=True, slots=True)
class Ray:
    """Processes on the nodes of a Ray cluster, ``most`` of them (0: one a CPU). Each node finds
    out what isolation it has; ``warn`` is told of one that has none, and of lost nodes."""

    bundle: Path
    canonical_sha: str
    env: Env
    hidden: tuple[Path, ...]
    limits: Limits
    warn: Callable[[str], None]
    most: int = 0

    def answer(self, batches: Iterator[Batch], left: int) -> Iterator[Answered]:
        """See :class:`lynx_pipeline.sandbox.workers.Engine`.

        Raises:
            Refused: a node has no isolation, and this is prod.
        """
        if importlib.util.find_spec("ray") is None:
            raise BadInput(
                "the engine is ray, and Ray is not installed: pip install 'lynx-pipeline[ray]'."
            )
        task = Task(self.canonical_sha, self.env, self.hidden, self.limits)
        wait = self.limits.load_seconds
        late = "no Ray cluster answers within load_seconds. Is RAY_ADDRESS right, and its head up?"
        with _driver() as driver:
            driver.say(Order(software(), self.bundle, task, self.most, left))
            while True:
                what, value = driver.hear(wait, late)
                if what == "take":
                    driver.say(next(batches, None))
                elif what == "answered":
                    yield value
                elif what == "warn":
                    self.warn(value)
                elif what == "failed":
                    raise value
                elif what == "done":
                    return
                else:  # it is connected, and keeps the limits from now on
                    wait = self.limits.total_seconds + 2 * GRACE
                    late = f"the process that speaks with Ray hangs. {KEPT}"


@dataclass(frozen=True, slots=True)
class _Driver:
    process: "subprocess.Popen[bytes]"
    pipe: Connection
    log: IO[bytes]

    def say(self, value: Any) -> None:
        try:
            self.pipe.send(value)
        except ConnectionError:
            raise self._ended() from None

    def hear(self, seconds: float, late: str) -> tuple[str, Any]:
        try:
            if not self.pipe.poll(seconds):
                raise SystemFailed(late)
            said: tuple[str, Any] = self.pipe.recv()
        except (EOFError, ConnectionError):
            raise self._ended() from None
        return said

    def _ended(self) -> SystemFailed:
        """Ray ends it when the head of the cluster is gone."""
        self.log.seek(0)
        said = " ".join(self.log.read().decode(errors="replace").split())[-_LOG_KEPT:]
        return SystemFailed(f"the process that speaks with Ray ended. {KEPT} It said: {said}")


@contextmanager
def _driver() -> Iterator[_Driver]:
    ours, theirs = multiprocessing.Pipe()
    with ours, tempfile.TemporaryFile() as log:
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-c", _DRIVER, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        try:
            yield _Driver(process, ours, log)
        finally:
            process.kill()  # and Ray ends what it started on the nodes
            process.wait()
