"""A release request: which run, under which version. Asked for in a comment on a pull request.

A comment is a stranger's text. It asks if it so much as mentions a run or a version; it holds a
request only if exactly one of its lines is ``mlflow_run_id=<32 hex digits> semver=<version>`` and
nothing else looks like one. What counts is the newest comment that asks, of somebody who may, as
it was first written, on an open pull request that is labelled :data:`LABEL`. Whoever set the run
off has to be somebody who may ask, too: with the label, or a re-run, an old request counts again.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from lynx_pipeline.errors import BadInput, Refused

LABEL = "deploy-candidate"
LONGEST_COMMENT = 65_536
_REQUEST = re.compile(r"mlflow_run_id=([0-9a-f]{32}) semver=([0-9A-Za-z.+-]{1,64})")
_ASKS = re.compile(r"mlflow_run_id|semver", re.IGNORECASE)
_GOOD = "a line of its own: mlflow_run_id=<the run's 32 hex digits> semver=v1.2.3"

# Why a login may not have a say; None: it may.
Objection = Callable[[str], str | None]


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for; whether the run exists and the version is free is not known yet."""

    mlflow_run_id: str
    semver: str


@dataclass(frozen=True, slots=True)
class Comment:
    """A comment on a pull request. Later ones have greater ids; ``node`` is its other id, which
    GitHub's GraphQL knows it by."""

    id: int
    author: str
    body: str
    edited: bool
    node: str = ""


@dataclass(frozen=True, slots=True)
class PullRequest:
    """A pull request, as far as it decides anything. ``head`` is the commit that is proposed."""

    number: int
    open: bool
    labels: frozenset[str]
    author: str
    head: str


def choose_comment(
    pull: PullRequest,
    comments: Iterable[Comment],
    objection: Objection,
    by: str,
    started_by: int | None = None,
) -> Comment:
    """The comment that counts. ``by`` set this run off. If a comment started it, ``started_by``,
    it has to be that one: each comment is answered in its own run.

    Raises:
        Refused: the pull request is closed or not labelled, or nobody asks who may, or ``by`` may
            not.
    """
    if not pull.open:
        raise Refused(f"pull request {pull.number} is closed. Nothing was changed.")
    if LABEL not in pull.labels:
        raise Refused(f"pull request {pull.number} has no label {LABEL!r}. Nothing was changed.")
    asking = sorted((c for c in comments if _ASKS.search(c.body)), key=lambda c: -c.id)
    chosen = next((c for c in asking if objection(c.author) is None), None)
    if started_by is not None and (chosen is None or chosen.id != started_by):
        author = next((c.author for c in asking if c.id == started_by), None)
        why = objection(author) if author is not None else "it is gone, or asks for nothing now"
        raise Refused(
            "the comment that started this run does not count: "
            f"{why or 'a newer one asks, and has a run of its own'}. Nothing was changed."
        )
    if chosen is None:
        why = "; ".join(dict.fromkeys(str(objection(comment.author)) for comment in asking))
        raise Refused(
            f"nobody asks who may on pull request {pull.number}: {why or 'no comment asks'}. "
            f"Write {_GOOD}. Nothing was changed."
        )
    if objected := objection(by):
        raise Refused(
            f"{chosen.author} asks, and this run was set off by {by}: {objected}. {chosen.author} "
            "can run it again, set the label anew, or write a new comment. Nothing was changed."
        )
    return chosen


def read_comment(comment: Comment) -> Request:
    """The one request in a comment that nobody changed.

    Raises:
        Refused: the comment was edited; somebody else can have done it.
        BadInput: see :func:`parse_comment`.
    """
    if comment.edited:
        raise Refused(
            f"the comment of {comment.author} that asks was edited after it was written. Write a "
            "new one. Nothing was changed."
        )
    return parse_comment(comment.body.encode("utf-8", "surrogatepass"))


def parse_comment(raw: bytes) -> Request:
    """The one request in a comment's text.

    Raises:
        BadInput: there is none, more than one, or something that only resembles one.
    """
    if len(raw) > LONGEST_COMMENT:
        raise BadInput(f"the comment is longer than {LONGEST_COMMENT} bytes. Write {_GOOD}.")
    try:
        lines = raw.decode("utf-8").replace("\r\n", "\n").split("\n")
    except UnicodeDecodeError:
        raise BadInput(f"the comment is not UTF-8 text. Write {_GOOD}.") from None
    if any("<!--" in line for line in lines):
        raise BadInput(f"the comment holds text that its page does not show. Write {_GOOD}.")
    near = [line.strip(" ") for line in lines if _ASKS.search(line)]
    if len(near) != 1:
        raise BadInput(f"the comment holds {len(near)} requests, expected one. Write {_GOOD}.")
    match = _REQUEST.fullmatch(near[0])
    if match is None:
        raise BadInput(f"the comment's request can't be read. Write {_GOOD}.")
    return Request(match[1], match[2])
