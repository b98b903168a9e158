"""Whether a change of the baseline, or of what else verdicts are by, was approved: by somebody who
owns the baseline and did not write the change.

An approval is of a commit, and counts for the proposed one only: whoever pushes after it asks
for another.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from lynx_pipeline.domain.request import Objection, PullRequest
from lynx_pipeline.errors import Refused

_SAYS_NOTHING = ("COMMENTED", "PENDING")


@dataclass(frozen=True, slots=True)
class Review:
    """A review: ``state`` in GitHub's words, ``commit`` is what was reviewed."""

    author: str
    state: str
    commit: str


def check_approved(
    pull: PullRequest,
    reviews: Iterable[Review],
    wrote: Iterable[str | None],
    objection: Objection,
) -> str:
    """Who approved. ``reviews`` are oldest first; a reviewer's last one counts. ``wrote`` are the
    authors and committers of the commits, None where GitHub knows no login.

    Raises:
        Refused: nobody who counts did, with what kept the others from counting.
    """
    last = {r.author.lower(): r for r in reviews if r.state not in _SAYS_NOTHING}
    wrote = {name.lower() for name in (pull.author, *wrote) if name}
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
