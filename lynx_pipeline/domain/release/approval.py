"""Whether a change to the gate inputs (the baseline and whatever else decides a verdict) was
approved by an owner of the baseline who did not write the change.

An approval applies to one commit. It counts only if that is the commit being proposed, so a later
push needs a new approval. All authors must be known: a commit that belongs to no GitHub account
might have been written by the approver. Leaves to the caller: fetching reviews and commits, and
who owns the baseline.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lynx_pipeline.domain.release.request import Objection, PullRequest
from lynx_pipeline.errors import Refused

MOST_COMMITS = 250  # GitHub lists at most this many commits of a pull request
_NO_VERDICT = ("COMMENTED", "PENDING")


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit of the pull request. ``author`` and ``committer`` are logins; None where the e-mail
    address belongs to no account."""

    sha: str
    author: str | None
    committer: str | None


@dataclass(frozen=True, slots=True)
class Review:
    """A review: ``state`` is GitHub's term, ``commit`` is the commit that was reviewed."""

    author: str
    state: str
    commit: str


def check_approved(
    pull: PullRequest,
    reviews: Iterable[Review],
    commits: Sequence[Commit],
    objection: Objection,
) -> str:
    """The login of the approver. ``reviews`` are oldest first; each reviewer's latest one counts.

    Raises:
        Refused: there is no valid approval (the message says why each review is not one), or an
            author of the change is unknown.
    """
    authors = {pull.author.lower()} | _authors(commits)
    latest = {r.author.lower(): r for r in reviews if r.state not in _NO_VERDICT}
    why: list[str] = []
    for login, review in latest.items():
        if review.state != "APPROVED":
            why.append(f"{review.author}'s latest review is {review.state}")
        elif login in authors:
            why.append(f"{review.author} wrote part of it")
        elif review.commit != pull.head:
            why.append(f"{review.author} approved {review.commit[:12]}, not {pull.head[:12]}")
        elif objected := objection(review.author):
            why.append(objected)
        else:
            return review.author
    raise Refused(
        "a change to the gate inputs must be approved by an owner of the baseline who did not "
        f"write it: {'; '.join(why) or 'nobody has reviewed it'}."
    )


def _authors(commits: Sequence[Commit]) -> set[str]:
    if len(commits) >= MOST_COMMITS:
        raise Refused(
            f"GitHub lists only the first {MOST_COMMITS} commits of a pull request, and this one "
            "may have more, so its authors can't all be checked. Propose the change in fewer "
            "commits."
        )
    found = set()
    for commit in commits:
        for login in (commit.author, commit.committer):
            if login is None:
                raise Refused(
                    f"commit {commit.sha[:12]} has an author or committer whose e-mail address "
                    "belongs to no GitHub account, so its author can't be checked. Add the address "
                    "to your GitHub account, or commit again with one that is known there."
                )
            found.add(login.lower())
    return found
