"""What the message says about errors that a model raises because it is evaluated."""

import json
import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas
import pytest
import requests
from pydantic_settings import BaseSettings, SettingsConfigDict

from lynx_pipeline.errors import BadInput
from lynx_pipeline.sandbox.hints import hint_text
from lynx_pipeline.sandbox.inside.causes import hint, watch_variables
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


class Needs(BaseSettings):
    """Settings from the environment, as pydantic reads them."""

    model_config = SettingsConfigDict(env_prefix="APP_")
    api_key: str


def guard(error: Exception) -> None:
    if not os.environ.get("API_KEY"):
        raise error


def silent_exit() -> None:
    key = os.getenv("API_KEY")
    if key is None:
        print("set it")
        sys.exit(1)


def other_fault() -> None:
    os.environ.get("BATCH_SIZE")
    raise ValueError("the tokenizer has no PAD_TOKEN")


def exit_of_a_tool() -> None:
    os.environ.get("BATCH_SIZE")
    sys.exit("no weights in BATCH")


def library(source: str) -> Callable[[], object]:
    """A function of a library."""
    code = compile(
        f"import os\ndef call():\n {source}", "/usr/lib/python3/site-packages/l.py", "exec"
    )
    names: dict[str, Any] = {}
    exec(code, names)
    return names["call"]  # type: ignore[no-any-return]


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch) -> dict[str, bool]:
    """What is looked up in vain in this test."""
    for each in (os.environ, os.environb):
        monkeypatch.setattr(each, "_data", each._data)  # type: ignore[union-attr]
    return watch_variables()


@pytest.mark.parametrize(
    ("fails", "name"),
    [
        (lambda: guard(RuntimeError("set API_KEY")), "API_KEY"),
        (lambda: guard(ValueError("API_KEY is not set")), "API_KEY"),
        (
            lambda: os.environ["REGION"] if "REGION" in os.environ else sys.exit("no REGION"),
            "REGION",
        ),
        (lambda: os.environb.get(b"API_KEY") or sys.exit("missing API_KEY"), "API_KEY"),
        (silent_exit, "API_KEY"),
        (lambda: os.environ.get("APP_HOME") + "/x", "APP_HOME"),  # type: ignore[operator]
        (lambda: Path(os.environ.get("APP_HOME")), "APP_HOME"),  # type: ignore[arg-type]
        (lambda: Needs(), "APP_API_KEY"),  # type: ignore[call-arg]
        (library("if not os.environ.get('API_KEY'): raise ValueError('no API_KEY')"), "API_KEY"),
        (
            library("assert 'REGION' in os.environ, 'REGION not found. Declare it as envvar.'"),
            "REGION",
        ),
    ],
    ids=lambda it: it if isinstance(it, str) else "",
)
def test_a_model_that_guards_a_variable_itself_has_a_hint(
    fails: Callable[[], object], name: str, missing: dict[str, bool]
) -> None:
    """Whatever it raises, as long as it looked the variable up and its error points at it."""
    with pytest.raises(BaseException) as caught:
        fails()
    assert f"model_config={{'{name}': 'value'}}" in hint_text(hint(caught.value, [], missing))


@pytest.mark.parametrize(
    "fails",
    [
        pytest.param(other_fault, id="another name"),
        pytest.param(exit_of_a_tool, id="an exit with another reason"),
        pytest.param(lambda: int(os.environ.get("SIZE", "x")), id="a default"),
        pytest.param(library("os.environ.get('NO_COLOR'); raise ValueError('NO_COLOR')"), id="lib"),
        pytest.param(lambda: guard(RuntimeError("CUDA_ERROR_NO_DEVICE")), id="a code"),
    ],
)
def test_a_variable_that_is_not_the_cause_has_no_hint(
    fails: Callable[[], object], missing: dict[str, bool]
) -> None:
    """Many are looked up that nobody needs to set."""
    with pytest.raises(BaseException) as caught:
        fails()
    assert hint(caught.value, [], missing) is None


def test_the_environment_works_as_before_while_it_is_watched(missing: dict[str, bool]) -> None:
    """Reading, writing, copying and passing it on."""
    os.environ["SOME_NAME"] = "1"
    assert (os.environ["SOME_NAME"], os.environb[b"SOME_NAME"]) == ("1", b"1")
    assert dict(os.environ) == os.environ.copy()
    assert subprocess.check_output(["sh", "-c", "echo $SOME_NAME"]) == b"1\n"
    del os.environ["SOME_NAME"]
    assert "SOME_NAME" not in os.environ
    assert missing["SOME_NAME"]


SEEN = {
    "guard": (
        "import os, sys; os.getenv('API_KEY') or sys.exit('set API_KEY')",
        "SystemExit: set API_KEY",
        "model_config={'API_KEY': 'value'}",
    ),
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
