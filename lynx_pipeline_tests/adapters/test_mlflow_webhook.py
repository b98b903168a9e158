"""Requests of MLflow's webhooks: only MLflow's own count, and none breaks the server."""

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from email.message import Message
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.webhooks.delivery import _generate_hmac_signature as mlflows_signature

from lynx_pipeline.adapters import mlflow_webhook
from lynx_pipeline.adapters.mlflow_webhook import (
    VARIABLE,
    WebhookServer,
    read_secret,
    verify_request,
)
from lynx_pipeline.errors import BadInput, LynxError, Refused

SECRET = "a-secret-of-the-webhook"
NOW = 1_800_000_000
BODY = json.dumps(
    {
        "entity": "model_version_alias",
        "action": "created",
        "timestamp": "2027-01-15T08:00:00+00:00",
        "data": {"name": "tutor", "alias": "production", "version": "3"},
    }
)


def signed(body: str = BODY, *, secret: str = SECRET, at: int = NOW, id: str = "1") -> Message:
    """The headers that MLflow sends with this body."""
    headers = Message()
    headers["X-MLflow-Delivery-Id"] = id
    headers["X-MLflow-Timestamp"] = str(at)
    headers["X-MLflow-Signature"] = mlflows_signature(secret, id, str(at), body)
    return headers


def changed(**values: str | None) -> Message:
    """MLflow's headers with some changed, or left out."""
    headers = signed()
    for name, value in values.items():
        del headers[f"X-MLflow-{name.replace('_', '-')}"]
        if value is not None:
            headers[f"X-MLflow-{name.replace('_', '-')}"] = value
    return headers


@given(st.text(min_size=1), st.text(), st.integers(NOW - 300, NOW + 300))
def test_what_mlflow_signs_is_accepted(name: str, id: str, at: int) -> None:
    """Compared with MLflow's own signing."""
    body = json.dumps({"entity": "model_version_alias", "data": {"name": name}})
    id = "".join(c for c in id if c.isprintable() and c.isascii())
    assert verify_request(signed(body, at=at, id=id), body.encode(), SECRET.encode(), NOW) == name


@pytest.mark.parametrize(
    ("headers", "body", "says"),
    [
        (signed(secret="another-secret-of-it"), BODY, "not signed"),
        (signed(), BODY.replace("tutor", "other"), "not signed"),
        (changed(Signature=None), BODY, "not signed"),
        (changed(Signature=""), BODY, "not signed"),
        (changed(Signature="v1,"), BODY, "not signed"),
        (changed(Signature="v2," + str(signed()["X-MLflow-Signature"])[3:]), BODY, "not signed"),
        (changed(Signature="\xff"), BODY, "not signed"),
        (changed(Timestamp=None), BODY, "not signed"),
        (changed(Timestamp=str(NOW + 1)), BODY, "not signed"),
        (changed(Delivery_Id=None), BODY, "not signed"),
        (changed(Delivery_Id="2"), BODY, "not signed"),
        (signed(at=NOW - 301), BODY, "differs from this machine's by more than 300"),
        (signed(at=NOW + 301), BODY, "differs from this machine's by more than 300"),
        (signed(at=10**4000), BODY, "differs from this machine's by more than 300"),
        (signed(at=-NOW), BODY, "differs from this machine's by more than 300"),
        (Message(), BODY, "not signed"),
    ],
)
def test_a_request_of_somebody_else_is_refused(headers: Message, body: str, says: str) -> None:
    """Each part of what is signed counts."""
    with pytest.raises(Refused, match=says):
        verify_request(headers, body.encode(), SECRET.encode(), NOW)


@pytest.mark.parametrize(
    "body",
    [
        *("", "{", "[]", "null", "{}", '{"entity": 1}', '{"entity": "model_version_alias"}'),
        *('{"entity": "model_version_alias", "data": {"name": 1}}', '{"a": 1, "a": 2}'),
    ],
)
def test_a_signed_request_in_another_form_is_bad_input(body: str) -> None:
    """It is never a traceback."""
    with pytest.raises(BadInput, match="the request"):
        verify_request(signed(body), body.encode(), SECRET.encode(), NOW)


def test_other_events_name_no_model() -> None:
    """A webhook may have been made for more of them."""
    body = json.dumps({"entity": "registered_model", "data": {"name": "tutor"}})
    assert verify_request(signed(body), body.encode(), SECRET.encode(), NOW) is None


@pytest.mark.parametrize("value", [None, "", " ", "too-short"])
def test_a_missing_secret_is_bad_input(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anybody could guess it."""
    monkeypatch.delenv(VARIABLE, raising=False)
    if value is not None:
        monkeypatch.setenv(VARIABLE, value)
    with pytest.raises(LynxError, match=f"{VARIABLE}: expected the secret"):
        read_secret()


@pytest.fixture
def reported() -> list[str]:
    """The models that the server named."""
    return []


@pytest.fixture
def lines() -> list[str]:
    """What the server said."""
    return []


@contextmanager
def serving(reported: list[str], lines: list[str]) -> Iterator[WebhookServer]:
    """A running server. At the end all its requests have ended."""
    with WebhookServer(("127.0.0.1", 0), SECRET.encode(), reported.append, lines.append) as server:
        server.daemon_threads = False
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def server(reported: list[str], lines: list[str]) -> Iterator[WebhookServer]:
    """A running server."""
    with serving(reported, lines) as it:
        yield it


def ask(server: WebhookServer, method: str, body: bytes, headers: Any) -> tuple[int, str]:
    """The status and the text of a response."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=5)
    with closing(connection):
        connection.request(method, "/", body, dict(headers))
        response = connection.getresponse()
        return response.status, response.read().decode()


def now() -> int:
    """The time, in whole seconds."""
    return int(time.time())


def test_the_server_names_the_model(
    server: WebhookServer, reported: list[str], lines: list[str]
) -> None:
    """Only for a request that counts. The response says what is wrong with another, and so does one
    line a minute."""
    raw = BODY.encode()
    assert ask(server, "POST", raw, signed(at=now())) == (202, "")
    assert lines == []
    assert ask(server, "POST", raw, signed(secret="x" * 20, at=now()))[0] == 401
    status, text = ask(server, "POST", b"{", signed("{", at=now()))
    assert status == 400
    assert "not JSON" in text
    assert ask(server, "GET", b"", {})[0] == 501
    assert reported == ["tutor"]
    (line,) = lines
    assert line.startswith("A request was refused: the request is not signed")


@pytest.mark.parametrize(
    ("length", "status"),
    [("70000", 413), ("9" * 5000, 413), ("-1", 413), ("x", 413), ("", 411), (None, 411)],
)
def test_a_body_of_unknown_or_large_size_is_not_read(
    server: WebhookServer, length: str | None, status: int
) -> None:
    """Whatever the header says."""
    header = "" if length is None else f"Content-Length: {length}\r\n"
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=5) as client:
        client.sendall(f"POST / HTTP/1.1\r\n{header}\r\n".encode())
        assert client.recv(100).startswith(f"HTTP/1.0 {status} ".encode())


def test_a_client_that_hangs_up_does_no_harm(
    reported: list[str], lines: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    """Nothing is printed, and the next request is taken."""
    with serving(reported, lines) as server:
        for text in (b"", b"POST", b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc"):
            with socket.create_connection(("127.0.0.1", server.server_port)) as client:
                client.sendall(text)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        assert ask(server, "POST", BODY.encode(), signed(at=now()))[0] == 202
    assert reported == ["tutor"]
    assert capfd.readouterr().err == ""


def test_a_slow_client_is_hung_up_on(
    server: WebhookServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often it sends a byte."""
    monkeypatch.setattr(mlflow_webhook, "_REQUEST_SECONDS", 0.3)
    with socket.create_connection(("127.0.0.1", server.server_port)) as client:
        client.sendall(b"POST / HTTP/1.1\r\n")
        with pytest.raises(ConnectionError):
            for _ in range(600):
                client.sendall(b"X")
                time.sleep(0.05)


def test_too_many_connections_are_hung_up_on(
    server: WebhookServer, reported: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests are taken again when the others have ended."""
    monkeypatch.setattr(mlflow_webhook, "_REQUEST_SECONDS", 60)
    place = "127.0.0.1", server.server_port
    with ExitStack() as clients:
        for _ in range(16):
            clients.enter_context(socket.create_connection(place)).sendall(b"POST / HTTP/1.1\r\n")
        with pytest.raises((ConnectionError, http.client.HTTPException)):
            ask(server, "POST", BODY.encode(), signed(at=now()))
    while not reported:
        with suppress(ConnectionError, http.client.HTTPException):
            ask(server, "POST", BODY.encode(), signed(at=now()))
    assert reported == ["tutor"]


def test_an_address_in_use_is_bad_input(server: WebhookServer) -> None:
    """It is named."""
    address = "127.0.0.1", server.server_port
    with pytest.raises(BadInput, match=rf"can't listen on 127.0.0.1:{address[1]}: Address already"):
        WebhookServer(address, SECRET.encode(), print, print)
    with pytest.raises(BadInput, match=r"can't listen on a\.\.b:1: "):
        WebhookServer(("a..b", 1), SECRET.encode(), print, print)
