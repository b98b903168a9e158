"""A release request: which run, under which version. Also read from a comment's text.

A comment is a stranger's text. It holds a request only if exactly one of its lines is
``mlflow_run_id=<32 hex digits> semver=<version>`` and nothing else looks like one.
"""

import re
from dataclasses import dataclass

from lynx_pipeline.errors import BadInput

LONGEST_COMMENT = 65_536
_REQUEST = re.compile(r"mlflow_run_id=([0-9a-f]{32}) semver=([0-9A-Za-z.+-]{1,64})")
_GOOD = "a line of its own: mlflow_run_id=<the run's 32 hex digits> semver=v1.2.3"


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for; whether the run exists and the version is free is not known yet."""

    mlflow_run_id: str
    semver: str


def parse_comment(raw: bytes) -> Request:
    """The one request in a comment.

    Raises:
        BadInput: there is none, more than one, or something that only resembles one.
    """
    if len(raw) > LONGEST_COMMENT:
        raise BadInput(f"the comment is longer than {LONGEST_COMMENT} bytes. Write {_GOOD}.")
    try:
        lines = raw.decode("utf-8").replace("\r\n", "\n").split("\n")
    except UnicodeDecodeError:
        raise BadInput(f"the comment is not UTF-8 text. Write {_GOOD}.") from None
    near = [line.strip(" ") for line in lines if re.search(r"mlflow_run_id|semver", line, re.I)]
    if len(near) != 1:
        raise BadInput(f"the comment holds {len(near)} requests, expected one. Write {_GOOD}.")
    match = _REQUEST.fullmatch(near[0])
    if match is None:
        raise BadInput(f"the comment's request can't be read. Write {_GOOD}.")
    return Request(match[1], match[2])
