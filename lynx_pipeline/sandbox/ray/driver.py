"""The process that talks to a Ray cluster for :mod:`lynx_pipeline.sandbox.ray.engine`.

It is a separate process because Ray writes to its process's standard output, handles its signals,
and ends it when the cluster's head is gone.

Each node runs as many actors as it has CPUs for, with one worker process per actor. An actor has
at most two batches at a time, so memory does not grow with the eval set. If an actor is lost, alone
or with its node, its batches are retried elsewhere and a new actor replaces it.
"""

import logging
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from lynx_pipeline.errors import BadInput, LynxError, SystemFailed
from lynx_pipeline.sandbox.engine import Answered, Batch
from lynx_pipeline.sandbox.ray.node import Node, Ready, Shipped, Task, ship

_BATCHES_PER_ACTOR = 2  # the one being answered, and the next
_ATTEMPTS = 3
GRACE = 60.0  # seconds that a node may be late: it enforces the limits itself
KEPT = "The answers so far are kept; run this again."


@dataclass(frozen=True, slots=True)
class Order:
    """An evaluation: the software that every node must have, the bundle, the task for the nodes,
    the maximum number of actors (0: one per CPU), and the number of prompts."""

    software: Mapping[str, str]
    bundle: Path
    task: Task
    max_workers: int
    prompt_count: int


def main() -> None:
    """Serve the process that started this one. Each message is a pair (kind, value); only "take"
    gets a reply, the next batch."""
    pipe = Connection(int(sys.argv[1]))
    os.set_inheritable(pipe.fileno(), False)

    def take() -> Batch | None:
        pipe.send(("take", None))
        batch: Batch | None = pipe.recv()
        return batch

    try:
        order: Order = pipe.recv()
        with _connected() as ray:
            pipe.send(("connected", None))
            run = _Run(ray, order, take, lambda text: pipe.send(("warn", text)), pipe.poll)
            with closing(run.answers()) as answers:  # before Ray is left
                for answered in answers:
                    pipe.send(("answered", answered))
        pipe.send(("done", None))
    except LynxError as error:
        pipe.send(("failed", error))
    except (EOFError, BrokenPipeError):
        pass  # the process that started this one is gone


@contextmanager
def _connected() -> Iterator[Any]:
    import ray

    try:
        ray.init(address="auto", log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise SystemFailed(
            f"no Ray cluster was found: {_line(error)} Start one with 'ray start --head', or set "
            "RAY_ADDRESS to an existing one."
        ) from None
    try:
        yield ray
    except ray.exceptions.RayError as error:
        raise SystemFailed(f"Ray failed: {_line(error)} {KEPT}") from None
    finally:
        ray.shutdown()


@dataclass(slots=True)
class _Pending:
    batch: Batch
    losses: int = 0


@dataclass(slots=True, eq=False)
class _Slot:
    """A place for one actor: its open calls and unanswered batches, oldest first.

    ``node`` is empty until the actor is ready. ``finishing`` means that it gets no more batches.
    A lost actor's successor takes over the slot; ``losses`` counts losses since the last answer.
    """

    actor: Any
    calls: deque[Any] = field(default_factory=deque)
    pending: deque[_Pending] = field(default_factory=deque)
    node: str = ""
    finishing: bool = False
    last_reply: float = 0.0
    losses: int = 0


class _Run:
    """One evaluation."""

    def __init__(
        self,
        ray: Any,
        order: Order,
        take: Callable[[], Batch | None],
        warn: Callable[[str], None],
        cancelled: Callable[[], bool],
    ) -> None:
        self.ray, self.take, self.warn, self.cancelled = ray, take, warn, cancelled
        self.limits = order.task.limits
        self.end = time.monotonic() + self.limits.total_seconds
        self.order = order
        self.actors = ray.remote(num_cpus=1, scheduling_strategy="SPREAD")(Node)
        self.files: Shipped = ship(ray, order.bundle)
        cpus = order.max_workers or int(ray.cluster_resources().get("CPU", 0))
        batches = -(-order.prompt_count // self.limits.batch_size)
        self.slots = [_Slot(None) for _ in range(max(1, min(cpus, batches)))]
        self.retries: deque[_Pending] = deque()
        self.exhausted = False
        self.warned: set[str] = set()
        self.last_ready = time.monotonic()  # when an actor was ready
        self.last_loss = ""

    def answers(self) -> Generator[Answered, None, None]:
        """The answers to every batch."""
        try:
            for slot in self.slots:
                self._start(slot)
            while True:
                for slot in self.slots:
                    self._fill(slot)
                busy = any(slot.pending or slot.finishing for slot in self.slots)
                if self.exhausted and not self.retries and not busy:
                    return
                calls = {slot.calls[0]: slot for slot in self.slots if slot.calls}
                done, _ = self.ray.wait(list(calls), num_returns=1, timeout=1.0)
                for call in done:
                    answered = self._receive(calls[call], call)
                    if answered is not None:
                        yield answered
                self._check(idle=not done)
        finally:
            for slot in self.slots:
                self._kill(slot)

    def _start(self, slot: _Slot) -> None:
        actor = slot.actor = self.actors.remote()
        seconds = self.end - time.monotonic()
        check = actor.check.remote(self.order.software)
        slot.calls = deque([check, actor.prepare.remote(self.order.task, self.files, seconds)])
        slot.node, slot.finishing = "", False

    def _fill(self, slot: _Slot) -> None:
        """Give the actor more batches. An actor without any stays, in case others are lost."""
        while slot.node and not slot.finishing and len(slot.pending) < _BATCHES_PER_ACTOR:
            pending = self._next()
            if pending is not None:
                if not slot.pending:
                    slot.last_reply = time.monotonic()
                slot.pending.append(pending)
                slot.calls.append(slot.actor.ask.remote(pending.batch))
                continue
            if slot.pending:
                slot.finishing = True
                slot.calls += [slot.actor.ask.remote(None), slot.actor.finish.remote()]
            return

    def _next(self) -> _Pending | None:
        if self.retries:
            return self.retries.popleft()
        batch = None if self.exhausted else self.take()
        self.exhausted = batch is None
        return None if batch is None else _Pending(batch)

    def _receive(self, slot: _Slot, call: Any) -> Answered | None:
        errors = self.ray.exceptions
        try:
            reply = self.ray.get(call)
        except errors.RayTaskError as error:
            if not isinstance(error.cause, errors.RayError):
                raise
            self._handle_loss(slot, _line(error.cause))
            return None
        except errors.RayError as error:
            if getattr(error, "actor_init_failed", False):
                raise SystemFailed(
                    "a Ray node does not have this version of lynx-pipeline: install "
                    "'lynx-pipeline[ray]' on every node, the same version as on the machine that "
                    f"starts the evaluation. Ray reports: {str(error).strip().splitlines()[-1]}"
                ) from None
            self._handle_loss(slot, _line(error))
            return None
        slot.calls.popleft()
        slot.last_reply = time.monotonic()
        if isinstance(reply, LynxError):
            raise reply
        if isinstance(reply, Ready):
            slot.node = reply.node
            for text in set(reply.warnings) - self.warned:
                self.warned.add(text)
                self.warn(f"on the Ray node {reply.node}: {text}")
        if slot.finishing and not slot.calls:
            self._kill(slot)
            self.slots.remove(slot)
        if not isinstance(reply, Answered):
            return None
        slot.pending.popleft()
        slot.losses = 0
        return reply

    def _handle_loss(self, slot: _Slot, reason: str) -> None:
        """Replace an actor that is gone or does not respond, and retry its batches."""
        self._kill(slot)
        node = slot.node or "(not yet ready)"
        self.last_loss = f"a worker on the Ray node {node} was lost: {reason}"
        self.warn(f"{self.last_loss} Batches to retry: {len(slot.pending)}.")
        if slot.pending:
            first = slot.pending[0]  # the one that was being answered
            first.losses += 1
            if first.losses == _ATTEMPTS:
                raise BadInput(
                    f"the candidate could not be evaluated: {_ATTEMPTS} workers were lost while "
                    "answering the same batch, possibly because it used up their nodes' memory. "
                    f"The last one: {reason}"
                )
        self.retries.extendleft(reversed(slot.pending))
        slot.pending.clear()
        slot.losses += 1
        if slot.losses < _ATTEMPTS:
            self._start(slot)
            return
        self.slots.remove(slot)
        if not self.slots:
            raise SystemFailed(f"no Ray worker is left; {self.last_loss} {KEPT}")

    def _check(self, *, idle: bool) -> None:
        """Give up if the caller is gone, or on a cluster, node or actor that does not respond."""
        if self.cancelled():
            raise EOFError
        now = time.monotonic()
        if any(slot.node for slot in self.slots):
            self.last_ready = now
        elif now - self.last_ready > self.limits.load_seconds:
            loss = f" The last failure: {self.last_loss}" if self.last_loss else ""
            raise SystemFailed(
                "no node of the Ray cluster started the candidate within load_seconds "
                f"({self.limits.load_seconds:g} s). 'ray status' shows whether a CPU is free."
                f"{loss} {KEPT}"
            )
        if now > self.end + GRACE:
            raise SystemFailed(f"the Ray cluster did not answer within total_seconds. {KEPT}")
        longest = self.limits.load_seconds + self.limits.batch_seconds + GRACE
        for slot in [slot for slot in self.slots if idle and slot.pending]:
            if now - slot.last_reply > longest:
                self._handle_loss(slot, "it did not respond in time.")

    def _kill(self, slot: _Slot) -> None:
        if slot.actor is not None:
            with suppress(self.ray.exceptions.RayError):
                self.ray.kill(slot.actor)


def _line(error: BaseException) -> str:
    """Ray's message on one line, without the indented lines, which list ids."""

    lines = [line for line in str(error).splitlines() if not line.startswith(("\t", " "))]
    return " ".join(" ".join(lines).split())[:300].rstrip(".") + "."
