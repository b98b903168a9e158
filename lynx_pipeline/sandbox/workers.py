"""The candidate's process: started, asked in batches, stopped in time. What it answers is not
believed beyond its form.
"""

import json
import os
import queue
import selectors
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol

from lynx_pipeline.config import Limits
from lynx_pipeline.domain.candidate_eval import NONE
from lynx_pipeline.domain.text import printable
from lynx_pipeline.errors import BadInput, LynxError, SystemFailed
from lynx_pipeline.sandbox.isolation import Isolation
from lynx_pipeline.sandbox.watch import Watch

_STDERR_KEPT = 4000
_LAST_WORDS_SECONDS = 5.0


class Batch(NamedTuple):
    """Prompts of the eval set, and their rows there."""

    rows: list[int]
    prompts: list[str]


class Answered(NamedTuple):
    """What a candidate answered to a batch, in its order; the seconds it took; the seconds to
    load the model and the most memory of its process so far, in MiB; and its isolation."""

    rows: list[int]
    answers: list[str | None]
    seconds: float
    load_seconds: float
    peak_mib: float
    isolation: str


class Engine(Protocol):
    """Where a candidate is asked."""

    def answer(self, batches: Iterator[Batch], left: int) -> Iterator[Answered]:
        """Every batch's answers, in the order they come. ``left`` is how many prompts there are.

        Raises:
            BadInput: the candidate crashed, was too slow or too large, or answered out of form.
            SystemFailed: it could not be asked.
        """


@dataclass(frozen=True, slots=True)
class Local:
    """Processes on this machine: at first one, and up to ``most`` (0: one a core) while the work
    that is left is worth their start-up."""

    bundle: Path
    isolation: Isolation
    limits: Limits
    most: int = 0

    def answer(self, batches: Iterator[Batch], left: int) -> Iterator[Answered]:
        """See :class:`Engine`."""
        most = self.most or os.cpu_count() or 1
        end = time.monotonic() + self.limits.total_seconds
        turn, stop = threading.Lock(), threading.Event()
        found: queue.Queue[Answered | BaseException | None] = queue.Queue(2 * most)

        def take() -> Batch | None:
            with turn:
                return next(batches, None)

        def put(what: Answered | BaseException | None) -> None:
            while not stop.is_set():
                with suppress(queue.Full):
                    found.put(what, timeout=0.2)
                    return

        def work() -> None:
            try:
                for answered in serve(self.bundle, self.isolation, self.limits, take, end, stop):
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
            ended = 0
            while ended < len(threads):
                what = found.get()
                if isinstance(what, BaseException):
                    raise what
                if what is None:
                    ended += 1
                    continue
                yield what
                left -= len(what.rows)
                remaining = left * what.seconds / len(what.rows) / len(threads)
                if len(threads) < most and not ended and remaining > 2 * what.load_seconds:
                    start()
        finally:
            stop.set()
            for thread in threads:
                thread.join()


def serve(
    bundle: Path,
    isolation: Isolation,
    limits: Limits,
    take: Callable[[], Batch | None],
    end: float,
    stop: threading.Event,
) -> Iterator[Answered]:
    """Ask one process all the batches that ``take`` gives, until it gives None, ``end`` (on the
    monotonic clock) or ``stop``. The next batch is on its way while one is answered.

    The process sees running numbers in place of the rows.

    Raises:
        BadInput, SystemFailed: see :class:`Engine`.
    """
    asked = 0
    with _started(isolation, bundle, limits, stop) as process:
        hello = process.receive(min(end, time.monotonic() + limits.load_seconds), "loading")
        load_seconds = _amount(hello, "ready")

        def send(batch: Batch, until: float, during: str) -> None:
            ids = list(range(asked, asked + len(batch.rows)))
            process.send({"ids": ids, "prompts": batch.prompts}, until, during)

        batch = take()
        if batch:
            send(batch, min(end, time.monotonic() + limits.batch_seconds), "")
        while batch:
            ids = list(range(asked, asked + len(batch.rows)))
            asked += len(ids)
            during = f"the batch of items {ids[0] + 1} to {asked}"
            until = min(end, time.monotonic() + limits.batch_seconds)
            following = take()
            if following:
                send(following, until, during)
            reply = process.receive(until, during, len(ids))
            took, answers = _checked(reply, ids)
            peak = _amount(reply, "peak_mib")
            yield Answered(batch.rows, answers, took, load_seconds, peak, isolation.level)
            batch = following
        process.close(min(end, time.monotonic() + limits.batch_seconds))


def _checked(reply: Mapping[str, Any], ids: list[int]) -> tuple[float, list[str | None]]:
    answers = reply.get("predictions")
    if not isinstance(answers, list) or len(answers) != len(ids):
        count = len(answers) if isinstance(answers, list) else "no list of"
        raise _broken(f"it answered {count} predictions to {len(ids)} prompts")
    if reply.get("ids") != ids:
        raise _broken("it answered other ids than it was asked, or some of them twice")
    for text in answers:
        if text is not None and not isinstance(text, str):
            raise _broken(f"it answered {type(text).__name__}, expected text or null")
        if text is not None and not text.isprintable() and _not_text(text):
            raise _broken("it answered half a surrogate pair, which is not text")
    return _amount(reply, "seconds"), answers


def _small(line: bytes, count: int) -> bool:
    """Whether a line of JSON holds about as many values as an answer to ``count`` prompts has,
    however long its texts are. Small values by the million take 25 times their size to parse."""
    line = line.replace(rb"\\", b"").replace(rb"\"", b"")
    if line.count(b'"') > 1000 + 2 * count:
        return False
    return sum(map(len, line.split(b'"')[::2])) <= 10_000 + 50 * count


def _not_text(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False


def _amount(reply: Mapping[str, Any], key: str) -> float:
    value = reply.get(key)
    if isinstance(value, bool) or not isinstance(value, float | int) or not 0 <= value < 1e9:
        raise _broken(f"it reported {key} = {value!r:.40}, expected an amount")
    return float(value)


def _broken(how: str, said: str = "") -> BadInput:
    tail = f" It printed: {said}" if said else ""
    return BadInput(f"the candidate could not be evaluated: {how}.{tail}")


class _Process:
    """The worker's pipes, read and written against a deadline and a bound on bytes."""

    def __init__(
        self,
        process: "subprocess.Popen[bytes]",
        watch: Watch,
        limits: Limits,
        stop: threading.Event,
    ) -> None:
        assert process.stdin and process.stdout and process.stderr
        self.process = process
        self.watch = watch
        self.stop = stop
        self.stdin: IO[bytes] = process.stdin
        self.most = self.left = limits.output_mib << 20
        self.inbox = bytearray()
        self.said = bytearray()
        self.streams = selectors.DefaultSelector()
        self.streams.register(process.stdout, selectors.EVENT_READ, self.inbox)
        self.streams.register(process.stderr, selectors.EVENT_READ, self.said)
        os.set_blocking(self.stdin.fileno(), False)

    def send(self, message: Mapping[str, Any], until: float, during: str) -> None:
        data = memoryview(json.dumps(message).encode() + b"\n")
        with selectors.DefaultSelector() as writable:
            writable.register(self.stdin, selectors.EVENT_WRITE)
            while data:
                try:
                    if writable.select(timeout=0.2):
                        data = data[os.write(self.stdin.fileno(), data) :]
                except BrokenPipeError:
                    return  # receive() says how it ended
                if time.monotonic() > until:
                    late = (
                        f"ran out of time during {during}" if during else "did not take its input"
                    )
                    raise self._failed(f"it {late} in time")
                self._drain(0)

    def receive(self, until: float, during: str, count: int = 0) -> Mapping[str, Any]:
        searched, self.left = 0, self.most - len(self.inbox)
        while (newline := self.inbox.find(b"\n", searched)) < 0:
            searched = len(self.inbox)
            left = until - time.monotonic()
            if left <= 0:
                raise self._failed(f"it ran out of time during {during}")
            if not self._drain(min(left, 0.2)):
                raise self._failed(f"it ended during {during} ({self._how_it_ended()})")
        line = bytes(self.inbox[:newline])
        del self.inbox[: newline + 1]
        if not _small(line, count):
            raise self._failed("it answered far more than it was asked")
        try:
            reply = json.loads(line)
        except (ValueError, RecursionError):
            reply = None
        if not isinstance(reply, dict):
            raise self._failed("it answered something that is no JSON object")
        if "error" in reply:
            self._hear_out()
            said = printable(str(reply["error"]), "\n")[:500]
            raise self._failed(f"{during} failed with {said}")
        return reply

    def _hear_out(self) -> None:
        """Read on until it has ended: it says what failed before it prints where."""
        self.stdin.close()
        deadline = time.monotonic() + _LAST_WORDS_SECONDS
        while self._drain(0.2) and time.monotonic() < deadline:
            pass

    def close(self, until: float) -> None:
        """Let it end by itself."""
        self._look(now=True)
        self.stdin.close()
        while self._drain(0.2):
            if time.monotonic() > until:
                raise self._failed("it did not end in time")
        if self.inbox:
            raise self._failed("it said more than it was asked")
        if self._how_it_ended() != "exit code 0":
            raise self._failed(f"it did not end well ({self._how_it_ended()})")

    def _drain(self, timeout: float) -> bool:
        """Read what is there; False once both streams have ended, or the process has and what
        it left holds them open."""
        if self.stop.is_set():
            raise self._failed("it was stopped")
        self._look()
        ready = self.streams.select(timeout)
        for key, _ in ready:
            data = os.read(key.fd, 1 << 20)
            if not data:
                self.streams.unregister(key.fileobj)
                continue
            self.left -= len(data)
            if self.left < 0:
                raise self._failed("it wrote more output than the limit allows")
            key.data.extend(data)
            if key.data is self.said:
                del self.said[:-_STDERR_KEPT]
        return bool(self.streams.get_map()) and (bool(ready) or self.process.poll() is None)

    def _look(self, *, now: bool = False) -> None:
        if how := self.watch.look(now=now):
            raise self._failed(how)

    def _how_it_ended(self) -> str:
        deadline = time.monotonic() + 5
        while (code := self.process.poll()) is None:
            if time.monotonic() > deadline:
                return "it closed its output but runs on"
            self._look()
            time.sleep(0.01)
        return f"killed by signal {-code}" if code < 0 else f"exit code {code}"

    def _failed(self, how: str) -> BadInput:
        last = printable(self.said.decode(errors="replace"), "\n").split("\n")
        return _broken(how, " / ".join(line for line in last if line.strip())[-600:])


@contextmanager
def _started(
    isolation: Isolation, bundle: Path, limits: Limits, stop: threading.Event
) -> Iterator[_Process]:
    with tempfile.TemporaryDirectory(prefix="lynx-worker-", ignore_cleanup_errors=True) as scratch:
        environ = {"HOME": scratch, "TMPDIR": scratch, "PATH": os.defpath, "LANG": "C.UTF-8"}
        try:
            process = subprocess.Popen(
                isolation.command(bundle, limits),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environ,
                cwd=scratch,
                start_new_session=True,
            )
        except OSError as error:
            raise SystemFailed(f"the worker can't be started: {error}.") from None
        mark = f"HOME={scratch}".encode() if isolation.level == NONE else None
        watch = Watch(process.pid, limits, mark)
        try:
            yield _Process(process, watch, limits, stop)
        except LynxError:
            raise
        except OSError as error:
            raise SystemFailed(f"the worker's pipes failed: {error}.") from None
        finally:
            watch.end()
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    stream.close()
