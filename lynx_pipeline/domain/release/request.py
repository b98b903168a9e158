"""A release request: a comment on a pull request that names a candidate and a version.

Comments are untrusted text. The rules:

- A comment that mentions a run or a version is meant as a request. It is a valid one only if
  exactly one line is ``mlflow_run_id=<id> semver=<version>``, optionally followed by
  ``model=<name>`` and ``gate=<name>``, and no other line mentions a run or a version, so that
  nothing can be read two ways.
- The newest such comment by an authorized author counts, and only if it was never edited.
- The pull request must be open and labelled :data:`LABEL`.
- Whoever triggered the workflow run must be authorized too, because setting the label or re-running
  a workflow can make an old request valid again.

Leaves to the caller: who is authorized, which model the request names, and whether the version is
free.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from lynx_pipeline.errors import BadInput, Refused

LABEL = "deploy-candidate"
LONGEST_COMMENT = 65_536
_REQUEST = re.compile(
    r"mlflow_run_id=([\w.:@/%~-]{1,2000}) semver=([0-9A-Za-z.+-]{1,64})"
    r"(?: model=([\w.:@/%=+~-]{1,1000}))?(?: gate=([\w.-]{1,255}))?",
    re.ASCII,
)
_MENTIONS = re.compile(r"mlflow_run_id|semver", re.IGNORECASE)
_GOOD = (
    "a separate line: mlflow_run_id=RUN_ID semver=v1.2.3, optionally followed by model=NAME and "
    "gate=NAME"
)

# Why a login is not authorized; None if it is.
Objection = Callable[[str], str | None]


@dataclass(frozen=True, slots=True)
class Request:
    """The requested candidate and version, neither of them checked yet.

    ``reference`` is a candidate's key or a version of a registered model, ``model`` the name of one
    of the run's models: see :func:`lynx_pipeline.adapters.mlflow_candidates.choose_model`. ``gate``
    is the project's model to promote it as, if the project has several; otherwise "".
    """

    reference: str
    semver: str
    model: str | None = None
    gate: str = ""


@dataclass(frozen=True, slots=True)
class Comment:
    """A comment on a pull request. Later ones have greater ids; ``node`` is its id in GitHub's
    GraphQL API."""

    id: int
    author: str
    body: str
    edited: bool
    node: str = ""


@dataclass(frozen=True, slots=True)
class PullRequest:
    """The facts about a pull request that the rules need. ``head`` is the proposed commit."""

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
    """The comment that is the request. ``by`` is the login that triggered this workflow run. If a
    comment triggered it, ``started_by`` is that comment's id and the result must be that comment,
    because each request is answered in its own run.

    Raises:
        Refused: the pull request is closed or not labelled, it has no authorized request, or
            ``by`` is not authorized.
    """
    if not pull.open:
        raise Refused(f"pull request {pull.number} is closed. Reopen it to request a release.")
    if LABEL not in pull.labels:
        raise Refused(
            f"pull request {pull.number} has no label {LABEL!r}. Add it to request a release."
        )
    requests = sorted((c for c in comments if _MENTIONS.search(c.body)), key=lambda c: -c.id)
    chosen = next((c for c in requests if objection(c.author) is None), None)
    if started_by is not None and (chosen is None or chosen.id != started_by):
        author = next((c.author for c in requests if c.id == started_by), None)
        why = "it was deleted or is no longer a request" if author is None else objection(author)
        raise Refused(
            "the comment that started this run is ignored: "
            f"{why or 'a newer request has its own run'}."
        )
    if chosen is None:
        why = "; ".join(dict.fromkeys(str(objection(comment.author)) for comment in requests))
        raise Refused(
            f"pull request {pull.number} has no authorized request: "
            f"{why or 'no comment requests a release'}. Write {_GOOD}."
        )
    if objected := objection(by):
        raise Refused(
            f"{chosen.author} requested the release, but {by} triggered this run: {objected}. "
            f"{chosen.author} can set the label again, write a new comment, or re-run the job "
            "promote if only that is left."
        )
    return chosen


def read_comment(comment: Comment) -> Request:
    """The request in a comment that was never edited.

    Raises:
        Refused: the comment was edited; others than its author can do that.
        BadInput: see :func:`parse_comment`.
    """
    if comment.edited:
        raise Refused(
            f"the request comment by {comment.author} was edited after it was written. Write a new "
            "comment."
        )
    return parse_comment(comment.body.encode("utf-8", "surrogatepass"))


def parse_comment(raw: bytes) -> Request:
    """The request in a comment's text.

    Raises:
        BadInput: the text contains no request, several, or something that only resembles one.
    """
    if len(raw) > LONGEST_COMMENT:
        raise BadInput(f"the comment is longer than {LONGEST_COMMENT} bytes. Write {_GOOD}.")
    try:
        lines = raw.decode("utf-8").replace("\r\n", "\n").split("\n")
    except UnicodeDecodeError:
        raise BadInput(f"the comment is not UTF-8 text. Write {_GOOD}.") from None
    if any("<!--" in line for line in lines):
        raise BadInput(f"the comment contains hidden text (<!--). Write {_GOOD}.")
    near = [line.strip(" ") for line in lines if _MENTIONS.search(line)]
    if len(near) != 1:
        raise BadInput(f"the comment contains {len(near)} requests, expected one. Write {_GOOD}.")
    match = _REQUEST.fullmatch(near[0])
    if match is None:
        raise BadInput(f"the comment's request can't be read. Write {_GOOD}.")
    return Request(match[1], match[2], match[3], match[4] or "")
