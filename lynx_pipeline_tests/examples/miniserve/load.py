"""Constant load on a service, and a summary of what it answered.

``python -m lynx_pipeline_tests.examples.miniserve.load URL SECONDS`` asks a running service.
"""

import json
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, NamedTuple

THREADS = 4
PAUSE = 0.005  # between two requests of one thread, in seconds


def post(url: str, body: Any, seconds: float = 30.0) -> Any:
    """The JSON that the service returns."""
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=seconds) as response:
        return json.load(response)


class Reply(NamedTuple):
    """An answer to a prompt, by which version, when it came and how long it took, in seconds."""

    prompt: str
    answer: str
    version: str
    time: float
    seconds: float


@dataclass
class Load:
    """Requests to ``url``. ``replies`` are those of each thread, in order."""

    url: str
    replies: list[list[Reply]] = field(default_factory=lambda: [[] for _ in range(THREADS)])
    lost: list[str] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    @contextmanager
    def running(self) -> Iterator["Load"]:
        """Ask for as long as the block runs."""
        stop = threading.Event()
        threads = [
            threading.Thread(target=self._ask, args=(number, stop)) for number in range(THREADS)
        ]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            stop.set()
            for thread in threads:
                thread.join()

    def _ask(self, number: int, stop: threading.Event) -> None:
        while not stop.wait(PAUSE):
            prompt = f"Say {number}.{len(self.replies[number])}"
            before = time.monotonic()
            try:
                got = post(f"{self.url}/predict", {"prompts": [prompt]})
                (answer,) = got["answers"]
            except (OSError, ValueError, KeyError) as error:
                self.lost.append(repr(error))
                continue
            now = time.monotonic()
            reply = Reply(prompt, answer, got["version"], now - self.started, now - before)
            self.replies[number].append(reply)

    def every_thread_got(self, version: str) -> bool:
        """Whether this version gave each thread its last answer."""
        return all(replies and replies[-1].version == version for replies in self.replies)

    def orders(self) -> list[list[str]]:
        """For each thread, the versions that answered it, one after the other."""
        return [[version for version, _ in groupby(r.version for r in it)] for it in self.replies]

    def all(self) -> list[Reply]:
        """All replies, in the order in which they came."""
        return sorted((it for replies in self.replies for it in replies), key=lambda it: it.time)

    def summary(self) -> str:
        """The numbers of requests, and which versions answered when."""
        replies = self.all()
        served = []
        for version, group in groupby(self.replies[0], key=lambda it: it.version):
            times = [it.time for it in group]
            served.append(f"{version} from {times[0]:.1f} s to {times[-1]:.1f} s")
        return (
            f"requests {len(replies) + len(self.lost)}, lost {len(self.lost)}, slowest "
            f"{max(it.seconds for it in replies):.2f} s, versions served: {', '.join(served)}"
        )


if __name__ == "__main__":
    with Load(sys.argv[1]).running() as load:
        time.sleep(float(sys.argv[2]))
    print(load.summary())
