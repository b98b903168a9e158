"""How many releases one person may request in a day. Each request is one more chance that a
regressed candidate passes by luck, and a look at some answers.

The requests are the runs of the deploy workflow, as GitHub lists them:

- A run counts for whoever started it and for whoever re-ran it last, with all its attempts, however
  it ended. A run in which no job ran does not: every comment starts one.
- Only earlier runs count, so of several at once the first ones go on. A run that is re-run is later
  than all.
- Runs are numbered without gaps. Whoever can write to the repository can delete a run, and nobody
  can see whose it was. So a missing number counts for everybody, as old as the run after it.

GitHub does not list which pull request or candidate a run was about, so neither is limited on its
own.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from lynx_pipeline.errors import Refused

WINDOW = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Run:
    """A run of the deploy workflow: its number and how often it was started, the logins of those
    who started it, and whether any of its jobs ran."""

    number: int
    attempts: int
    created: datetime
    by: frozenset[str]
    has_jobs: bool


@dataclass(frozen=True, slots=True)
class RecentRuns:
    """The ``runs`` of the last :data:`WINDOW`, in any order. ``before`` is the number of the last
    run before them; 0 if there was none."""

    runs: tuple[Run, ...]
    before: int


def check_request_limit(
    recent: RecentRuns, number: int, attempt: int, login: str, limit: int, now: datetime
) -> int:
    """Check that ``login`` may make a request with the run ``number``, in its ``attempt``. Returns
    how many requests it is within the window, this one included.

    Raises:
        Refused: there were ``limit`` requests before this one. It counts, too.
    """
    is_new = attempt == 1
    known = {it.number: it for it in recent.runs if it.number <= number or not is_new}
    this = known.pop(number, Run(number, attempt, now, frozenset(), has_jobs=True))
    own = [it for it in known.values() if it.has_jobs and login.lower() in it.by]
    times = [it.created for it in own for _ in range(it.attempts)]
    times += [this.created] * (attempt - 1) + [this.created if is_new else now]
    deleted = _deleted([*known.values(), this], recent.before)
    times = sorted(times + deleted)
    if len(times) <= limit:
        return len(times)
    free = times[-limit] + WINDOW
    counted = (
        f" {len(deleted)} of them are runs of the workflow that were deleted, which count for "
        "everybody."
        if deleted
        else ""
    )
    raise Refused(
        f"{login} made {len(times) - 1} requests in the 24 hours before this one, and "
        f"'requests_per_day' in pyproject.toml allows {limit}.{counted} This one counts, too. The "
        f"next one is possible after {free:%Y-%m-%d %H:%M} UTC. Each try is one more chance that a "
        "regressed candidate passes by luck; 'lynx-pipeline gate power --tries' shows how good it "
        "is."
    )


def _deleted(runs: Iterable[Run], before: int) -> list[datetime]:
    """The latest possible time of each deleted run between these and the run ``before``."""
    found, last = list[datetime](), before
    for run in sorted(runs, key=lambda it: it.number):
        found += [run.created] * (run.number - last - 1)
        last = max(last, run.number)
    return found
