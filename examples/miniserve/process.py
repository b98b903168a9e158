"""A model in a process of its own.

Two versions of a model bring different modules with the same names, so one process can load only
one of them. Each process is forked from one that has imported MLflow, which takes seconds, and that
never loads a model. A process that dies, whatever the model did, is replaced, and its requests are
asked again.
"""

import asyncio
import multiprocessing
import os
import signal
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cache
from pathlib import Path

from lynx_pipeline.adapters.bundle_files import read_bundle
from lynx_pipeline.domain.bundle import BUNDLE_MIB
from lynx_pipeline.errors import BadInput
from lynx_pipeline.sandbox.inside.worker import LoadedModel, load

Answers = list[str | None]
Items = list[str] | list[dict[str, str]]
_TRIES = 3
_CLOSE_SECONDS = 60.0


class ModelFailed(Exception):
    """The model can't be loaded, or did not answer. The message says why."""


class ModelProcess:
    """The model of the bundle in ``folder``, which must have this digest, and at most ``mib`` MiB,
    whenever it is loaded. ``answer_column`` is the setting of that name."""

    def __init__(
        self,
        folder: Path,
        digest: str,
        mib: int = BUNDLE_MIB,
        answer_column: str | None = None,
    ) -> None:
        self._bundle = folder, digest, mib, answer_column
        self._pool = _new_pool()
        self._asking = 0
        self._killed = False

    async def load(self) -> None:
        """Load the model. Without this, the first request does.

        Raises:
            ModelFailed: it can't be loaded, or its files were changed.
        """
        await self.ask([])

    async def ask(self, items: Items) -> Answers:
        """One answer per item: a prompt, or the inputs of a model that takes several.

        Raises:
            ModelFailed: the model raised an error or returned something else, or its process died
                several times.
        """
        self._asking += 1
        try:
            for _ in range(_TRIES):
                pool = self._pool
                try:
                    found = await asyncio.wrap_future(pool.submit(_answer, *self._bundle, items))
                except BrokenProcessPool:
                    if self._killed:
                        raise ModelFailed("it did not answer in time, and was ended") from None
                    if pool is self._pool:  # no other request has replaced it yet
                        self._pool = _new_pool()
                    continue
                if isinstance(found, str):
                    raise ModelFailed(found)
                return found
        finally:
            self._asking -= 1
        raise ModelFailed(f"the model's process died {_TRIES} times")

    async def close(self) -> None:
        """End the process once it has answered all requests, or after a minute."""
        end = time.monotonic() + _CLOSE_SECONDS
        while self._asking and time.monotonic() < end:
            await asyncio.sleep(0.05)
        if self._asking:
            self.kill()
        await asyncio.to_thread(self._pool.shutdown)

    def kill(self) -> None:
        """End the process now. It is not replaced."""
        self._killed = True
        for process in list((self._pool._processes or {}).values()):  # nothing public until 3.14
            process.kill()


def _new_pool() -> ProcessPoolExecutor:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mlflow.pyfunc", "pandas", __name__])
    return ProcessPoolExecutor(max_workers=1, mp_context=context, initializer=_prepare)


# ----- in the model's process -----------------------------------------------------------------


def _prepare() -> None:
    """Leave ending this process to the service, and end with it if it is killed."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    # Compiled files beside the model's code would change the bundle.
    sys.dont_write_bytecode = True
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _answer(
    folder: Path, digest: str, mib: int, answer_column: str | None, items: Items
) -> Answers | str:
    """The answers, or why there are none: a model's own exception may not be picklable."""
    try:
        predict = _loaded(folder, digest, mib, answer_column)
        answers = predict(items) if items else []
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    if len(answers) != len(items):
        return f"the model returned {len(answers)} answers to {len(items)} prompts"
    return answers


@cache
def _loaded(folder: Path, digest: str, mib: int, answer_column: str | None) -> LoadedModel:
    """The model, asked in the same form as in its evaluation."""
    found = read_bundle(folder, mib).digest
    if found != digest:
        raise BadInput(f"{folder} was changed: its digest is {found[:12]}, expected {digest[:12]}.")
    return load(str(folder), answer_column=answer_column)
