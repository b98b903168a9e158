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


def counted(
    recent: RecentRuns,
    number: int,
    attempt: int,
    now: datetime,
    limit: int = 1000,
    name: str = NAMES[0],
) -> int:
    """Which request of this person it is."""
    made = requests(recent, number, attempt, lambda it: name in it.by, now)
    check_number(made, limit, f"{name} made", " A note.")
    return len(made.times)


def count(runs: list[Run], this: Run, limit: int = 1000) -> int:
    """Which request of octocat ``this`` is."""
    recent = listed(runs, this.created)
    return counted(recent, this.number, this.attempts, this.created, limit)


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
    found = {counted(it, this.number, 1, now) for it in (recent, earlier, backwards)}
    assert len(found) == 1


def test_every_attempt_counts() -> None:
    """For whoever started the run, and for whoever re-ran it."""
    both = frozenset(NAMES)
    runs = [Run(1, 3, START, both, True), Run(2, 2, START, frozenset({NAMES[0]}), True)]
    assert count(runs, runs[1]) == 5
    for name, made in zip(NAMES, (6, 4), strict=True):
        assert counted(RecentRuns(tuple(runs), 0), 3, 1, START, name=name) == made


def test_an_old_run_that_is_re_run_is_a_new_request() -> None:
    """Although it is older than a day, and than the runs before it."""
    recent = [Run(n, 1, START, frozenset(NAMES), True) for n in (8, 9)]
    for number in (3, 7, 8):
        others = 1 if number == 8 else 2
        found = RecentRuns(tuple(recent), 7)
        assert counted(found, number, 4, START) == others + 4


def test_the_message_names_the_deleted_runs() -> None:
    """The person may have deleted none."""
    this = Run(9, 1, START, frozenset(NAMES), True)
    with pytest.raises(Refused) as caught:
        count([Run(2, 1, START, frozenset({NAMES[1]}), True), this], this, 2)
    assert str(caught.value) == (
        "octocat made 7 requests in the 24 hours before this one, and 'requests_per_day' in "
        "pyproject.toml allows 2. 7 of them are runs of the workflow that were deleted, which "
        "count for everybody and for every candidate. A note. The next one is possible after "
        "2026-01-02 00:00 UTC. Each try is one more chance that a regressed candidate passes by "
        "luck; 'lynx-pipeline gate power --tries' shows how good it is."
    )


SHA, OTHER = "a" * 64, "b" * 64
FIRST = Job("Read the request", 1, skipped=False)
SKIPPED = Job("Evaluate ${{ needs.request.outputs.canonical_sha }}", 1, skipped=True)


def evaluate(name: str = f"Evaluate {SHA}", attempt: int = 1) -> Job:
    """The job that evaluates, with this name."""
    return Job(name, attempt, skipped=False)


@pytest.mark.parametrize(
    ("jobs", "attempts", "over", "running"),
    [
        pytest.param([FIRST, evaluate()], 1, {SHA}, {SHA}, id="one candidate"),
        pytest.param([evaluate(f"Deploy / Evaluate {SHA}")], 1, {SHA}, {SHA}, id="called"),
        pytest.param([evaluate(f"A / Evaluate / Evaluate {SHA}")], 1, {SHA}, {SHA}, id="nested"),
        pytest.param([FIRST, SKIPPED], 1, set(), set(), id="refused before it was evaluated"),
        pytest.param([evaluate(), FIRST], 2, {SHA}, None, id="not evaluated again yet"),
        pytest.param(
            [evaluate(), evaluate(f"Evaluate {OTHER}", 2)], 2, {SHA, OTHER}, {SHA, OTHER}, id="two"
        ),
        pytest.param([FIRST], 1, None, None, id="no such job"),
        pytest.param([], 1, None, None, id="no jobs"),
        pytest.param([evaluate("Evaluate the candidate")], 1, None, None, id="an older workflow"),
        pytest.param([evaluate("Evaluate")], 1, None, None, id="an empty sha"),
        pytest.param([evaluate("Evaluate " + SHA[:-1])], 1, None, None, id="too short"),
        pytest.param([evaluate(f"Evaluate {SHA} "), evaluate()], 1, None, None, id="both"),
        pytest.param([evaluate(f"Evaluated {SHA}")], 1, None, None, id="another word"),
        pytest.param([evaluate(f"Evaluate {SHA}...")], 1, None, None, id="cut off"),
    ],
)
def test_the_jobs_tell_the_candidates(
    jobs: list[Job], attempts: int, over: set[str] | None, running: set[str] | None
) -> None:
    """If they don't, the candidates are unknown, and so is the next one of a run in progress."""
    run = Run(1, attempts, START, frozenset(NAMES), True)
    assert evaluated(run, jobs) == over
    assert evaluated(replace(run, over=False), jobs) == running
