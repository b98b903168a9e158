"""Whether a change of the baseline, or of what else verdicts are by, was approved: by somebody who
owns the baseline and did not write the change.

An approval is of a commit, and counts for the proposed one only: whoever pushes after it asks
for another. Who wrote a change has to be known: a commit of nobody's account could be anybody's.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lynx_pipeline.domain.release.request import Objection, PullRequest
from lynx_pipeline.errors import Refused

MOST_COMMITS = 250  # GitHub lists no more of a pull request's
_SAYS_NOTHING = ("COMMENTED", "PENDING")


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit of the pull request, and the logins of its author and committer, None where no
    account has the e-mail address."""

    sha: str
    author: str | None
    committer: str | None


@dataclass(frozen=True, slots=True)
class Review:
    """A review: ``state`` in GitHub's words, ``commit`` is what was reviewed."""

    author: str
    state: str
    commit: str


def check_approved(
    pull: PullRequest,
    reviews: Iterable[Review],
    commits: Sequence[Commit],
    objection: Objection,
) -> str:
    """Who approved. ``reviews`` are oldest first; a reviewer's last one counts.

    Raises:
        Refused: nobody who counts did, with what kept the others from counting; or who wrote the
            change is not known.
    """
    wrote = {pull.author.lower()} | _writers(commits)
    last = {r.author.lower(): r for r in reviews if r.state not in _SAYS_NOTHING}
    why: list[str] = []
    for login, review in last.items():
        if review.state != "APPROVED":
            why.append(f"the last word of {review.author} is {review.state}")
        elif login in wrote:
            why.append(f"{review.author} wrote some of it")
        elif review.commit != pull.head:
            why.append(f"{review.author} approved {review.commit[:12]}, not {pull.head[:12]}")
        elif objected := objection(review.author):
            why.append(objected)
        else:
            return review.author
    raise Refused(
        "a change of what verdicts are by needs the approval of an owner of the baseline who did "
        "not write it: "
        f"{'; '.join(why) or 'nobody has reviewed it'}."
    )


def _writers(commits: Sequence[Commit]) -> set[str]:
    if len(commits) >= MOST_COMMITS:
        raise Refused(
            f"GitHub lists the first {MOST_COMMITS} commits of a pull request, and this one may "
            "have more: who wrote them is not known. Propose the change with fewer."
        )
    found = set()
    for commit in commits:
        for login in (commit.author, commit.committer):
            if login is None:
                raise Refused(
                    f"commit {commit.sha[:12]} has an author or committer whose e-mail address is "
                    "of no GitHub account: who wrote it is not known. Add the address to the "
                    "account, or commit anew."
                )
            found.add(login.lower())
    return found
