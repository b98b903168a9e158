"""HTTP servers on this machine, for tests."""

import json
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Request:
    """An HTTP request. ``target`` is the path with its query."""

    method: str
    target: str
    headers: Message
    body: bytes

    @property
    def authorization(self) -> str:
        """The ``Authorization`` header; empty if it is missing."""
        return str(self.headers.get("Authorization", ""))


@dataclass(frozen=True)
class Answer:
    """An HTTP response."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


def json_answer(
    value: object, status: int = 200, headers: Mapping[str, str] | None = None
) -> Answer:
    """A response with this value as JSON."""
    kind = {"Content-Type": "application/json"}
    return Answer(json.dumps(value).encode(), status, {**kind, **(headers or {})})


class _Server(ThreadingHTTPServer):
    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.connections: list[socket.socket] = []

    def get_request(self) -> tuple[socket.socket, Any]:
        """Remember the connection, so that it is closed with the server."""
        connection, address = super().get_request()
        self.connections.append(connection)
        return connection, address

    def server_close(self) -> None:
        """Stop serving, on open connections too."""
        super().server_close()
        for connection in self.connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print errors of the server, but not that a client hung up or rejected the certificate."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


@contextmanager
def serving(
    answer: Callable[[Request], Answer], tls: ssl.SSLContext | None = None
) -> Iterator[str]:
    """Answer every request with ``answer``, each in its own thread; yields the server's URL.

    Other processes can reach the server too.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # keep-alive, and uploads may be chunked
        disable_nagle_algorithm = True  # otherwise a body waits 40 ms behind its headers

        def _answer(self) -> None:
            made = answer(Request(self.command, self.path, self.headers, self._body()))
            self.send_response(made.status)
            for name, value in made.headers.items():
                self.send_header(name, value)
            if "Content-Length" not in made.headers:  # otherwise the body is to be cut off
                self.send_header("Content-Length", str(len(made.body)))
            with suppress(ConnectionError):  # the client may have read enough
                self.end_headers()
                self.wfile.write(made.body)

        do_GET = do_POST = do_PATCH = do_PUT = _answer

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            chunks = []
            while size := int(self.rfile.readline(), 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(chunks)

        def log_message(self, *_: Any) -> None:
            """Print nothing."""

    with _Server(Handler) as server:
        if tls is not None:
            # The handshake happens in the request's thread, since a client may never start one.
            server.socket = tls.wrap_socket(
                server.socket, server_side=True, do_handshake_on_connect=False
            )
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
