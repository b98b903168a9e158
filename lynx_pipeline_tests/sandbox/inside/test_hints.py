"""What the message says about errors that a model raises because it is evaluated."""

import json
import os
import socket
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pandas
import pytest
import requests

from lynx_pipeline.errors import BadInput
from lynx_pipeline.sandbox.hints import hint_text
from lynx_pipeline.sandbox.inside.worker import hint
from lynx_pipeline_tests.sandbox.inside.test_worker import LIMITS, PROMPTS, saved
from lynx_pipeline_tests.support.worker_scripts import ask

FRAME = pandas.DataFrame({"prompt": ["a"]})
TABLE = pandas.DataFrame({"value": [1]}, index=["x"])

NETWORK = "In the sandbox a model has no network, on purpose"
VARIABLE = "In the sandbox a model has none of your environment variables"
COLUMN = "The model was given a data frame with the column 'prompt'. To get another"
SIGNATURE = "infer_signature(pandas.DataFrame({'question': ['a text']}))"


def closed_port() -> str:
    """The URL of a server that is not there."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}/"


def fallback() -> object:
    try:
        return urllib.request.urlopen(closed_port())
    except OSError:
        raise ValueError("no weights") from None


def api_client() -> None:
    raise RuntimeError(
        "The api_key client option must be set either by passing api_key to the client or by "
        "setting the SOME_API_KEY environment variable"
    )


@pytest.mark.parametrize(
    ("fails", "expected"),
    [
        pytest.param(lambda: FRAME["question"], SIGNATURE, id="a column"),
        pytest.param(lambda: FRAME.question, SIGNATURE, id="an attribute"),
        pytest.param(lambda: FRAME.loc[:, "question"], SIGNATURE, id="loc"),
        pytest.param(lambda: FRAME[["question"]], COLUMN, id="a list of columns"),
        pytest.param(lambda: FRAME[["prompt", "context"]], COLUMN, id="one of two columns"),
        pytest.param(lambda: FRAME[0], COLUMN, id="a number"),
        pytest.param(lambda: os.environ["NAME"], "model_config={'NAME': 'value'}", id="variable"),
        pytest.param(lambda: os.environb[b"NAME"], VARIABLE, id="a variable in bytes"),
        pytest.param(api_client, "model_config={'SOME_API_KEY'", id="a client's message"),
        pytest.param(lambda: urllib.request.urlopen(closed_port()), NETWORK, id="urllib"),
        pytest.param(lambda: requests.get(closed_port(), timeout=5), NETWORK, id="requests"),
        pytest.param(fallback, NETWORK, id="an error that follows from one"),
    ],
)
def test_an_error_that_evaluation_causes_has_a_hint(
    fails: Callable[[], object], expected: str
) -> None:
    """It says what the model got or does not have, and what to do, in a few lines."""
    with pytest.raises(Exception) as caught:
        fails()
    found = hint_text(json.loads(json.dumps(hint(caught.value, ["prompt"]))))
    assert expected in found
    assert len(found) < 300


@pytest.mark.parametrize(
    "fails",
    [
        pytest.param(lambda: {"a": 1}["question"], id="a dictionary"),
        pytest.param(lambda: TABLE.loc["question"], id="a row of another frame"),
        pytest.param(lambda: TABLE["question"], id="a column of another frame"),
        pytest.param(lambda: TABLE.question, id="an attribute of another frame"),
        pytest.param(lambda: FRAME.iloc[5], id="a row"),
        pytest.param(lambda: [].question, id="an attribute of a list"),  # type: ignore[attr-defined]
        pytest.param(lambda: Path("/nowhere").read_text(), id="a file"),
        pytest.param(lambda: int("x"), id="a value"),
        pytest.param(lambda: os.environ.get("NAME") + "x", id="None"),  # type: ignore[operator]
    ],
)
def test_any_other_error_has_no_hint(fails: Callable[[], object]) -> None:
    """It would lead away from the cause."""
    with pytest.raises(Exception) as caught:
        fails()
    assert hint(caught.value, ["prompt"]) is None


SEEN = {
    "column": ("return list(model_input['question'])", "KeyError: 'question'", SIGNATURE),
    "variable": ("import os; return [os.environ['NAME']]", "KeyError: 'NAME'", VARIABLE),
    "API": ("import requests; requests.get('http://127.0.0.1:9')", "ConnectionError: ", NETWORK),
    "name": ("import requests; requests.get('http://example.org')", "ConnectionError: ", NETWORK),
    "bug": ("return {}['question']", "KeyError: 'question'", None),
    "fails when it is looked at": (
        "return type('O', (), {'columns': property(lambda self: 1 / 0)})().question",
        "AttributeError: 'O' object has no attribute 'question'",
        None,
    ),
}


@pytest.mark.slow(seconds=30)
@pytest.mark.parametrize("name", SEEN)
def test_the_message_has_the_hint(tmp_path: Path, name: str, isolated: bool) -> None:
    """Of a real model, without a signature, that really runs in the sandbox."""
    body, error, expected = SEEN[name]
    if name == "name" and not isolated:
        return  # it would reach the network
    with pytest.raises(BadInput) as caught:
        ask(saved(tmp_path / "model", body), LIMITS, PROMPTS)
    message = str(caught.value)
    assert f"failed with {error}" in message
    if expected is None:
        assert "on purpose" not in message
        assert "infer_signature" not in message
    else:
        assert expected in message
