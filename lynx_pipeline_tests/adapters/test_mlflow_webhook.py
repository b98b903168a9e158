"""Requests of MLflow's webhooks: only MLflow's own count, and none breaks the server."""

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from email.message import Message
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.webhooks.delivery import _generate_hmac_signature as mlflows_signature

from lynx_pipeline.adapters.mlflow_webhook import (
    VARIABLE,
    WebhookServer,
    moved_model,
    read_secret,
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
    assert moved_model(signed(body, at=at, id=id), body.encode(), SECRET.encode(), NOW) == name


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
        (signed(at=NOW - 301), BODY, "more than 300 seconds old"),
        (signed(at=NOW + 301), BODY, "more than 300 seconds old"),
        (signed(at=-NOW), BODY, "more than 300 seconds old"),
        (Message(), BODY, "not signed"),
    ],
)
def test_a_request_of_somebody_else_is_refused(headers: Message, body: str, says: str) -> None:
    """Each part of what is signed counts."""
    with pytest.raises(Refused, match=says):
        moved_model(headers, body.encode(), SECRET.encode(), NOW)


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
        moved_model(signed(body), body.encode(), SECRET.encode(), NOW)


def test_other_events_name_no_model() -> None:
    """A webhook may have been made for more of them."""
    body = json.dumps({"entity": "registered_model", "data": {"name": "tutor"}})
    assert moved_model(signed(body), body.encode(), SECRET.encode(), NOW) is None


@pytest.mark.parametrize("value", [None, "", " ", "too-short"])
def test_a_missing_secret_is_bad_input(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anybody could guess it."""
    monkeypatch.delenv(VARIABLE, raising=False)
    if value is not None:
        monkeypatch.setenv(VARIABLE, value)
    with pytest.raises(LynxError, match=f"{VARIABLE}: expected the secret"):
        read_secret()


@pytest.fixture
def moved() -> list[str]:
    """The models that the server named."""
    return []


@pytest.fixture
def server(moved: list[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[WebhookServer]:
    """A running server, at a time of ours."""
    monkeypatch.setattr("lynx_pipeline.adapters.mlflow_webhook.time.time", lambda: NOW)
    with WebhookServer(("127.0.0.1", 0), SECRET.encode(), moved.append) as it:
        threading.Thread(target=it.serve_forever, args=(0.01,), daemon=True).start()
        yield it
        it.shutdown()


def ask(server: WebhookServer, method: str, body: bytes, headers: Any) -> tuple[int, str]:
    """The status and the text of a response."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=5)
    connection.request(method, "/", body, dict(headers))
    response = connection.getresponse()
    return response.status, response.read().decode()


def test_the_server_names_the_model(server: WebhookServer, moved: list[str]) -> None:
    """Only for a request that counts. The response says what is wrong with another."""
    raw = BODY.encode()
    assert ask(server, "POST", raw, signed()) == (202, "")
    assert ask(server, "POST", raw, signed(secret="x" * 20))[0] == 401
    status, text = ask(server, "POST", b"{", signed("{"))
    assert status == 400
    assert "not JSON" in text
    assert ask(server, "GET", b"", {})[0] == 501
    assert moved == ["tutor"]


@pytest.mark.parametrize("length", ["70000", "9" * 5000, "-1", "x", ""])
def test_a_body_that_is_too_large_is_not_read(server: WebhookServer, length: str) -> None:
    """Whatever the header says."""
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=5) as client:
        client.sendall(f"POST / HTTP/1.1\r\nContent-Length: {length}\r\n\r\n".encode())
        assert client.recv(100).startswith(b"HTTP/1.0 413 ")


def test_a_client_that_hangs_up_does_no_harm(
    server: WebhookServer, moved: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    """Nothing is printed, and the next request is taken."""
    for text in (b"", b"POST", b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc"):
        with socket.create_connection(("127.0.0.1", server.server_port)) as client:
            client.sendall(text)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    assert ask(server, "POST", BODY.encode(), signed())[0] == 202
    assert moved == ["tutor"]
    assert capfd.readouterr().err == ""
