"""GitHub Actions as a workflow step sees it: the triggering event, outputs, summary and errors.

Outside a workflow run, outputs and summaries are silently skipped: there is nowhere to write them.
"""

import json
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lynx_pipeline.errors import BadInput, SystemFailed

if TYPE_CHECKING:
    from lynx_pipeline.domain.ledger.facts import Actor
    from lynx_pipeline.domain.release.identity import Policy


@dataclass(frozen=True, slots=True)
class Event:
    """The pull request that a run is about, and the comment that started it, if any."""

    pull_request: int
    comment: int | None


def read_event() -> Event:
    """The event of this workflow run.

    Raises:
        BadInput: this is not a workflow run, or its event is not about a pull request.
        SystemFailed: the event's file can't be read.
    """
    name, path = os.environ.get("GITHUB_EVENT_NAME"), os.environ.get("GITHUB_EVENT_PATH")
    if not name or not path:
        raise _not_in_actions("GITHUB_EVENT_NAME or GITHUB_EVENT_PATH is not set")
    try:
        payload = json.loads(Path(path).read_bytes())
        if name == "issue_comment":
            return Event(int(payload["issue"]["number"]), int(payload["comment"]["id"]))
        return Event(int(payload["pull_request"]["number"]), None)
    except OSError as error:
        raise SystemFailed(
            f"the event's file {path} can't be read: {error.strerror}. Try again."
        ) from None
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        raise BadInput(
            f"{path}: expected the payload of an issue_comment or pull request event, got the "
            f"event {name!r}. Run this command in a workflow that such an event starts."
        ) from None


def triggering_actor() -> str:
    """The login of the user who started this workflow run or re-ran it.

    Raises:
        BadInput: this is not a workflow run.
    """
    login = os.environ.get("GITHUB_TRIGGERING_ACTOR", "")
    if not login:
        raise _not_in_actions("GITHUB_TRIGGERING_ACTOR is not set")
    return login


def run_id() -> int:
    """The id of this workflow run. Later runs have greater ids.

    Raises:
        BadInput: this is not a workflow run.
    """
    return _number("GITHUB_RUN_ID")


def run_number() -> int:
    """The number of this run among the workflow's runs, counted from 1. Raises like
    :func:`run_id`."""
    return _number("GITHUB_RUN_NUMBER")


def run_attempt() -> int:
    """1 for a new run, and one more each time it is re-run. Raises like :func:`run_id`."""
    return _number("GITHUB_RUN_ATTEMPT")


def is_this_run(number: str | None) -> bool:
    """Whether ``number``, the run id of an identity, is this workflow run's. For None: whether
    this process runs outside a workflow."""
    return number == os.environ.get("GITHUB_RUN_ID")


def this_run_url() -> str:
    """The address of this workflow run's page."""
    repository, run = (os.environ.get(it, "") for it in ("GITHUB_REPOSITORY", "GITHUB_RUN_ID"))
    return f"{_server()}/{repository}/actions/runs/{run}"


def is_workflow() -> bool:
    """Whether this process is part of a workflow run, so that others may read what it prints."""
    return os.environ.get("GITHUB_ACTIONS") == "true"


def output(**values: Any) -> None:
    """Set outputs of this step. A value may contain any characters, line breaks included."""
    _append("GITHUB_OUTPUT", "".join(_entry(name, str(value)) for name, value in values.items()))


def summary(markdown: str) -> None:
    """Append to this job's summary."""
    _append("GITHUB_STEP_SUMMARY", markdown.rstrip("\n") + "\n")


def fail(message: str) -> None:
    """Report on standard error why this command failed. In a workflow the report is an annotation
    of the run, and the step's output ``error`` contains it, too."""
    if not is_workflow():
        sys.stderr.write(f"lynx-pipeline: {message}\n")
        return
    text = message.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    # The runner recognizes the older command syntax anywhere in a line.
    text = text.replace("##[", "## [")
    sys.stderr.write(f"::error title=lynx-pipeline::{text}\n")
    output(error=message)


def run_url(actor: "Actor", policy: "Policy | None") -> str:
    """The address of the page of the run that made an entry: see
    :func:`~lynx_pipeline.domain.release.identity.run_page`."""
    from lynx_pipeline.domain.release.identity import run_page

    return run_page(actor, _server(), policy)


def _server() -> str:
    return os.environ.get("GITHUB_SERVER_URL", "https://github.com")


def _number(variable: str) -> int:
    text = os.environ.get(variable, "")
    if not re.fullmatch("[0-9]{1,18}", text):
        raise _not_in_actions(f"{variable} is {text!r}, expected a number")
    return int(text)


def _not_in_actions(reason: str) -> BadInput:
    return BadInput(
        f"not running in GitHub Actions: {reason}. Run this command in a step of the deploy "
        "workflow."
    )


def _entry(name: str, value: str) -> str:
    # The delimiter is random, so no value can contain it.
    end = os.urandom(16).hex()
    return f"{name}<<{end}\n{value}\n{end}\n"


def _append(variable: str, text: str) -> None:
    path = os.environ.get(variable)
    if not path:
        return
    try:
        with Path(path).open("a", encoding="utf-8", errors="replace") as file:
            file.write(text)
    except OSError as error:
        raise SystemFailed(
            f"the file {path} that {variable} names can't be written: {error.strerror}. Try again."
        ) from None
