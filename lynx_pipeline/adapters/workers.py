"""The candidate's process: started, asked in batches, stopped in time. What it answers is not
believed beyond its form.
"""

import json
import os
import selectors
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from lynx_pipeline.adapters.isolation import Isolation
from lynx_pipeline.config import Limits
from lynx_pipeline.errors import BadInput, LynxError, SystemFailed

_STDERR_KEPT = 4000


@dataclass(frozen=True, slots=True)
class Answers:
    """What a candidate answered: ``predictions`` by item id, seconds an item by id, seconds to
    load the model, and peak memory of the process in MiB."""

    predictions: Mapping[str, str | None]
    seconds: Mapping[str, float]
    load_seconds: float
    peak_mib: float


def answer(
    bundle: Path,
    prompts: Sequence[tuple[str, str]],
    isolation: Isolation,
    limits: Limits,
    progress: Callable[[int, int], None],
) -> Answers:
    """Ask the bundle every prompt, given as (item id, prompt) in the order to ask.

    The process sees running numbers in place of the ids. ``progress`` is told (done, all).

    Raises:
        BadInput: the candidate crashed, was too slow or too large, or answered out of form.
        SystemFailed: the process could not be started.
    """
    predictions: dict[str, str | None] = {}
    seconds: dict[str, float] = {}
    peak = 0.0
    end = time.monotonic() + limits.total_seconds
    with _started(isolation.command(bundle, limits.memory_mib), limits) as process:
        hello = process.receive(min(end, time.monotonic() + limits.load_seconds), "loading")
        load_seconds = _amount(hello, "ready")
        for start in range(0, len(prompts), limits.batch_size):
            batch = prompts[start : start + limits.batch_size]
            ids = list(range(start, start + len(batch)))
            until = min(end, time.monotonic() + limits.batch_seconds)
            process.send({"ids": ids, "prompts": [prompt for _, prompt in batch]}, until)
            reply = process.receive(until, f"the batch of items {start + 1} to {start + len(ids)}")
            took, answers = _checked(reply, ids)
            for (item_id, _), text in zip(batch, answers, strict=True):
                predictions[item_id] = text
                seconds[item_id] = took / len(ids)
            progress(start + len(ids), len(prompts))
            peak = _amount(reply, "peak_mib")
        process.close(end)
    return Answers(predictions, seconds, load_seconds, peak)


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

    def __init__(self, process: "subprocess.Popen[bytes]", limits: Limits) -> None:
        assert process.stdin and process.stdout and process.stderr
        self.process = process
        self.stdin: IO[bytes] = process.stdin
        self.left = limits.output_mib << 20
        self.inbox = bytearray()
        self.said = bytearray()
        self.streams = selectors.DefaultSelector()
        self.streams.register(process.stdout, selectors.EVENT_READ, self.inbox)
        self.streams.register(process.stderr, selectors.EVENT_READ, self.said)
        os.set_blocking(self.stdin.fileno(), False)

    def send(self, message: Mapping[str, Any], until: float) -> None:
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
                    raise self._failed("it did not take its input in time")
                self._drain(0)

    def receive(self, until: float, during: str) -> Mapping[str, Any]:
        searched = 0
        while (newline := self.inbox.find(b"\n", searched)) < 0:
            searched = len(self.inbox)
            left = until - time.monotonic()
            if left <= 0:
                raise self._failed(f"it ran out of time during {during}")
            if not self._drain(min(left, 1.0)):
                raise self._failed(f"it ended during {during} ({self._how_it_ended()})")
        line = bytes(self.inbox[:newline])
        del self.inbox[: newline + 1]
        try:
            reply = json.loads(line)
        except (ValueError, RecursionError):
            reply = None
        if not isinstance(reply, dict):
            raise self._failed("it answered something that is no JSON object")
        if "error" in reply:
            raise self._failed(f"{during} failed with {_printable(str(reply['error']))[:500]}")
        return reply

    def close(self, until: float) -> None:
        """Let it end by itself."""
        self.stdin.close()
        while self._drain(1.0):
            if time.monotonic() > until:
                raise self._failed("it did not end in time")
        if self._how_it_ended() != "exit code 0":
            raise self._failed(f"it did not end well ({self._how_it_ended()})")

    def _drain(self, timeout: float) -> bool:
        """Read what is there; False once both streams have ended."""
        for key, _ in self.streams.select(timeout):
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
        return bool(self.streams.get_map())

    def _how_it_ended(self) -> str:
        try:
            code = self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return "it closed its output but runs on"
        return f"killed by signal {-code}" if code < 0 else f"exit code {code}"

    def _failed(self, how: str) -> BadInput:
        last = _printable(self.said.decode(errors="replace")).split("\n")
        return _broken(how, " / ".join(line for line in last if line.strip())[-600:])


@contextmanager
def _started(command: list[str], limits: Limits) -> Iterator[_Process]:
    with tempfile.TemporaryDirectory(prefix="lynx-worker-") as scratch:
        environ = {"HOME": scratch, "TMPDIR": scratch, "PATH": os.defpath, "LANG": "C.UTF-8"}
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environ,
                cwd=scratch,
                start_new_session=True,
            )
        except OSError as error:
            raise SystemFailed(f"the worker can't be started: {error}.") from None
        try:
            yield _Process(process, limits)
        except LynxError:
            raise
        except OSError as error:
            raise SystemFailed(f"the worker's pipes failed: {error}.") from None
        finally:
            _end(process)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Kill whatever is left; under bubblewrap its whole pid namespace goes with it."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            stream.close()


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)
