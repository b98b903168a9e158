"""A notification channel on this machine that records what it receives over HTTP."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from lynx_pipeline_tests.support.http_server import Answer, Request, serving


@dataclass
class Receiver:
    """``got`` are the received JSON values, and ``rejected`` those to which the response was an
    error; ``status`` is the status of its responses."""

    address: str
    got: list[dict[str, Any]] = field(default_factory=list)
    rejected: list[dict[str, Any]] = field(default_factory=list)
    status: int = 200

    @property
    def url(self) -> str:
        """Its address as an apprise URL, with a secret as such URLs often contain."""
        return self.address.replace("http://", "json://user:channel-secret@") + "/"

    def answer(self, request: Request) -> Answer:
        """Record the body."""
        (self.got if self.status == 200 else self.rejected).append(json.loads(request.body))
        return Answer(status=self.status)


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver for as long as the block runs."""
    with serving(lambda request: receiver.answer(request)) as address:
        receiver = Receiver(address)
        yield receiver
