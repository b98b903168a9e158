"""How many releases may be requested in a day: by one person, and for one candidate. Each request
is one more chance that a regressed candidate passes by luck, and a look at some answers.

The requests are the runs of the deploy workflow, as GitHub lists them:

- A run is one request, however it ended: only its first attempt may request and evaluate. A run in
  which no job ran is none: every comment starts one.
- It counts for whoever started it, and for the candidate that it evaluated, which a job's name
  shows (see :func:`evaluated`). If none shows it, the run counts for every candidate.
- Only earlier runs count, so of several at once the first ones go on. The window ends when this run
  was created, not when its first job started: by waiting, runs could outlive those before them.
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
_EVALUATE = re.compile(r"Evaluate\b ?(.*)", re.DOTALL)
_SHA = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Run:
    """A run of the deploy workflow: its number and GitHub's ``id`` of it, the login of whoever
    started it in lower case (empty: a deleted account), and whether any of its jobs ran."""

    number: int
    created: datetime
    by: str
    has_jobs: bool
    id: int = 0


@dataclass(frozen=True, slots=True)
class Job:
    """A job of a run's first attempt."""

    name: str
    skipped: bool


@dataclass(frozen=True, slots=True)
class RecentRuns:
    """The ``runs`` of twice the :data:`WINDOW`, in any order. ``before`` is the number of the last
    run before them; 0 if there was none."""

    runs: tuple[Run, ...]
    before: int


@dataclass(frozen=True, slots=True)
class Requests:
    """The times of requests within a window, oldest first; the last one is that of this run.
    ``deleted`` of them are known by the gaps that they left, and ``unknown`` count although their
    candidate is not known."""

    times: tuple[datetime, ...]
    deleted: int
    unknown: int


def evaluated(jobs: Iterable[Job], canonical_sha: str) -> bool | None:
    """Whether a run with these jobs evaluated this candidate. None if no job shows that, or none
    yet: the name of the one that evaluates is ``Evaluate`` and the candidate's canonical sha,
    behind the names of jobs that call the workflow."""
    names = [(_EVALUATE.fullmatch(job.name.rpartition(" / ")[2]), job.skipped) for job in jobs]
    found = [(it[1], skipped) for it, skipped in names if it]
    if len(found) != 1:
        return None
    ((sha, skipped),) = found
    if skipped or "${{" in sha:  # a job without a machine, whose name GitHub did not evaluate
        return False
    return sha == canonical_sha if _SHA.fullmatch(sha) else None


def requests(
    recent: RecentRuns, number: int, counts: Callable[[Run], bool | None], now: datetime
) -> Requests:
    """The request that the run ``number`` makes, and those within the window before it that count.

    ``counts`` says which other runs count among those in which a job ran. None: not known, so the
    run counts.

    Raises:
        Refused: the run has waited for longer than the window.
    """
    known = {it.number: it for it in recent.runs if it.number <= number}
    this = known.pop(number, Run(number, now, "", has_jobs=True))
    if number <= recent.before or this.created < now - WINDOW:
        raise Refused(
            "this run has waited too long to be counted: more than 24 hours, or more than 1000 "
            "other runs of the workflow. Write a new comment."
        )
    begin = this.created - WINDOW
    within = [it for it in known.values() if it.created >= begin]
    before = max((it.number for it in known.values() if it.created < begin), default=recent.before)
    answers = [(it.created, counts(it)) for it in within if it.has_jobs]
    times = [created for created, it in answers if it is not False]
    deleted = _deleted([*within, this], before)
    return Requests(
        times=tuple(sorted([*times, *deleted, this.created])),
        deleted=len(deleted),
        unknown=sum(it is None for _, it in answers),
    )


def check_number(made: Requests, limit: int, subject: str, *, this_counts: bool) -> None:
    """Check that there were fewer than ``limit`` requests before this one. ``subject`` says in the
    error whose they are, such as ``octocat made``.

    Raises:
        Refused: there were not. ``this_counts``: the request counts nevertheless.
    """
    if len(made.times) <= limit:
        return
    free = made.times[-limit if this_counts else -limit - 1] + WINDOW
    notes, at_the_latest = "", ""
    if made.unknown:
        notes = f" {made.unknown} of them count for every candidate, since no job names one so far."
        at_the_latest = " at the latest"
    if made.deleted:
        notes += f" {made.deleted} of them are deleted runs, which count for everybody."
    if this_counts:
        notes += " This one counts, too."
    raise Refused(
        f"{subject} {len(made.times) - 1} requests in the 24 hours before this one, and "
        f"'requests_per_day' in pyproject.toml allows {limit}.{notes} The next one is possible "
        f"after {free:%Y-%m-%d %H:%M} UTC{at_the_latest}. "
        "'lynx-pipeline gate power --tries' shows what tries are worth."
    )


def _deleted(runs: Iterable[Run], before: int) -> list[datetime]:
    """The latest possible time of each deleted run between these and the run ``before``."""
    found, last = list[datetime](), before
    for run in sorted(runs, key=lambda it: it.number):
        found += [run.created] * (run.number - last - 1)
        last = max(last, run.number)
    return found
