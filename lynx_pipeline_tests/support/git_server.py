"""Git repositories over HTTP(S) on this machine: ``git http-backend`` behind a door.

A :data:`Door` decides, request for request, whom the server lets in.
"""

import base64
import binascii
import ipaddress
import os
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

FETCH, PUSH = "git-upload-pack", "git-receive-pack"

Credentials = tuple[str, str]
# The status for somebody (user and password, if they gave any) who asks for a service, FETCH or
# PUSH, of a repository: 200, 401 if these credentials are nobody's, 403 if they don't reach this
# far.
Door = Callable[[Credentials | None, str, str], int]


@dataclass(frozen=True)
class Server:
    """A running server: its address, its certificate (if it has one) to be trusted as
    ``http.sslCAInfo`` or ``GIT_SSL_CAINFO``, and each ``Authorization`` it was shown."""

    url: str
    pem: Path
    asked: list[str]


@contextmanager
def serving(root: Path, door: Door, *, tls: bool = True) -> Iterator[Server]:
    """Serve the repositories under ``root`` for as long as the block runs."""
    pem, asked = root / "server.pem", list[str]()
    handler = type(
        "Handler", (_Backend,), {"root": root, "asked": asked, "door": staticmethod(door)}
    )
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    if tls:
        pem.write_bytes(certificate())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients that don't trust us
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield Server(f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}", pem, asked)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def certificate() -> bytes:
    """A new key and its self-signed certificate for 127.0.0.1, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(here, critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    return key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ) + signed.public_bytes(pem)


class _Backend(BaseHTTPRequestHandler):
    """``git http-backend``, if the door opens."""

    protocol_version = "HTTP/1.1"
    root: Path
    asked: list[str]
    door: Door

    def answer(self) -> None:
        """Any request."""
        given = self.headers.get("Authorization", "")
        self.asked.append(given)
        body, place = self.body(), urlsplit(self.path)
        services = [place.path.rpartition("/")[2], *parse_qs(place.query).get("service", ())]
        service, repository = PUSH if PUSH in services else FETCH, place.path.split("/")[1]
        status = type(self).door(credentials(given), service, repository)
        if status != 200:
            self.send_response(status)
            if status == 401:
                self.send_header("WWW-Authenticate", 'Basic realm="git"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        done = subprocess.run(
            ["git", "http-backend"],
            input=body,
            capture_output=True,
            env={
                **os.environ,
                "GIT_PROJECT_ROOT": str(self.root),
                "GIT_HTTP_EXPORT_ALL": "1",
                "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
                "PATH_INFO": place.path,
                "QUERY_STRING": place.query,
                "REQUEST_METHOD": self.command,
                "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                "REMOTE_USER": "ci",
                "REMOTE_ADDR": "127.0.0.1",
            },
        )
        head, _, body = done.stdout.partition(b"\r\n\r\n")
        fields = [line.split(": ", 1) for line in head.decode().split("\r\n")]
        code = next((value for name, value in fields if name == "Status"), "200")
        self.send_response(int(code.split()[0]))
        for name, value in fields:
            if name != "Status":
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = answer

    def body(self) -> bytes:
        """What the client sent, in one piece or in chunks."""
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on standard error."""


def credentials(authorization: str) -> Credentials | None:
    """User and password of a header of basic authentication."""
    scheme, _, encoded = authorization.partition(" ")
    try:
        user, colon, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return (user, password) if scheme.lower() == "basic" and colon else None
