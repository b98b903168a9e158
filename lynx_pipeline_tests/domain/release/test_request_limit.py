"""How many releases may be requested in a day, by one person and for one candidate."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lynx_pipeline.domain.release.request_limit import (
    WINDOW,
    Job,
    RecentRuns,
    Run,
    check_number,
    evaluated,
    requests,
)
from lynx_pipeline.errors import Refused

START = datetime(2026, 1, 1, tzinfo=UTC)
NAMES = ("octocat", "hubot")


def runs_of(hours: list[float], by: list[str], has_jobs: list[bool]) -> list[Run]:
    """Runs with these times, in order."""
    times = sorted(START + timedelta(hours=it) for it in hours)
    values = zip(times, by, has_jobs, strict=False)
    return [Run(n, t, who, jobs) for n, (t, who, jobs) in enumerate(values, 1)]


histories = st.builds(
    runs_of,
    st.lists(st.floats(0, 72), min_size=1, max_size=30),
    st.lists(st.sampled_from(NAMES), min_size=30, max_size=30),
    st.lists(st.booleans(), min_size=30, max_size=30),
)


def listed(runs: list[Run], now: datetime) -> RecentRuns:
    """What GitHub lists of these runs."""
    recent = tuple(it for it in runs if it.created >= now - 2 * WINDOW)
    return RecentRuns(recent, max((it.number for it in runs if it not in recent), default=0))


def counted(recent: RecentRuns, number: int, now: datetime, limit: int = 1000) -> int:
    """Which request of octocat it is."""
    made = requests(recent, number, lambda it: it.by == NAMES[0], now)
    check_number(made, limit, "octocat made", this_counts=True)
    return len(made.times)


def count(runs: list[Run], this: Run, limit: int = 1000) -> int:
    """Which request of octocat ``this`` is."""
    return counted(listed(runs, this.created), this.number, this.created, limit)


@given(histories, st.integers(1, 10))
def test_only_so_many_requests_within_a_day(runs: list[Run], limit: int) -> None:
    """Those of this person, whatever the others do, and not the runs without jobs."""
    this = replace(runs[-1], by=NAMES[0], has_jobs=True)
    earlier = [
        it
        for it in runs[:-1]
        if it.has_jobs and it.by == NAMES[0] and it.created >= this.created - WINDOW
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
    this = replace(runs[-1], by=NAMES[0], has_jobs=True)
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
    found = {counted(it, this.number, now) for it in (recent, earlier, backwards)}
    assert len(found) == 1


@given(histories, st.lists(st.floats(0, 24), min_size=30, max_size=30), st.integers(1, 5))
def test_waiting_makes_nothing_possible(runs: list[Run], waits: list[float], limit: int) -> None:
    """Of the runs that were created within a day, no more are allowed if they start late."""
    allowed = []
    for run, wait in zip(runs, waits, strict=False):
        if not run.has_jobs:
            continue
        now = run.created + timedelta(hours=wait)
        until = [it for it in runs if it.created <= now]
        try:
            made = requests(listed(until, now), run.number, lambda _: True, now)
            check_number(made, limit, "there were", this_counts=False)
        except Refused:
            continue
        allowed.append(run.created)
    for first in allowed:
        assert sum(first <= it <= first + WINDOW for it in allowed) <= limit


@given(histories, st.integers(1, 5))
def test_a_refused_request_that_does_not_count_prolongs_nothing(
    runs: list[Run], limit: int
) -> None:
    """The next one is possible when the message says, and not before."""
    now = runs[-1].created
    number = len(runs) + 1

    def tried(at: datetime) -> str:
        made = requests(listed(runs, at), number, lambda it: it.has_jobs, at)
        try:
            check_number(made, limit, "there were", this_counts=False)
        except Refused as refusal:
            return str(re.findall(r"possible after (.*) UTC", str(refusal))[0])
        return ""

    if free := tried(now):
        at = datetime.fromisoformat(f"{free}:00+00:00")
        assert tried(at + timedelta(minutes=1)) == ""
        if at - timedelta(minutes=1) >= now:
            assert tried(at - timedelta(minutes=1)) == free


def test_a_run_that_waited_too_long_makes_no_request() -> None:
    """Nobody would count it."""
    recent = RecentRuns((Run(8, START, NAMES[0], True), Run(9, START + WINDOW, "x", True)), 7)
    for number, hours in ((3, 24), (7, 24), (8, 25)):
        with pytest.raises(Refused, match="has waited too long"):
            counted(recent, number, START + timedelta(hours=hours))
    assert counted(recent, 8, START + WINDOW) == 1


def test_the_message_names_the_runs_that_count_for_all() -> None:
    """The person may have deleted none, and a run may show its candidate later."""
    runs = tuple(Run(n, START, NAMES[1], True) for n in (2, 4, 9))
    made = requests(RecentRuns(runs, 0), 9, lambda it: None if it.number == 2 else True, START)
    assert (len(made.times), made.deleted, made.unknown) == (9, 6, 1)
    with pytest.raises(Refused) as caught:
        check_number(made, 2, "there were", this_counts=True)
    assert str(caught.value) == (
        "there were 8 requests in the 24 hours before this one, and 'requests_per_day' in "
        "pyproject.toml allows 2. 1 of them count for every candidate, since no job names one so "
        "far. 6 of them are deleted runs, which count for everybody. This one counts, too. The "
        "next one is possible after 2026-01-02 00:00 UTC at the latest. 'lynx-pipeline gate power "
        "--tries' shows what tries are worth."
    )
    with pytest.raises(Refused) as caught:
        check_number(replace(made, deleted=0, unknown=0), 2, "there were", this_counts=False)
    assert "allows 2. The next one is possible after 2026-01-02 00:00 UTC. '" in str(caught.value)


SHA, OTHER = "a" * 64, "b" * 64
FIRST = Job("Read the request", skipped=False)
SKIPPED = Job("Evaluate ${{ needs.request.outputs.canonical_sha }}", skipped=True)


def evaluate(name: str = f"Evaluate {SHA}") -> Job:
    """The job that evaluates, with this name."""
    return Job(name, skipped=False)


@pytest.mark.parametrize(
    ("jobs", "expected"),
    [
        pytest.param([FIRST, evaluate()], True, id="this candidate"),
        pytest.param([FIRST, evaluate(f"Evaluate {OTHER}")], False, id="another"),
        pytest.param([evaluate(f"Deploy / Evaluate {SHA}")], True, id="called"),
        pytest.param([evaluate(f"Evaluate / Evaluate {SHA}")], True, id="called by a namesake"),
        pytest.param([FIRST, SKIPPED], False, id="refused before it was evaluated"),
        pytest.param([FIRST, replace(SKIPPED, skipped=False)], False, id="cancelled before it"),
        pytest.param([FIRST], None, id="not yet"),
        pytest.param([], None, id="no jobs"),
        pytest.param([evaluate("Evaluate the candidate")], None, id="an older workflow"),
        pytest.param([evaluate("Evaluate")], None, id="an empty sha"),
        pytest.param([evaluate(f"Evaluate {OTHER[:-1]}")], None, id="too short"),
        pytest.param([evaluate(f"Evaluate {OTHER} ")], None, id="a space"),
        pytest.param([evaluate(f"Evaluate {OTHER}...")], None, id="cut off"),
        pytest.param([evaluate(f"Evaluated {OTHER}")], None, id="another word"),
        pytest.param([evaluate(), evaluate(f"Evaluate {OTHER}")], None, id="two candidates"),
    ],
)
def test_a_job_shows_the_candidate(jobs: list[Job], expected: bool | None) -> None:
    """Only one that is named for the purpose. Otherwise the candidate is not known."""
    assert evaluated(jobs, SHA) is expected
