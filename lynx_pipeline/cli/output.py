"""How commands print: data on standard output, warnings on standard error, and command lines that
can be pasted where they are read."""

import json
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lynx_pipeline.config import Settings

# Variables of ours that name a folder or file, relative to the working directory.
_PATHS = ("LYNX_HOME", "LYNX_REGISTRY")


def print_json(value: Any) -> None:
    """Print data."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def warn(message: str) -> None:
    """Print a warning."""
    print(f"lynx-pipeline: WARNING: {message}", file=sys.stderr)


def inform(message: str) -> None:
    """Print what is being done, on standard error."""
    print(message, file=sys.stderr)


def command_line(settings: "Settings", command: Sequence[str]) -> str:
    """``command``, which has to run at the project's root, as a line for the shell that is in this
    process's working directory."""
    program, *arguments = command
    beside = Path(sys.executable).parent / program
    moves = Path.cwd() != settings.root
    if "/" not in program and beside.is_file() and (moves or shutil.which(program) is None):
        program = str(beside)  # the line goes to a shell that may not have our environment
    line = shlex.join([program, *arguments])
    if not moves:
        return line
    assignments = "".join(
        f"{name}={shlex.quote(value)} " for name, value in _moved_variables().items()
    )
    return f"cd {shlex.quote(str(settings.root))} && {assignments}{line}"


def _moved_variables() -> dict[str, str]:
    """The variables whose relative paths would name something else at the project's root."""
    moved = {}
    for name in _PATHS:
        value = os.environ.get(name, "")
        if value and not value.startswith(("/", "git+")):
            moved[name] = str(Path(value).absolute())
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    prefix = "sqlite:///" if uri.startswith("sqlite:///") else ""
    path = uri.removeprefix(prefix)
    if path and ":" not in path and not path.startswith("/"):
        moved["MLFLOW_TRACKING_URI"] = f"{prefix}{Path(path).absolute()}"
    return moved
