"""The local engine: worker processes on this machine."""

import os
import queue
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lynx_pipeline.config import Limits
from lynx_pipeline.sandbox.engine import Answered, Batch, Form
from lynx_pipeline.sandbox.isolation import Isolation
from lynx_pipeline.sandbox.process import serve


@dataclass(frozen=True, slots=True)
class Local:
    """Starts one process, and more while the remaining work is worth their start-up time, up to
    ``max_workers`` (0: one per core)."""

    bundle: Path
    isolation: Isolation
    limits: Limits
    max_workers: int = 0
    form: Form = Form()  # noqa: RUF009  # immutable

    def answer(self, batches: Iterator[Batch], prompt_count: int) -> Iterator[Answered]:
        """See :class:`~lynx_pipeline.sandbox.engine.Engine`."""
        max_workers = self.max_workers or os.cpu_count() or 1
        deadline = time.monotonic() + self.limits.total_seconds
        batches_lock, stop = threading.Lock(), threading.Event()
        # None: a worker has finished.
        results: queue.Queue[Answered | BaseException | None] = queue.Queue(2 * max_workers)

        def take() -> Batch | None:
            with batches_lock:
                return next(batches, None)

        def put(result: Answered | BaseException | None) -> None:
            while not stop.is_set():
                with suppress(queue.Full):
                    results.put(result, timeout=0.2)
                    return

        def work() -> None:
            try:
                for answered in serve(
                    self.bundle, self.isolation, self.limits, take, deadline, stop, self.form
                ):
                    put(answered)
                put(None)
            except BaseException as error:
                put(error)

        threads: list[threading.Thread] = []

        def start() -> None:
            threads.append(threading.Thread(target=work, daemon=True))
            threads[-1].start()

        try:
            start()
            finished = 0
            while finished < len(threads):
                result = results.get()
                if isinstance(result, BaseException):
                    raise result
                if result is None:
                    finished += 1
                    continue
                yield result
                prompt_count -= len(result.rows)
                seconds_left = prompt_count * result.seconds / len(result.rows) / len(threads)
                worthwhile = seconds_left > 2 * result.load_seconds
                if len(threads) < max_workers and not finished and worthwhile:
                    start()
        finally:
            stop.set()
            for thread in threads:
                thread.join()
