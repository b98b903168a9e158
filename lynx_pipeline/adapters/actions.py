"""GitHub Actions, seen from a step: the event that started the run, outputs, summary, errors.

Outside of a workflow there is nowhere to write outputs and summaries, and nothing is written.
"""

import json
import os
import re
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lynx_pipeline.errors import BadInput, SystemFailed


@dataclass(frozen=True, slots=True)
class Event:
    """The pull request that a run is about, and the comment that started it, if one did."""

    pull_request: int
    comment: int | None


def read_event() -> Event:
    """The event of this workflow run.

    Raises:
        BadInput: this is no workflow run, or one that is not about a pull request.
    """
    name, path = os.environ.get("GITHUB_EVENT_NAME"), os.environ.get("GITHUB_EVENT_PATH")
    if not name or not path:
        raise BadInput("this is no GitHub Actions run: GITHUB_EVENT_NAME and _PATH are not set.")
    try:
        payload = json.loads(Path(path).read_bytes())
        if name == "issue_comment":
            return Event(int(payload["issue"]["number"]), int(payload["comment"]["id"]))
        return Event(int(payload["pull_request"]["number"]), None)
    except OSError as error:
        raise SystemFailed(f"{path} can't be read: {error.strerror}.") from None
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        raise BadInput(
            f"{path}: expected the payload of an issue_comment or pull request event, and the "
            f"event is {name!r}."
        ) from None


def triggering_actor() -> str:
    """The login of whoever set this workflow run off, or ran it again.

    Raises:
        BadInput: this is no workflow run.
    """
    login = os.environ.get("GITHUB_TRIGGERING_ACTOR", "")
    if not login:
        raise BadInput("this is no GitHub Actions run: GITHUB_TRIGGERING_ACTOR is not set.")
    return login


def run_id() -> int:
    """The number of this workflow run; a later run has a greater one.

    Raises:
        BadInput: this is no workflow run.
    """
    text = os.environ.get("GITHUB_RUN_ID", "")
    if not re.fullmatch("[0-9]{1,18}", text):
        raise BadInput(f"this is no GitHub Actions run: GITHUB_RUN_ID is {text!r}.")
    return int(text)


def is_this_run(number: str | None) -> bool:
    """Whether this workflow run has this number, as its identity says it; None: whether there is
    no workflow run."""
    return number == os.environ.get("GITHUB_RUN_ID")


def this_run_url() -> str:
    """The page of this workflow run."""
    names = ("GITHUB_REPOSITORY", "GITHUB_RUN_ID")
    return run_url(*(os.environ.get(name, "") for name in names))


def output(**values: Any) -> None:
    """Set outputs of this step. A value may have any characters and lines."""
    _append("GITHUB_OUTPUT", "".join(_entry(name, str(value)) for name, value in values.items()))


def summary(markdown: str) -> None:
    """Add to the summary of this job."""
    _append("GITHUB_STEP_SUMMARY", markdown.rstrip("\n") + "\n")


def fail(message: str) -> None:
    """Say on standard error why this command failed; in a workflow that is an annotation of the
    run and the step's output ``error`` too."""
    if os.environ.get("GITHUB_ACTIONS") != "true":
        sys.stderr.write(f"lynx-pipeline: {message}\n")
        return
    text = message.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    text = text.replace("##[", "## [")  # the older form of a command, heard anywhere in a line
    sys.stderr.write(f"::error title=lynx-pipeline::{text}\n")
    output(error=message)


def run_url(repository: str, run_id: str) -> str:
    """The page of a workflow run."""
    server = os.environ.get("GITHUB_SERVER_URL", "https://github.com")
    return f"{server}/{repository}/actions/runs/{run_id}"


def _entry(name: str, value: str) -> str:
    # What ends the value is a word that nobody could have put into it.
    end = uuid.uuid4().hex
    return f"{name}<<{end}\n{value}\n{end}\n"


def _append(variable: str, text: str) -> None:
    path = os.environ.get(variable)
    if not path:
        return
    try:
        with Path(path).open("a", encoding="utf-8", errors="replace") as file:
            file.write(text)
    except OSError as error:
        raise SystemFailed(f"{variable}, {path}, can't be written: {error.strerror}.") from None
