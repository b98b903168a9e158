"""A small MLflow server for tests, whose answers can be replaced by invalid ones."""

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from lynx_pipeline_tests.support.http_server import Answer, Request

MODEL = "m-" + "0123456789abcdef" * 2
API = "/api/2.0/mlflow-artifacts/artifacts"
ROOT = "mlflow-artifacts:/1/model"
FILES = {"MLmodel": b"flavors: {}\n", "code/a b%20ü#?.py": b"x" * 3_000_000, "empty": b""}


class Mlflow:
    """A server of :data:`FILES`. ``override`` may answer in its place."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.override: Callable[[Request], Answer | None] = lambda _: None

    def answer(self, request: Request) -> Answer:
        self.requests.append(request)
        return self.override(request) or self._answer(request)

    def _answer(self, request: Request) -> Answer:
        parts = urlsplit(request.target)
        if parts.path == f"/api/2.0/mlflow/logged-models/{MODEL}":
            return as_json({"model": {"info": {"model_id": MODEL, "artifact_uri": ROOT}}})
        if parts.path != API:
            name = unquote(parts.path).removeprefix(f"{API}/1/model/")
            return Answer(FILES[name])
        below = parse_qs(parts.query)["path"][0].removeprefix("1/model").lstrip("/")
        names = [name.removeprefix(f"{below}/") for name in FILES if name.startswith(below)]
        rows = [
            row(it, len(FILES["/".join(filter(None, (below, it)))]))
            for it in names
            if "/" not in it
        ]
        folders = {it.partition("/")[0] for it in names if "/" in it}
        return as_json({"files": rows + [{"path": it, "is_dir": True} for it in folders]})


def as_json(value: Any) -> Answer:
    """A JSON response."""
    return Answer(json.dumps(value).encode(), headers={"Content-Type": "application/json"})


def row(path: Any, size: Any = 1) -> dict[str, Any]:
    """A listed file. MLflow leaves out a size of 0."""
    return {"path": path, "is_dir": False, **({"file_size": size} if size else {})}


def listing(*rows: Any) -> Callable[[Request], Answer | None]:
    """Answer every request for a listing with these rows."""
    return lambda it: as_json({"files": rows}) if urlsplit(it.target).path == API else None
