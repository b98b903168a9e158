"""The Ray engine: the same worker process, limits and answers as on one machine.

It uses the cluster that Ray finds: ``RAY_ADDRESS``, or the one this machine is a node of.
:mod:`lynx_pipeline.sandbox.ray.driver` distributes the batches, and
:mod:`lynx_pipeline.sandbox.ray.node` runs on the nodes.
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
from lynx_pipeline.sandbox.engine import Answered, Batch, Form
from lynx_pipeline.sandbox.ray.driver import GRACE, KEPT, Order
from lynx_pipeline.sandbox.ray.node import Task, software

# Imported, not run as a script: Ray finds the actor's class on the nodes by its module's name.
_DRIVER = "from lynx_pipeline.sandbox.ray import driver; driver.main()"
_LOG_KEPT = 600


@dataclass(frozen=True, slots=True)
class Ray:
    """Runs up to ``max_workers`` processes on the nodes of a Ray cluster (0: one per CPU). Each
    node tests its own isolation; ``warn`` gets a message for each node without any, and for each
    lost worker."""

    bundle: Path
    bundle_digest: str
    env: Env
    hidden: tuple[Path, ...]
    limits: Limits
    warn: Callable[[str], None]
    max_workers: int = 0
    form: Form = Form()  # noqa: RUF009  # immutable

    def answer(self, batches: Iterator[Batch], prompt_count: int) -> Iterator[Answered]:
        """See :class:`~lynx_pipeline.sandbox.engine.Engine`.

        Raises:
            Refused: a node has no isolation, and this is prod.
        """
        if importlib.util.find_spec("ray") is None:
            raise BadInput(
                "the engine is ray, but Ray is not installed: pip install 'lynx-pipeline[ray]'."
            )
        task = Task(self.bundle_digest, self.env, self.hidden, self.limits, self.form)
        timeout = self.limits.load_seconds
        on_timeout = (
            "no Ray cluster answered within load_seconds. Check RAY_ADDRESS, and that the "
            "cluster's head is running."
        )
        with _driver() as driver:
            driver.send(Order(software(), self.bundle, task, self.max_workers, prompt_count))
            while True:
                kind, value = driver.receive(timeout, on_timeout)
                if kind == "take":
                    driver.send(next(batches, None))
                elif kind == "answered":
                    yield value
                elif kind == "warn":
                    self.warn(value)
                elif kind == "failed":
                    raise value
                elif kind == "done":
                    return
                else:  # "connected": from now on the driver enforces the limits
                    timeout = self.limits.total_seconds + 2 * GRACE
                    on_timeout = f"the Ray driver process does not respond. {KEPT}"


@dataclass(frozen=True, slots=True)
class _Driver:
    process: "subprocess.Popen[bytes]"
    pipe: Connection
    log: IO[bytes]

    def send(self, value: Any) -> None:
        try:
            self.pipe.send(value)
        except ConnectionError:
            raise self._ended() from None

    def receive(self, timeout: float, on_timeout: str) -> tuple[str, Any]:
        try:
            if not self.pipe.poll(timeout):
                raise SystemFailed(on_timeout)
            message: tuple[str, Any] = self.pipe.recv()
        except (EOFError, ConnectionError):
            raise self._ended() from None
        return message

    def _ended(self) -> SystemFailed:
        """Ray ends the process when the head of the cluster is gone."""
        self.log.seek(0)
        log = " ".join(self.log.read().decode(errors="replace").split())[-_LOG_KEPT:]
        return SystemFailed(f"the Ray driver process ended. {KEPT} It printed: {log}")


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
