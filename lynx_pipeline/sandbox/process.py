"""One worker process, seen from outside: this side of the protocol that
:mod:`lynx_pipeline.sandbox.inside.worker` speaks.

The candidate controls what that process writes. Its output is validated, bounded in size and read
against a deadline; whether the answers are right is decided elsewhere.
"""

import json
import os
import selectors
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from lynx_pipeline.config import Limits
from lynx_pipeline.domain.candidate_eval import NONE
from lynx_pipeline.errors import LynxError, SystemFailed
from lynx_pipeline.sandbox.engine import Answered, Batch, Form
from lynx_pipeline.sandbox.failure import CandidateFailed, failed
from lynx_pipeline.sandbox.hints import hint_text
from lynx_pipeline.sandbox.isolation import Isolation
from lynx_pipeline.sandbox.watch import Watch

_STDERR_KEPT = 1 << 20  # bytes
_EXIT_SECONDS = 5.0


def serve(
    bundle: Path,
    isolation: Isolation,
    limits: Limits,
    take: Callable[[], Batch | None],
    end: float,
    stop: threading.Event,
    form: Form = Form(),  # noqa: B008  # immutable
) -> Iterator[Answered]:
    """Run one worker process on the batches from ``take`` until it returns None, ``end`` (on the
    monotonic clock) is reached, or ``stop`` is set. The next batch is sent before the current one
    is answered.

    The process sees running numbers instead of row numbers.

    Raises:
        BadInput, SystemFailed: see :class:`~lynx_pipeline.sandbox.engine.Engine`.
    """
    sent = 0
    with _started(isolation, bundle, limits, stop, form) as worker:
        ready = worker.receive(min(end, time.monotonic() + limits.load_seconds), "loading")
        load_seconds = _amount(ready, "ready")

        def send(batch: Batch, deadline: float, phase: str) -> None:
            ids = list(range(sent, sent + len(batch.rows)))
            worker.send({"ids": ids, "prompts": batch.prompts}, deadline, phase)

        batch = take()
        if batch:
            send(batch, min(end, time.monotonic() + limits.batch_seconds), "")
        while batch:
            ids = list(range(sent, sent + len(batch.rows)))
            sent += len(ids)
            phase = f"the batch of items {ids[0] + 1} to {sent}"
            deadline = min(end, time.monotonic() + limits.batch_seconds)
            following = take()
            if following:
                send(following, deadline, phase)
            reply = worker.receive(deadline, phase, len(ids))
            seconds, answers = _validated(reply, ids)
            peak = _amount(reply, "peak_mib")
            yield Answered(batch.rows, answers, seconds, load_seconds, peak, isolation.level)
            batch = following
        worker.close(min(end, time.monotonic() + limits.batch_seconds))


def _validated(reply: Mapping[str, Any], ids: list[int]) -> tuple[float, list[str | None]]:
    """Seconds and answers of a reply to the prompts ``ids``."""
    answers = reply.get("predictions")
    if not isinstance(answers, list):
        raise failed(f"it returned no list of predictions for {len(ids)} prompts")
    if len(answers) != len(ids):
        raise failed(f"it returned {len(answers)} predictions for {len(ids)} prompts")
    if reply.get("ids") != ids:
        raise failed("it returned ids that differ from the requested ones")
    for text in answers:
        if text is not None and not isinstance(text, str):
            raise failed(f"it returned {type(text).__name__}, expected text or null")
        if text is not None and not text.isprintable() and not _is_unicode(text):
            raise failed("it returned an unpaired surrogate, which is not valid text")
    return _amount(reply, "seconds"), answers


def _size_is_plausible(line: bytes, count: int) -> bool:
    """Whether a line of JSON has about as many values as a reply to ``count`` prompts, however
    long its texts are. Parsing millions of small values takes 25 times their size in memory."""
    line = line.replace(rb"\\", b"").replace(rb"\"", b"")
    if line.count(b'"') > 1000 + 2 * count:
        return False
    return sum(map(len, line.split(b'"')[::2])) <= 10_000 + 50 * count


def _is_unicode(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _amount(reply: Mapping[str, Any], key: str) -> float:
    value = reply.get(key)
    if isinstance(value, bool) or not isinstance(value, float | int) or not 0 <= value < 1e9:
        raise failed(f"it reported {key} = {value!r:.40}, expected a number from 0 to 1e9")
    return float(value)


class _Worker:
    """The process and its pipes, with a deadline for each operation and a limit on output.

    ``phase`` names the step that is under way, for error messages.
    """

    def __init__(
        self,
        process: "subprocess.Popen[bytes]",
        watch: Watch,
        limits: Limits,
        stop: threading.Event,
        bundle: str,
    ) -> None:
        assert process.stdin and process.stdout and process.stderr
        self.process = process
        self.watch = watch
        self.stop = stop
        self.bundle = bundle
        self.stdin: IO[bytes] = process.stdin
        self.max_output = self.output_left = limits.output_mib << 20
        self.stdout = bytearray()
        self.stderr = bytearray()
        self.streams = selectors.DefaultSelector()
        self.streams.register(process.stdout, selectors.EVENT_READ, self.stdout)
        self.streams.register(process.stderr, selectors.EVENT_READ, self.stderr)
        os.set_blocking(self.stdin.fileno(), False)

    def send(self, message: Mapping[str, Any], deadline: float, phase: str) -> None:
        data = memoryview(json.dumps(message).encode() + b"\n")
        with selectors.DefaultSelector() as writable:
            writable.register(self.stdin, selectors.EVENT_WRITE)
            while data:
                try:
                    if writable.select(timeout=0.2):
                        data = data[os.write(self.stdin.fileno(), data) :]
                except BrokenPipeError:
                    return  # receive() reports how the process ended
                if time.monotonic() > deadline:
                    if phase:
                        raise self._failed(f"it ran out of time during {phase}")
                    raise self._failed("it did not read its input in time")
                self._read(0)

    def receive(self, deadline: float, phase: str, count: int = 0) -> Mapping[str, Any]:
        """The next message, a reply to ``count`` prompts."""
        searched, self.output_left = 0, self.max_output - len(self.stdout)
        while (newline := self.stdout.find(b"\n", searched)) < 0:
            searched = len(self.stdout)
            seconds = deadline - time.monotonic()
            if seconds <= 0:
                raise self._failed(f"it ran out of time during {phase}")
            if not self._read(min(seconds, 0.2)):
                raise self._failed(f"it ended during {phase} ({self._exit_status()})")
        line = bytes(self.stdout[:newline])
        del self.stdout[: newline + 1]
        if not _size_is_plausible(line, count):
            raise self._failed("it returned far more values than expected")
        try:
            reply = json.loads(line)
        except (ValueError, RecursionError):
            reply = None
        if not isinstance(reply, dict):
            raise self._failed("it returned something that is not a JSON object")
        if "error" in reply:
            self._read_to_end()
            hint = hint_text(reply.get("hint"))
            raise self._failed(f"{phase} failed", str(reply["error"]), hint)
        return reply

    def _read_to_end(self) -> None:
        """Wait for the traceback, which the process prints after it has reported the error."""
        self.stdin.close()
        deadline = time.monotonic() + _EXIT_SECONDS
        while self._read(0.2) and time.monotonic() < deadline:
            pass

    def close(self, deadline: float) -> None:
        """Let the process end by itself."""
        self._check_usage(now=True)
        self.stdin.close()
        while self._read(0.2):
            if time.monotonic() > deadline:
                raise self._failed("it did not exit in time")
        if self.stdout:
            raise self._failed("it sent data after its last answer")
        if self._exit_status() != "exit code 0":
            raise self._failed(f"it did not exit cleanly ({self._exit_status()})")

    def _read(self, timeout: float) -> bool:
        """Read available output. False when there can be no more: both streams have ended, or the
        process has, even if a child of it still holds them open."""
        if self.stop.is_set():
            raise self._failed("it was stopped")
        self._check_usage()
        ready = self.streams.select(timeout)
        for key, _ in ready:
            data = os.read(key.fd, 1 << 20)
            if not data:
                self.streams.unregister(key.fileobj)
                continue
            self.output_left -= len(data)
            if self.output_left < 0:
                raise self._failed("it wrote more output than the limit allows")
            key.data.extend(data)
            if key.data is self.stderr:
                del self.stderr[:-_STDERR_KEPT]
        return bool(self.streams.get_map()) and (bool(ready) or self.process.poll() is None)

    def _check_usage(self, *, now: bool = False) -> None:
        if reason := self.watch.check(now=now):
            raise self._failed(reason)

    def _exit_status(self) -> str:
        deadline = time.monotonic() + _EXIT_SECONDS
        while (code := self.process.poll()) is None:
            if time.monotonic() > deadline:
                return "it closed its output but is still running"
            self._check_usage()
            time.sleep(0.01)
        return f"killed by signal {-code}" if code < 0 else f"exit code {code}"

    def _failed(self, reason: str, error: str = "", hint: str = "") -> CandidateFailed:
        return failed(reason, error, bytes(self.stderr), self.bundle, hint)


@contextmanager
def _started(
    isolation: Isolation, bundle: Path, limits: Limits, stop: threading.Event, form: Form
) -> Iterator[_Worker]:
    arguments = [] if form == Form() else [json.dumps(form._asdict())]
    with tempfile.TemporaryDirectory(prefix="lynx-worker-", ignore_cleanup_errors=True) as scratch:
        environ = {"HOME": scratch, "TMPDIR": scratch, "PATH": os.defpath, "LANG": "C.UTF-8"}
        try:
            process = subprocess.Popen(
                [*isolation.command(bundle, limits), *arguments],
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
            yield _Worker(process, watch, limits, stop, isolation.inside(bundle))
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
