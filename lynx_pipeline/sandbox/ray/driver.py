"""The process that speaks with a Ray cluster for :mod:`lynx_pipeline.sandbox.ray.engine`.

It is one of its own because Ray writes to its process's standard output, takes its signals, and
ends it when the cluster's head is gone.

On each node as many actors as it has room for hold one worker process each. A batch is taken when
an actor has room for it, two at most, so memory does not grow with the eval set. If an actor is
lost, with its node or alone, its batches are asked again elsewhere and it gets a successor.
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
from lynx_pipeline.sandbox.ray.node import Node, Ready, Shipped, Task, ship
from lynx_pipeline.sandbox.workers import Answered, Batch

_AHEAD = 2  # the batch that is answered, and one more
_TRIES = 3
GRACE = 60.0  # seconds that a node may be late: it keeps the limits itself
KEPT = "What was answered is kept; run this again."


@dataclass(frozen=True, slots=True)
class Order:
    """An evaluation: the software that every node has to have, the bundle, what the nodes are
    told, the most actors (0: one a CPU), and how many prompts there are."""

    software: Mapping[str, str]
    bundle: Path
    task: Task
    most: int
    prompts: int


def main() -> None:
    """Speak with the process that started this one. What is said is a pair of a word and a value;
    only ``take`` is answered."""
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
        pass  # nobody wants to know any more


@contextmanager
def _connected() -> Iterator[Any]:
    import ray

    try:
        ray.init(address="auto", log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise SystemFailed(
            f"no Ray cluster: {_line(error)} Start one with 'ray start --head', or name one with "
            "RAY_ADDRESS."
        ) from None
    try:
        yield ray
    except ray.exceptions.RayError as error:
        raise SystemFailed(f"Ray failed: {_line(error)} {KEPT}") from None
    finally:
        ray.shutdown()


@dataclass(slots=True)
class _Asked:
    batch: Batch
    losses: int = 0


@dataclass(slots=True, eq=False)
class _Seat:
    """One actor: the calls that it has not returned from and the batches that it has not
    answered, oldest first. ``node`` is empty until it is ready. A lost actor's successor takes
    its seat; ``losses`` counts those since the last answer."""

    actor: Any
    calls: deque[Any] = field(default_factory=deque)
    asked: deque[_Asked] = field(default_factory=deque)
    node: str = ""
    ended: bool = False
    heard: float = 0.0
    losses: int = 0


class _Run:
    """One evaluation."""

    def __init__(
        self,
        ray: Any,
        order: Order,
        take: Callable[[], Batch | None],
        warn: Callable[[str], None],
        gone: Callable[[], bool],
    ) -> None:
        self.ray, self.take, self.warn, self.gone = ray, take, warn, gone
        self.limits = order.task.limits
        self.end = time.monotonic() + self.limits.total_seconds
        self.order = order
        self.actors = ray.remote(num_cpus=1, scheduling_strategy="SPREAD")(Node)
        self.files: Shipped = ship(ray, order.bundle)
        cpus = order.most or int(ray.cluster_resources().get("CPU", 0))
        batches = -(-order.prompts // self.limits.batch_size)
        self.seats = [_Seat(None) for _ in range(max(1, min(cpus, batches)))]
        self.again: deque[_Asked] = deque()
        self.dry = False
        self.told: set[str] = set()
        self.served = time.monotonic()  # when there was a node last
        self.lost = ""

    def answers(self) -> Generator[Answered, None, None]:
        """Every batch's answers."""
        try:
            for seat in self.seats:
                self._start(seat)
            while True:
                for seat in self.seats:
                    self._fill(seat)
                busy = any(seat.asked or seat.ended for seat in self.seats)
                if self.dry and not self.again and not busy:
                    return
                calls = {seat.calls[0]: seat for seat in self.seats if seat.calls}
                done, _ = self.ray.wait(list(calls), num_returns=1, timeout=1.0)
                for call in done:
                    answered = self._hear(calls[call], call)
                    if answered is not None:
                        yield answered
                self._check(idle=not done)
        finally:
            for seat in self.seats:
                self._kill(seat)

    def _start(self, seat: _Seat) -> None:
        actor = seat.actor = self.actors.remote()
        left = self.end - time.monotonic()
        checked = actor.check.remote(self.order.software)
        seat.calls = deque([checked, actor.prepare.remote(self.order.task, self.files, left)])
        seat.node, seat.ended = "", False

    def _fill(self, seat: _Seat) -> None:
        """Give the actor what it has room for. One that has nothing to do waits for what others
        may lose."""
        while seat.node and not seat.ended and len(seat.asked) < _AHEAD:
            asked = self._next()
            if asked is not None:
                if not seat.asked:
                    seat.heard = time.monotonic()
                seat.asked.append(asked)
                seat.calls.append(seat.actor.ask.remote(asked.batch))
                continue
            if seat.asked:
                seat.ended = True
                seat.calls += [seat.actor.ask.remote(None), seat.actor.finish.remote()]
            return

    def _next(self) -> _Asked | None:
        if self.again:
            return self.again.popleft()
        batch = None if self.dry else self.take()
        self.dry = batch is None
        return None if batch is None else _Asked(batch)

    def _hear(self, seat: _Seat, call: Any) -> Answered | None:
        errors = self.ray.exceptions
        try:
            said = self.ray.get(call)
        except errors.RayTaskError as error:
            if not isinstance(error.cause, errors.RayError):
                raise
            self._lose(seat, _line(error.cause))
            return None
        except errors.RayError as error:
            if getattr(error, "actor_init_failed", False):
                raise SystemFailed(
                    "a Ray node does not have this version of lynx-pipeline: install "
                    "'lynx-pipeline[ray]' on every node as it is where the evaluation is started. "
                    f"It said: {str(error).strip().splitlines()[-1]}"
                ) from None
            self._lose(seat, _line(error))
            return None
        seat.calls.popleft()
        seat.heard = time.monotonic()
        if isinstance(said, LynxError):
            raise said
        if isinstance(said, Ready):
            seat.node = said.node
            for text in set(said.warnings) - self.told:
                self.told.add(text)
                self.warn(f"on the Ray node {said.node}: {text}")
        if seat.ended and not seat.calls:
            self._kill(seat)
            self.seats.remove(seat)
        if not isinstance(said, Answered):
            return None
        seat.asked.popleft()
        seat.losses = 0
        return said

    def _lose(self, seat: _Seat, why: str) -> None:
        """The actor is gone, or can't be relied on: ask its batches again, in a successor."""
        self._kill(seat)
        self.lost = f"a worker on the Ray node {seat.node or '(not yet ready)'} was lost: {why}"
        self.warn(f"{self.lost} {len(seat.asked)} batches are asked again.")
        if seat.asked:
            first = seat.asked[0]  # the one that was being answered
            first.losses += 1
            if first.losses == _TRIES:
                raise BadInput(
                    f"the candidate could not be evaluated: {_TRIES} workers were lost while they "
                    f"answered one batch, as if it took their nodes' memory. The last: {why}"
                )
        self.again.extendleft(reversed(seat.asked))
        seat.asked.clear()
        seat.losses += 1
        if seat.losses < _TRIES:
            self._start(seat)
            return
        self.seats.remove(seat)
        if not self.seats:
            raise SystemFailed(f"no Ray worker is left; {self.lost} {KEPT}")

    def _check(self, *, idle: bool) -> None:
        """Whether it is worth waiting on."""
        if self.gone():
            raise EOFError
        now = time.monotonic()
        if any(seat.node for seat in self.seats):
            self.served = now
        elif now - self.served > self.limits.load_seconds:
            last = f" The last one to do so: {self.lost}" if self.lost else ""
            raise SystemFailed(
                "no node of the Ray cluster took the candidate within load_seconds "
                f"({self.limits.load_seconds:g} s). 'ray status' shows whether a CPU is free."
                f"{last} {KEPT}"
            )
        if now > self.end + GRACE:
            raise SystemFailed(f"the Ray cluster did not answer within total_seconds. {KEPT}")
        longest = self.limits.load_seconds + self.limits.batch_seconds + GRACE
        for seat in [seat for seat in self.seats if idle and seat.asked]:
            if now - seat.heard > longest:
                self._lose(seat, "it was silent for too long.")

    def _kill(self, seat: _Seat) -> None:
        if seat.actor is not None:
            with suppress(self.ray.exceptions.RayError):
                self.ray.kill(seat.actor)


def _line(error: BaseException) -> str:
    """What Ray says in sentences; the lines that it sets in name ids."""
    lines = [line for line in str(error).splitlines() if not line.startswith(("\t", " "))]
    return " ".join(" ".join(lines).split())[:300].rstrip(".") + "."
