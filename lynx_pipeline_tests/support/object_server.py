"""A web server that keeps what is uploaded to it with PUT, and a DVC remote that names it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from lynx_pipeline_tests.support.http_server import Answer, Request, serving


@dataclass
class ObjectServer:
    """The objects by their path, and the paths that were uploaded. ``override`` may answer
    instead."""

    objects: dict[str, bytes] = field(default_factory=dict)
    uploads: list[str] = field(default_factory=list)
    override: Callable[[Request], Answer | None] = lambda _: None

    def answer(self, request: Request) -> Answer:
        """Answer a request."""
        if found := self.override(request):
            return found
        if request.method == "PUT":
            self.objects[request.target] = request.body
            self.uploads.append(request.target)
            return Answer(status=201)
        known = request.target in self.objects
        return Answer(self.objects[request.target]) if known else Answer(status=404)


@contextmanager
def object_server(root: Path) -> Iterator[ObjectServer]:
    """A server, which the project in ``root`` calls the DVC remote ``web``."""
    server = ObjectServer()
    with serving(server.answer) as url:
        (root / ".dvc").mkdir(parents=True, exist_ok=True)
        (root / ".dvc/config").write_text(
            f"['remote \"web\"']\n    url = {url}\n    method = PUT\n"
        )
        yield server
