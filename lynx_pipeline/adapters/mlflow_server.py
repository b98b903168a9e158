"""MLflow's tracking server without MLflow's package: where a logged model is, and the artifacts
that the server itself serves.

A server that only fetches models needs no more of MLflow than this, and importing MLflow takes
seconds. Nothing that the server sends is trusted: names can't leave the target folder, everything
is listed and checked against the limits before anything is downloaded, and a file is as long as the
listing says. Whether a location is allowed is decided in
:func:`lynx_pipeline.adapters.mlflow_models.check_location`.
"""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from lynx_pipeline.adapters.mlflow_http import Server, can_connect
from lynx_pipeline.domain.bundle import BUNDLE_MIB, Tally
from lynx_pipeline.errors import BadInput, NotFound, from_os_error

if TYPE_CHECKING:
    from http.client import HTTPResponse

_ARTIFACTS = "mlflow-artifacts/artifacts"
_BLOCK = 1 << 20  # bytes


class _Listed(NamedTuple):
    """A file or folder of the artifact service; ``size`` is a file's, in bytes."""

    path: str
    is_folder: bool
    size: int


def serves(tracking_uri: str, location: str) -> bool:
    """Whether the server itself serves this location, and this module can connect to it."""
    parts = urlsplit(location)
    return can_connect(tracking_uri) and parts.scheme == "mlflow-artifacts" and not parts.netloc


def logged_model_location(tracking_uri: str, model_id: str) -> str:
    """Where the files of a logged model are.

    Raises:
        BadInput: there is no such model.
        SystemFailed: the server failed.
    """
    server, path = Server(tracking_uri), f"mlflow/logged-models/{model_id}"
    try:
        answer = server.get_json(path)
    except NotFound:
        raise no_logged_model(server.name, model_id) from None
    try:
        info = answer["model"]["info"]
        found, location = info["model_id"], info["artifact_uri"]
    except (KeyError, TypeError):
        found = location = None
    if found != model_id or not isinstance(location, str):
        raise server.malformed(path, f"expected the logged model {model_id}, got {found!r:.80}")
    return location


def download(
    tracking_uri: str,
    location: str,
    folder: Path,
    mib: int = BUNDLE_MIB,
    listed: Callable[[Tally], None] = lambda _: None,
) -> None:
    """Download everything below ``location``, which the server :func:`serves`, into ``folder``,
    which must not exist yet. ``mib`` limits the total size. ``listed`` is called before the
    download.

    Raises:
        BadInput: there is nothing, or it is beyond a limit. Then nothing is downloaded.
        SystemFailed: the server or the disk failed, or the server sent something invalid.
    """
    server, root = Server(tracking_uri), urlsplit(location).path.strip("/")
    tally = Tally(mib)
    try:
        everything = list(_everything(server, root, tally))
    except BadInput as error:
        raise BadInput(f"the model at {location!r:.200}: {error}") from None
    if not everything:
        raise no_files(server.name, location)
    listed(tally)
    with _disk(folder):
        folder.mkdir(parents=True)
    for it in everything:
        target = folder / _below(root, it.path)
        if it.is_folder:
            with _disk(target):
                target.mkdir()
        else:
            _save(server, it, target)


def no_logged_model(server: str, model_id: str) -> NotFound:
    """The error that a logged model does not exist. ``server`` is the server's name."""
    return NotFound(
        f"MLflow at {server} has no logged model {model_id}. It may have been deleted. Check "
        "MLFLOW_TRACKING_URI."
    )


def no_files(server: str, location: str) -> NotFound:
    """The error that a model's files don't exist."""
    return NotFound(
        f"MLflow at {server} has no files at {location!r:.200} any more. They may have been "
        "deleted."
    )


def _below(root: str, path: str) -> str:
    return path[len(root) :].lstrip("/")


def _everything(server: Server, root: str, tally: Tally) -> Iterator[_Listed]:
    """Everything below ``root``, breadth first, so that many folders are noticed before each is
    listed."""
    waiting = deque([root])
    while waiting:
        for it in _listing(server, waiting.popleft()):
            if it.is_folder:
                tally.add_folder(_below(root, it.path))
                waiting.append(it.path)
            else:
                tally.add_file(_below(root, it.path), it.size)
            yield it


def _listing(server: Server, path: str) -> list[_Listed]:
    """What is in the folder ``path``."""
    rows = server.get_json(_ARTIFACTS, {"path": path}).get("files", [])
    if not isinstance(rows, list):
        raise server.malformed(_ARTIFACTS, "expected a list of files")
    listed = dict[str, _Listed]()
    for row in rows:
        name = _name(row)
        if name is None or name in listed:
            shown = row.get("path") if isinstance(row, dict) else row
            raise server.malformed(_ARTIFACTS, f"invalid or duplicate name {shown!r:.100}")
        size = str(row.get("file_size") or 0)  # of an empty file, the server sends no size
        if not (size.isascii() and size.isdigit() and len(size) < 19):
            raise server.malformed(_ARTIFACTS, f"invalid size {size:.40} of {name:.100}")
        below = f"{path}/{name}".lstrip("/")
        listed[name] = _Listed(below, row.get("is_dir") is True, int(size))
    return list(listed.values())


def _name(row: Any) -> str | None:
    """The name of a listed file or folder; None unless it names something in the folder itself."""
    name = row.get("path") if isinstance(row, dict) else None
    if not isinstance(name, str) or name in ("", ".", "..") or "/" in name or "\0" in name:
        return None
    try:
        name.encode()
    except UnicodeEncodeError:
        return None
    return name


def _save(server: Server, listed: _Listed, target: Path) -> None:
    path = f"{_ARTIFACTS}/{listed.path}"

    def receive(response: "HTTPResponse") -> None:
        size = 0
        with _disk(target):
            file = target.open("wb", buffering=0)
        with file:
            while block := response.read(_BLOCK):
                size += len(block)
                if size > listed.size:
                    raise server.malformed(path, f"more than the listed {listed.size} bytes")
                with _disk(target):
                    while block:
                        block = block[file.write(block) :]
        if size < listed.size:
            raise ConnectionError(f"got {size} of {listed.size} bytes")

    server.get(path, receive)


@contextmanager
def _disk(path: Path) -> Iterator[None]:
    """Report errors of the disk, which would otherwise look like the network's and be retried."""
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        raise from_os_error(error) from None
