"""How many releases may be requested in a day: by one person, and for one candidate. Each request
is one more chance that a regressed candidate passes by luck, and a look at some answers.

The requests are the runs of the deploy workflow, as GitHub lists them:

- A run counts with all its attempts, however it ended. A run in which no job ran does not: every
  comment starts one.
- It counts for whoever started it and for whoever re-ran it last, and for the candidates that it
  evaluated, which its jobs name (see :func:`evaluated`). If no job tells, it counts for every
  candidate.
- Only earlier runs count, so of several at once the first ones go on. A run that is re-run is later
  than all.
- Runs are numbered without gaps. Whoever can write to the repository can delete a run, and nobody
  can see what it was. So a missing number counts for everybody and for every candidate, as old as
  the run after it.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from lynx_pipeline.errors import Refused

WINDOW = timedelta(hours=24)
# The name of the job that evaluates, behind those of the jobs that call its workflow.
_EVALUATE = re.compile(r"(?:.* / )?Evaluate\b ?(.*)", re.DOTALL)
_SHA = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Run:
    """A run of the deploy workflow: its number and how often it was started, the logins of those
    who started it, whether any of its jobs ran, GitHub's ``id`` of it, and whether it is ``over``.
    """

    number: int
    attempts: int
    created: datetime
    by: frozenset[str]
    has_jobs: bool
    id: int = 0
    over: bool = True


@dataclass(frozen=True, slots=True)
class Job:
    """A job of a run, in one of its attempts."""

    name: str
    attempt: int
    skipped: bool


@dataclass(frozen=True, slots=True)
class RecentRuns:
    """The ``runs`` of the last :data:`WINDOW`, in any order. ``before`` is the number of the last
    run before them; 0 if there was none."""

    runs: tuple[Run, ...]
    before: int


@dataclass(frozen=True, slots=True)
class Requests:
    """The times of some requests within the window, oldest first. The last one is the request that
    is made now, and ``deleted`` of them are known by the gaps that they left."""

    times: tuple[datetime, ...]
    deleted: int


def evaluated(run: Run, jobs: Iterable[Job]) -> frozenset[str] | None:
    """The canonical shas of the candidates that a run evaluated; None if that is not known, or not
    yet.

    ``jobs`` are those of all attempts. The name of the one that evaluates ends with ``Evaluate``
    and the sha.
    """
    found = [(job, it[1]) for job in jobs if (it := _EVALUATE.fullmatch(job.name))]
    if not found or not (run.over or any(job.attempt == run.attempts for job, _ in found)):
        return None
    shas = frozenset(sha for job, sha in found if not job.skipped)
    return shas if all(map(_SHA.fullmatch, shas)) else None


def requests(
    recent: RecentRuns, number: int, attempt: int, counts: Callable[[Run], bool], now: datetime
) -> Requests:
    """The request that the run ``number`` makes in its ``attempt``, and those before it that count.

    ``counts`` says which other runs count among those in which a job ran. It is asked about each
    of them once.
    """
    is_new = attempt == 1
    known = {it.number: it for it in recent.runs if it.number <= number or not is_new}
    this = known.pop(number, Run(number, attempt, now, frozenset(), has_jobs=True))
    counted = [it for it in known.values() if it.has_jobs and counts(it)]
    times = [it.created for it in counted for _ in range(it.attempts)]
    times += [this.created] * (attempt - 1) + [this.created if is_new else now]
    deleted = _deleted([*known.values(), this], recent.before)
    return Requests(tuple(sorted(times + deleted)), len(deleted))


def check_number(made: Requests, limit: int, subject: str, note: str = "") -> None:
    """Check that there were fewer than ``limit`` requests before the one that is made now.
    ``subject`` says in the error whose they are, such as ``octocat made``; ``note`` is added.

    Raises:
        Refused: there were not.
    """
    if len(made.times) <= limit:
        return
    free = made.times[-limit] + WINDOW
    deleted = (
        f" {made.deleted} of them are runs of the workflow that were deleted, which count for "
        "everybody and for every candidate."
        if made.deleted
        else ""
    )
    raise Refused(
        f"{subject} {len(made.times) - 1} requests in the 24 hours before this one, and "
        f"'requests_per_day' in pyproject.toml allows {limit}.{deleted}{note} The next one is "
        f"possible after {free:%Y-%m-%d %H:%M} UTC. Each try is one more chance that a regressed "
        "candidate passes by luck; 'lynx-pipeline gate power --tries' shows how good it is."
    )


def _deleted(runs: Iterable[Run], before: int) -> list[datetime]:
    """The latest possible time of each deleted run between these and the run ``before``."""
    found, last = list[datetime](), before
    for run in sorted(runs, key=lambda it: it.number):
        found += [run.created] * (run.number - last - 1)
        last = max(last, run.number)
    return found
