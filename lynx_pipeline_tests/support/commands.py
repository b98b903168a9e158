"""Runs commands as a user would, in a folder and with an environment of their own."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

Done = subprocess.CompletedProcess[str]


def run(command: Sequence[str], folder: Path, environ: Mapping[str, str]) -> Done:
    """Run a command, and wait for it."""
    return subprocess.run(
        command,
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def start(
    command: Sequence[str], folder: Path, environ: Mapping[str, str], log: Path
) -> "subprocess.Popen[bytes]":
    """Start a command in its own process group, with its output in ``log``."""
    with log.open("wb") as output:
        return subprocess.Popen(
            command,
            cwd=folder,
            env=environ,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
