"""MLflow's webhooks about aliases: a server that MLflow calls when somebody moves one.

- Every request is authenticated: MLflow signs its id, its time and its body with the webhook's
  secret (HMAC-SHA256; https://mlflow.org/docs/latest/ml/webhooks). One that is older than five
  minutes is refused.
- A request can be repeated within that time, and what it says may be out of date. So it only names
  a model to look at; what the alias names is for the caller to find out.
- TLS is left to a reverse proxy.
"""

import base64
import hashlib
import hmac
import os
import re
import sys
import time
from collections.abc import Callable
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from lynx_pipeline.domain.strict_json import parse
from lynx_pipeline.errors import BadInput, Refused

VARIABLE = "LYNX_WEBHOOK_SECRET"
_ENTITY = "model_version_alias"
_SHORTEST = 16  # characters of a secret
_MAX_AGE = 300  # seconds
_MAX_BYTES = 65_536
_PATIENCE = 10  # seconds to wait for the rest of a request


def read_secret() -> bytes:
    """The webhook's secret, from the environment.

    Raises:
        BadInput: it is missing or too short.
    """
    secret = os.environ.get(VARIABLE, "").strip()
    if len(secret) < _SHORTEST:
        raise BadInput(
            f"{VARIABLE}: expected the secret of MLflow's webhook, at least {_SHORTEST} "
            "characters. Make one: openssl rand -hex 32."
        )
    return secret.encode()


def moved_model(headers: Message, body: bytes, secret: bytes, now: float) -> str | None:
    """The registered model whose alias was set or deleted; None if the request is about something
    else.

    Raises:
        Refused: the request is not signed with this secret, or too old.
        BadInput: it is signed, and malformed.
    """
    moment = headers.get("X-MLflow-Timestamp", "")
    content = f"{headers.get('X-MLflow-Delivery-Id', '')}.{moment}.".encode() + body
    made = base64.b64encode(hmac.digest(secret, content, hashlib.sha256)).decode()
    given = headers.get("X-MLflow-Signature", "")
    if not hmac.compare_digest(given.encode(), f"v1,{made}".encode()):
        raise Refused("the request is not signed with the secret of the webhook.")
    if not moment.isdecimal() or abs(now - int(moment)) > _MAX_AGE:
        raise Refused(f"the request is more than {_MAX_AGE} seconds old.")
    value = parse(body, "the request")
    match value:
        case {"entity": str(entity)} if entity != _ENTITY:
            return None
        case {"entity": str(), "data": {"name": str(name)}}:
            return name
    raise BadInput("the request: expected an object with 'entity' and 'data.name'.")


class WebhookServer(ThreadingHTTPServer):
    """Calls ``moved`` with the name of each registered model whose alias MLflow reports. It must
    return at once: MLflow waits for the response.

    Raises:
        OSError: the address can't be used.
    """

    daemon_threads = True

    def __init__(
        self, address: tuple[str, int], secret: bytes, moved: Callable[[str], None]
    ) -> None:
        self.secret, self.moved = secret, moved
        super().__init__(address, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print a bug, but not that a client hung up."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    timeout = _PATIENCE
    server: WebhookServer

    def do_POST(self) -> None:
        """Take a request, and say in the response what is wrong with it."""
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch("[0-9]{1,5}", length) or int(length) > _MAX_BYTES:
            self._respond(413, f"expected a body of at most {_MAX_BYTES} bytes.")
            return
        body = self.rfile.read(int(length))
        try:
            name = moved_model(self.headers, body, self.server.secret, time.time())
        except Refused as error:
            self._respond(401, str(error))
        except BadInput as error:
            self._respond(400, str(error))
        else:
            if name is not None:
                self.server.moved(name)
            self._respond(202, "")

    def _respond(self, status: int, text: str) -> None:
        raw = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Print nothing: what is found is printed by whoever looks."""
