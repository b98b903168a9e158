"""``registry watch-alias``: where it listens, and that it needs a secret."""

import os
import signal
import subprocess
import sys
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from lynx_pipeline.adapters.mlflow_webhook import VARIABLE
from lynx_pipeline.cli import main
from lynx_pipeline.config import Settings
from lynx_pipeline_tests.cli.helpers import Capsys, one_paragraph

SECRET = "a-secret-of-the-webhook"


@pytest.mark.slow
def test_the_command_runs_until_it_is_stopped(promoted: Settings) -> None:
    """It says what it watches and where, and refuses a caller without the secret."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "lynx_pipeline",
            "registry",
            "watch-alias",
            "--listen",
            "localhost:0",
        ],
        cwd=promoted.root,
        env={**os.environ, VARIABLE: SECRET},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "Watching MLflow's alias 'dev' of tiny, in dev.\n"
        line = process.stdout.readline()
        assert line.startswith("Waiting for MLflow's requests on localhost:")
        port = line.rpartition(":")[2].strip(".\n")
        with pytest.raises(HTTPError) as caught:
            urlopen(Request(f"http://localhost:{port}/", b"{}", method="POST"), timeout=30)
        assert caught.value.code == 401
        assert process.stdout.readline().startswith("A request was refused: ")
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    "listen",
    [
        "8377",
        ":8377",
        "127.0.0.1:",
        "127.0.0.1:x",
        "127.0.0.1:99999",
        "[::1]:8377",
        "a:" + "9" * 5000,
    ],
)
def test_an_address_in_another_form_is_bad_input(
    promoted: Settings,
    listen: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capsys,
) -> None:
    """With the form to use."""
    monkeypatch.setenv(VARIABLE, SECRET)
    assert main(["registry", "watch-alias", "--listen", listen]) == 2
    assert "expected HOST:PORT, for example 127.0.0.1:8377" in capsys.readouterr().err


def test_without_a_secret_it_does_not_start(promoted: Settings, capsys: Capsys) -> None:
    """Otherwise anybody could call."""
    assert main(["registry", "watch-alias"]) == 2
    assert f"{VARIABLE}: expected the secret" in one_paragraph(capsys)
