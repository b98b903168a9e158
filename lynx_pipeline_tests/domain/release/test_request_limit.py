"""How many releases one person may request in a day."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lynx_pipeline.domain.release.request_limit import (
    WINDOW,
    RecentRuns,
    Run,
    check_request_limit,
)
from lynx_pipeline.errors import Refused

START = datetime(2026, 1, 1, tzinfo=UTC)
NAMES = ("octocat", "hubot")


def runs_of(hours: list[float], by: list[str], has_jobs: list[bool]) -> list[Run]:
    """Runs with these times, in order."""
    times = sorted(START + timedelta(hours=it) for it in hours)
    values = zip(times, by, has_jobs, strict=False)
    return [Run(n, 1, t, frozenset({who}), jobs) for n, (t, who, jobs) in enumerate(values, 1)]


histories = st.builds(
    runs_of,
    st.lists(st.floats(0, 72), min_size=1, max_size=30),
    st.lists(st.sampled_from(NAMES), min_size=30, max_size=30),
    st.lists(st.booleans(), min_size=30, max_size=30),
)


def listed(runs: list[Run], now: datetime) -> RecentRuns:
    """What GitHub lists of these runs."""
    recent = tuple(it for it in runs if it.created >= now - WINDOW)
    return RecentRuns(recent, max((it.number for it in runs if it not in recent), default=0))


def count(runs: list[Run], this: Run, limit: int = 1000) -> int:
    """Which request of octocat ``this`` is."""
    return check_request_limit(
        listed(runs, this.created), this.number, this.attempts, "Octocat", limit, this.created
    )


@given(histories, st.integers(1, 10))
def test_only_so_many_requests_within_a_day(runs: list[Run], limit: int) -> None:
    """Those of this person, whatever the others do, and not the runs without jobs."""
    this = replace(runs[-1], by=frozenset({NAMES[0]}), has_jobs=True)
    earlier = [
        it
        for it in runs[:-1]
        if it.has_jobs and NAMES[0] in it.by and it.created >= this.created - WINDOW
    ]
    runs = [*runs[:-1], this]
    if len(earlier) < limit:
        assert count(runs, this, limit) == len(earlier) + 1
    else:
        with pytest.raises(Refused, match=f"made {len(earlier)} requests"):
            count(runs, this, limit)


@given(histories, st.integers(1, 5))
def test_the_next_request_is_possible_when_the_message_says(runs: list[Run], limit: int) -> None:
    """If there is none before."""
    this = replace(runs[-1], by=frozenset({NAMES[0]}), has_jobs=True)
    runs = [*runs[:-1], this]
    try:
        count(runs, this, limit)
    except Refused as refusal:
        (text,) = re.findall(r"possible after (.*) UTC", str(refusal))
        free = datetime.fromisoformat(f"{text}:00+00:00")
        later = replace(this, number=this.number + 1, created=free + timedelta(minutes=1))
        assert count([*runs, later], later, limit) <= limit
        early = replace(later, created=free - timedelta(minutes=1))
        if early.created >= this.created:
            with pytest.raises(Refused):
                count([*runs, early], early, limit)


@given(histories, st.data())
def test_deleting_runs_makes_nothing_possible(runs: list[Run], data: st.DataObject) -> None:
    """A missing number counts for everybody, also at the edges of the day."""
    this = runs[-1]
    kept = [it for it in runs[:-1] if data.draw(st.booleans())]
    assert count([*kept, this], this) >= count(runs, this)


@given(histories)
def test_later_runs_and_the_order_change_nothing(runs: list[Run]) -> None:
    """So of several requests at once, the first ones go on."""
    this = runs[len(runs) // 2]
    now = runs[-1].created
    if this.created < now - WINDOW:
        return
    recent = listed(runs, now)
    earlier = replace(recent, runs=tuple(it for it in recent.runs if it.number <= this.number))
    backwards = replace(recent, runs=recent.runs[::-1])
    found = {
        check_request_limit(it, this.number, 1, NAMES[0], 1000, now)
        for it in (recent, earlier, backwards)
    }
    assert len(found) == 1


def test_every_attempt_counts() -> None:
    """For whoever started the run, and for whoever re-ran it."""
    both = frozenset(NAMES)
    runs = [Run(1, 3, START, both, True), Run(2, 2, START, frozenset({NAMES[0]}), True)]
    assert count(runs, runs[1]) == 5
    for name, made in zip(NAMES, (6, 4), strict=True):
        assert check_request_limit(RecentRuns(tuple(runs), 0), 3, 1, name, 20, START) == made


def test_an_old_run_that_is_re_run_is_a_new_request() -> None:
    """Although it is older than a day, and than the runs before it."""
    recent = [Run(n, 1, START, frozenset(NAMES), True) for n in (8, 9)]
    for number in (3, 7, 8):
        others = 1 if number == 8 else 2
        found = RecentRuns(tuple(recent), 7)
        assert check_request_limit(found, number, 4, NAMES[0], 20, START) == others + 4


def test_the_message_names_the_deleted_runs() -> None:
    """The person may have deleted none."""
    this = Run(9, 1, START, frozenset(NAMES), True)
    with pytest.raises(Refused) as caught:
        count([Run(2, 1, START, frozenset({NAMES[1]}), True), this], this, 2)
    assert str(caught.value) == (
        "Octocat made 7 requests in the 24 hours before this one, and 'requests_per_day' in "
        "pyproject.toml allows 2. 7 of them are runs of the workflow that were deleted, which "
        "count for everybody. This one counts, too. The next one is possible after 2026-01-02 "
        "00:00 UTC. Each try is one more chance that a regressed candidate passes by luck; "
        "'lynx-pipeline gate power --tries' shows how good it is."
    )
