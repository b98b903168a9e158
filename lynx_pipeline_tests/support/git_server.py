"""Git repositories over HTTP(S) on this machine: ``git http-backend`` with access control.

An :data:`Authorize` function decides on each request.
"""

import base64
import binascii
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from lynx_pipeline_tests.support import http_server
from lynx_pipeline_tests.support.certificates import certificate, server_context
from lynx_pipeline_tests.support.http_server import Answer, Request

FETCH, PUSH = "git-upload-pack", "git-receive-pack"

Credentials = tuple[str, str]
# The HTTP status for a request with these credentials (None: no credentials) for a service (FETCH
# or PUSH) of a repository: 200, 401 for unknown credentials, or 403 for insufficient permissions.
Authorize = Callable[[Credentials | None, str, str], int]


@dataclass(frozen=True)
class Server:
    """A running server: its address, its certificate (if any) to trust with ``http.sslCAInfo`` or
    ``GIT_SSL_CAINFO``, and the ``Authorization`` header of each request."""

    url: str
    pem: Path
    authorizations: list[str]


@contextmanager
def serving(root: Path, authorize: Authorize, *, tls: bool = True) -> Iterator[Server]:
    """Serve the repositories under ``root`` for as long as the block runs."""
    pem, authorizations, context = root / "server.pem", list[str](), None
    if tls:
        pem.write_bytes(certificate())
        context = server_context(pem)

    def answer(request: Request) -> Answer:
        authorizations.append(request.authorization)
        path, query = urlsplit(request.target).path, urlsplit(request.target).query
        services = [path.rpartition("/")[2], *parse_qs(query).get("service", ())]
        service, repository = PUSH if PUSH in services else FETCH, path.split("/")[1]
        status = authorize(credentials(request.authorization), service, repository)
        if status == 200:
            return _backend(root, request)
        wanted = {"WWW-Authenticate": 'Basic realm="git"'} if status == 401 else {}
        return Answer(status=status, headers=wanted)

    with http_server.serving(answer, context) as url:
        yield Server(url, pem, authorizations)


def _backend(root: Path, request: Request) -> Answer:
    """The response of ``git http-backend``."""
    place = urlsplit(request.target)
    done = subprocess.run(
        ["git", "http-backend"],
        input=request.body,
        capture_output=True,
        env={
            **os.environ,
            "GIT_PROJECT_ROOT": str(root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_PROTOCOL": request.headers.get("Git-Protocol", ""),
            "PATH_INFO": place.path,
            "QUERY_STRING": place.query,
            "REQUEST_METHOD": request.method,
            "CONTENT_TYPE": request.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": request.headers.get("Content-Encoding", ""),
            "REMOTE_USER": "ci",
            "REMOTE_ADDR": "127.0.0.1",
        },
    )
    head, _, body = done.stdout.partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
    return Answer(body, int(headers.pop("Status", "200").split()[0]), headers)


def credentials(authorization: str) -> Credentials | None:
    """User and password of an ``Authorization`` header with basic authentication."""
    scheme, _, encoded = authorization.partition(" ")
    try:
        user, colon, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return (user, password) if scheme.lower() == "basic" and colon else None
