"""Asking a running server: both forms of requests, and what can be wrong with a server."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from lynx_pipeline.adapters import model_server
from lynx_pipeline.adapters.model_server import ModelServer, Served
from lynx_pipeline.errors import BadInput, SystemFailed
from lynx_pipeline_tests.support.http_server import Answer, Request, serving

PROMPTS = ["Say a", "Say b"]


def body(values: Any) -> Answer:
    """A response with this JSON value."""
    return Answer(json.dumps(values).encode())


def ask(answer: Callable[[Request], Answer], path: str = "/predict", **more: Any) -> Served:
    """Ask a server that answers so."""
    with serving(answer) as url:
        return ModelServer(url + path, **more).ask(PROMPTS)


def test_the_form_of_miniserve_names_the_version() -> None:
    """One answer per prompt, each text or null."""
    got: list[Request] = []

    def answer(request: Request) -> Answer:
        got.append(request)
        return body({"version": "v0.1.0", "answers": ["a", None]})

    assert ask(answer, "/api/predict?x=1", token="secret") == Served(["a", None], "v0.1.0")
    (request,) = got
    assert (request.method, request.target) == ("POST", "/api/predict?x=1")
    assert request.authorization == "Bearer secret"
    assert json.loads(request.body) == {"prompts": PROMPTS}


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (None, {"inputs": PROMPTS}),
        ("text", {"dataframe_split": {"columns": ["text"], "data": [["Say a"], ["Say b"]]}}),
    ],
)
@pytest.mark.parametrize(
    "predictions",
    [
        '["a", null]',
        '[["a"], [null]]',
        '[{"text": "a"}, {"text": NaN}]',
        '{"text": ["a", null]}',
        '["a", NaN]',
    ],
)
def test_the_form_of_mlflow_is_a_list_or_a_data_frame(
    column: str | None, expected: Any, predictions: str
) -> None:
    """Its answers have the shapes that the evaluation accepts. pandas writes null as NaN."""
    got: list[Any] = []

    def answer(request: Request) -> Answer:
        got.append(json.loads(request.body))
        return Answer(f'{{"predictions": {predictions}}}'.encode())

    assert ask(answer, "/invocations", column=column) == Served(["a", None], None)
    assert got == [expected]


@pytest.mark.parametrize(
    ("predictions", "answers"),
    [
        ("[3, 0.1]", [3, 0.1]),
        ("[true, NaN]", [True, None]),
        ("[Infinity, -Infinity]", [float("inf"), -float("inf")]),
        ('[{"label": 1}, {"label": 0}]', [1, 0]),
        ("[[1.5], [null]]", [1.5, None]),
    ],
)
def test_answers_may_be_numbers(predictions: str, answers: list[Any]) -> None:
    """MLflow's server writes what the model returned."""
    response = Answer(f'{{"predictions": {predictions}}}'.encode())
    assert ask(lambda _: response, "/invocations") == Served(answers, None)


@pytest.mark.parametrize(
    "predictions",
    [
        '[{"label": "a", "score": 0.9}, {"label": null, "score": 0.5}]',
        '{"label": ["a", null], "probabilities": [{"a": 0.9}, {"a": 0.5}]}',
        '["a", null]',
        '[{"0": "a"}, {"0": null}]',
    ],
)
def test_the_answers_may_be_one_of_several_columns(predictions: str) -> None:
    """Output without columns, also a Series, is taken as it is, as in the evaluation."""
    response = Answer(f'{{"predictions": {predictions}}}'.encode())
    with serving(lambda _: response) as url:
        server = ModelServer(f"{url}/invocations")
        assert server.ask(PROMPTS, answer_column="label") == Served(["a", None], None)
        if "score" in predictions or "prob" in predictions:
            with pytest.raises(SystemFailed):
                server.ask(PROMPTS)


GOOD = {"version": "v0.1.0", "answers": ["a", "b"]}
FAULTS = {
    "server error": (Answer(b"out of memory", 500), "status 500: out of memory"),
    "not found": (Answer(b"", 404), "status 404: no reason given"),
    "redirect": (
        Answer(b"", 302, {"Location": "/elsewhere/predict"}),
        "redirects to /elsewhere/predict, and redirects are not followed",
    ),
    "permanent redirect": (Answer(b"", 308, {"Location": "/x"}), "redirects are not followed"),
    "redirect to nowhere": (Answer(b"", 302, {"Location": "http://["}), "redirects to http://["),
    "redirect with a long text": (
        Answer(b"x" * (17 << 20), 302, {"Location": "/x"}),
        "the response is longer than 16 MiB",
    ),
    "garbage": (Answer(b"\xff\x00<html>"), "not a JSON object"),
    "empty": (Answer(b""), "not a JSON object"),
    "deep": (Answer(b"[" * 100_000), "not a JSON object"),
    "constant": (Answer(b'{"version": Infinite}'), "not a JSON object"),
    "a list": (body(["a", "b"]), "not a JSON object"),
    "no version": (body({"answers": ["a", "b"]}), "the response names no version"),
    "version is a number": (body({**GOOD, "version": 1}), "the response names no version"),
    "no answers": (body({"version": "v0.1.0"}), "no list of answers"),
    "too few": (body({**GOOD, "answers": ["a"]}), "1 answers to 2 prompts"),
    "too many": (body({**GOOD, "answers": ["a"] * 3}), "3 answers to 2 prompts"),
    "a list of lists": (body({**GOOD, "answers": ["a", [1]]}), "an answer is [1], not text, a"),
    "an object": (body({**GOOD, "answers": ["a", {"x": 1}]}), "not text, a number or null"),
    "half a character": (body({**GOOD, "answers": ["a", "\ud800"]}), "not text, a number or null"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_server_that_cannot_be_asked_is_a_system_failure(fault: str) -> None:
    """The message names the server and what is wrong, in one line without escape sequences."""
    answer, message = FAULTS[fault]
    with pytest.raises(SystemFailed) as caught:
        ask(lambda _: answer)
    assert message in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_redirect_is_not_followed() -> None:
    """Another address could be another server, and would get the token."""
    asked: list[str] = []

    def answer(request: Request) -> Answer:
        asked.append(request.target)
        return Answer(b"", 307, {"Location": "/other/predict"})

    with pytest.raises(SystemFailed):
        ask(answer, token="secret")
    assert asked == ["/predict"]


def test_a_slow_server_is_given_up() -> None:
    """One that doesn't answer."""
    hold = threading.Event()

    def answer(_: Request) -> Answer:
        hold.wait(5)
        return body(GOOD)

    with serving(answer) as url:
        started = time.monotonic()
        with pytest.raises(SystemFailed, match=r"no complete response within 0\.2 seconds"):
            ModelServer(f"{url}/predict", seconds=0.2).ask(PROMPTS)
        assert time.monotonic() - started < 2
        hold.set()


@contextmanager
def raw_server(send: Callable[[socket.socket], object]) -> Iterator[str]:
    """A server that reads a request and then lets ``send`` write whatever it likes."""

    def run() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(1 << 16)
            with suppress(OSError):
                send(connection)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/predict"
        thread.join(10)


def test_a_response_in_drops_is_given_up() -> None:
    """Each byte arrives in time, the whole response does not."""

    def send(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        for _ in range(1000):
            connection.sendall(b" ")
            time.sleep(0.05)

    with raw_server(send) as url, pytest.raises(SystemFailed, match="within 0\\.3 seconds"):
        ModelServer(url, seconds=0.3).ask(PROMPTS)


@pytest.mark.parametrize("sent", [b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", b"", b"?\r\n"])
def test_a_response_that_breaks_off_is_a_system_failure(sent: bytes) -> None:
    """In its body, before it, or it is not HTTP."""
    with (
        raw_server(lambda connection: connection.sendall(sent)) as url,
        pytest.raises(SystemFailed, match=r"the request to .* failed"),
    ):
        ModelServer(url, seconds=5).ask(PROMPTS)


def test_a_response_has_a_limited_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if it has no end."""
    monkeypatch.setattr(model_server, "_MAX_BYTES", 1 << 20)

    def send(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            connection.sendall(b" " * (1 << 16))

    with raw_server(send) as url, pytest.raises(SystemFailed, match="longer than 1 MiB"):
        ModelServer(url, seconds=5).ask(PROMPTS)


def test_a_server_that_is_not_there_is_a_system_failure() -> None:
    """Nothing listens on this port."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    for path in ("predict", "invocations"):
        with pytest.raises(SystemFailed, match="ConnectionError") as caught:
            ModelServer(f"http://127.0.0.1:{port}/{path}").ask(PROMPTS)
        assert ("--column" in str(caught.value)) == (path == "invocations")


@pytest.mark.parametrize(
    "url",
    [
        *("http://x", "http://x/", "http://x/other", "http://x/predict/", "x/predict", "/predict"),
        *("ftp://x/predict", "file:///predict", "http:///predict", "http://[/predict", ""),
        *(
            "http://x:99999/predict",
            "http://x/pre\ndict",
            "http://x/?/predict",
            "http://x/#/predict",
        ),
    ],
)
def test_the_urls_path_decides_the_form(url: str) -> None:
    """Any other is an error that names both."""
    with pytest.raises(BadInput, match=r"/predict .*/invocations"):
        ModelServer(url)


def test_no_message_shows_a_secret() -> None:
    """A password in the URL is refused, and a query is not shown."""
    with pytest.raises(BadInput, match="user name or password") as refused:
        ModelServer("https://user:hunter2@x/predict")
    assert "hunter2" not in str(refused.value)
    with serving(lambda _: Answer(status=401)) as url, pytest.raises(SystemFailed) as caught:
        ModelServer(f"{url}/predict?key=hunter2", token="hunter3").ask(PROMPTS)
    assert "hunter" not in str(caught.value)


@pytest.mark.parametrize("token", ["", " ", "a\nb", "né"])
def test_a_token_that_cannot_be_sent_is_bad_input(token: str) -> None:
    """An empty variable is a mistake in the caller's configuration."""
    with pytest.raises(BadInput, match="bearer token"):
        ModelServer("http://x/predict", token=token)


def test_a_column_is_for_mlflow_only() -> None:
    """The other form has none."""
    with pytest.raises(BadInput, match="only for a URL on /invocations"):
        ModelServer("http://x/predict", column="prompt")
