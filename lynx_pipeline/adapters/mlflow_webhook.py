"""MLflow's webhooks about aliases: a server that MLflow calls when somebody sets one.

- Every request is authenticated: MLflow signs its id, its time and its body with the webhook's
  secret (HMAC-SHA256; https://mlflow.org/docs/latest/ml/webhooks). Its time must be within five
  minutes of ours.
- A request can be repeated within that time, and what it says may be out of date. So it only names
  a model to check; what the alias names is for the caller to find out.
- Strangers can neither hold a connection for long nor open many. TLS is left to a reverse proxy.
"""

import base64
import hashlib
import hmac
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from lynx_pipeline.domain.strict_json import parse
from lynx_pipeline.errors import BadInput, Refused

VARIABLE = "LYNX_WEBHOOK_SECRET"
_ENTITY = "model_version_alias"
_SHORTEST = 16  # bytes of a secret
_MOST_OFF = 300  # seconds between MLflow's clock and ours
_MAX_BYTES = 65_536
_REQUEST_SECONDS = 10  # from the connection to the response
_CONNECTIONS = 16  # at the same time
_QUIET = 60  # seconds between two lines about refused requests


def read_secret() -> bytes:
    """The webhook's secret, from the environment.

    Raises:
        BadInput: it is missing or too short.
    """
    secret = os.fsencode(os.environ.get(VARIABLE, "").strip())
    if len(secret) < _SHORTEST:
        raise BadInput(
            f"{VARIABLE}: expected the secret of MLflow's webhook, at least {_SHORTEST} "
            "characters. Make one: openssl rand -hex 32."
        )
    return secret


def verify_request(headers: Message, body: bytes, secret: bytes, now: float) -> str | None:
    """The registered model whose alias was set or deleted; None if the request is about something
    else.

    Raises:
        Refused: the request is not signed with this secret, or its time is not ours.
        BadInput: it is signed, and malformed.
    """
    moment = headers.get("X-MLflow-Timestamp", "")
    content = f"{headers.get('X-MLflow-Delivery-Id', '')}.{moment}.".encode() + body
    made = base64.b64encode(hmac.digest(secret, content, hashlib.sha256)).decode()
    given = headers.get("X-MLflow-Signature", "")
    if not hmac.compare_digest(given.encode(), f"v1,{made}".encode()):
        raise Refused("the request is not signed with the secret of the webhook.")
    if not re.fullmatch("[0-9]{1,12}", moment) or abs(now - int(moment)) > _MOST_OFF:
        raise Refused(
            f"the request's time differs from this machine's by more than {_MOST_OFF} seconds. "
            "Check both clocks."
        )
    match parse(body, "the request"):
        case {"entity": str(entity)} if entity != _ENTITY:
            return None
        case {"entity": str(), "data": {"name": str(name)}}:
            return name
    raise BadInput("the request: expected an object with 'entity' and 'data.name'.")


class WebhookServer(ThreadingHTTPServer):
    """Calls ``reported`` with the name of each registered model whose alias MLflow reports. It must
    return at once: MLflow waits for the response. ``say`` gets a line about a refused request, at
    most one a minute.

    Raises:
        BadInput: the address can't be used.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self,
        address: tuple[str, int],
        secret: bytes,
        reported: Callable[[str], None],
        say: Callable[[str], None],
    ) -> None:
        self.secret, self.reported, self._say = secret, reported, say
        self._free = threading.Semaphore(_CONNECTIONS)
        self._quiet_until = 0.0
        try:
            super().__init__(address, _Handler)
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            host, port = address
            raise BadInput(f"can't listen on {host}:{port}: {reason}. Choose another.") from None

    def process_request(self, request: Any, client_address: Any) -> None:
        """Handle it in a thread, or hang up if there are too many."""
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Handle it, for a limited time."""
        end = threading.Timer(_REQUEST_SECONDS, _hang_up, (request,))
        end.daemon = True
        end.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            end.cancel()
            self._free.release()

    def refused(self, error: str) -> None:
        """Say that a request was refused, unless that was said just before."""
        now = time.monotonic()
        if now >= self._quiet_until:
            self._quiet_until = now + _QUIET
            self._say(f"A request was refused: {error}")

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print a bug, but not that a client hung up."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


def _hang_up(connection: socket.socket) -> None:
    with suppress(OSError):  # it has ended
        connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    server: WebhookServer

    def do_POST(self) -> None:
        """Take a request, and say in the response what is wrong with it."""
        length = self.headers.get("Content-Length", "")
        if not length:
            self._respond(411, "expected the header Content-Length.")
            return
        if not re.fullmatch("[0-9]{1,5}", length) or int(length) > _MAX_BYTES:
            self._respond(413, f"expected a body of at most {_MAX_BYTES} bytes.")
            return
        body = self.rfile.read(int(length))
        try:
            name = verify_request(self.headers, body, self.server.secret, time.time())
        except Refused as error:
            self._respond(401, str(error))
        except BadInput as error:
            self._respond(400, str(error))
        else:
            if name is not None:
                self.server.reported(name)
            self._respond(202, "")

    def _respond(self, status: int, error: str) -> None:
        if error:
            self.server.refused(error)
        raw = error.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Print nothing: the server says what was refused."""
