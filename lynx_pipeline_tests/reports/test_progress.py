"""Progress: enough lines to know, not so many that nobody reads them."""

import io
import os
import pty
import sys
from typing import Any

import pytest

from lynx_pipeline.reports.progress import lines, shown


class Clock:
    """Time that passes when it is told to."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def told(steps: list[tuple[float, int]], total: int) -> list[str]:
    """The lines said when, by the seconds, so many are answered."""
    said: list[str] = []
    clock = Clock()
    report = lines(said.append, clock)
    for seconds, done in steps:
        clock.now = 100.0 + seconds
        report(done, total)
    return said


def test_ten_lines_however_many_batches() -> None:
    """With rate and time left, and the end."""
    said = told([(k / 8, k * 7) for k in range(1001)], 7000)
    assert len(said) == 10
    assert said[0] == "700 of 7,000 prompts answered, 56 a second, 0:01:53 left"
    assert said[-1] == "7,000 of 7,000 prompts answered, 56 a second"


def test_a_line_a_minute_when_it_takes_long() -> None:
    """Silence looks like a process that hangs."""
    said = told([(30.0 * k, k) for k in range(10)], 10_000)
    assert said == [
        f"{k} of 10,000 prompts answered, 0.0333 a second, {left} left"
        for k, left in ((2, "3 days, 11:19:00"), (4, "3 days, 11:18:00"), (6, "3 days, 11:17:00"),
                        (8, "3 days, 11:16:00"))
    ]  # fmt: skip


def test_the_rate_is_the_models() -> None:
    """Without what was answered before, and without the time to load it."""
    said = told([(0, 5000), (20, 5100), (30, 6000)], 10_000)
    assert said == [
        "5,000 of 10,000 prompts answered",
        "6,000 of 10,000 prompts answered, 90 a second, 0:00:45 left",
    ]


@pytest.mark.parametrize("always", [True, False])
def test_without_a_terminal_it_is_silent_unless_asked(
    always: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """Logs of a script stay as they were."""
    with shown(always=always) as report:
        report(5, 5)
    err = capsys.readouterr().err
    assert err == ("5 of 5 prompts answered\n" if always else "")


def test_in_a_terminal_there_is_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawn on standard error, and gone at the end."""
    ours, theirs = pty.openpty()
    terminal: Any = io.TextIOWrapper(os.fdopen(theirs, "wb", 0), write_through=True)
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with shown(always=False) as report:
        report(600, 1200)
        report(1200, 1200)
    terminal.close()
    drawn = b""
    try:
        while some := os.read(ours, 65536):
            drawn += some
    except OSError:  # how a pseudo-terminal ends
        pass
    os.close(ours)
    assert b"1200/1200" in drawn
    assert b"100%" in drawn
