"""Progress: enough lines to follow an evaluation, few enough to read."""

import io
import os
import pty
import sys
from typing import Any

import pytest

from lynx_pipeline.reports.progress import lines, shown


class Clock:
    """A clock that the test sets."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def written(steps: list[tuple[float, int]], total: int) -> list[str]:
    """The lines for these steps, each (seconds, prompts answered)."""
    result: list[str] = []
    clock = Clock()
    report = lines(result.append, clock)
    for seconds, done in steps:
        clock.now = 100.0 + seconds
        report(done, total)
    return result


def test_any_number_of_batches_gives_ten_lines() -> None:
    """Each line shows the rate and, except for the last, the time left."""
    result = written([(k / 8, k * 7) for k in range(1001)], 7000)
    assert len(result) == 10
    assert result[0] == "700 of 7,000 prompts answered, 56 per second, 0:01:53 left"
    assert result[-1] == "7,000 of 7,000 prompts answered, 56 per second"


def test_a_fast_evaluation_writes_few_lines() -> None:
    """Nobody can read ten lines in half a second. The last line is never left out."""
    result = written([(k / 200, k * 70) for k in range(101)], 7000)
    assert [line.split(" prompts")[0] for line in result] == ["700 of 7,000", "7,000 of 7,000"]


def test_a_slow_evaluation_writes_a_line_a_minute() -> None:
    """Without these lines, the process would seem to hang."""
    result = written([(30.0 * k, k) for k in range(10)], 10_000)
    assert result == [
        f"{k} of 10,000 prompts answered, 0.0333 per second, {left} left"
        for k, left in ((2, "3 days, 11:19:00"), (4, "3 days, 11:18:00"), (6, "3 days, 11:17:00"),
                        (8, "3 days, 11:16:00"))
    ]  # fmt: skip


def test_the_rate_is_the_speed_of_the_model() -> None:
    """Answers from an earlier attempt and the time to load the model don't count."""
    result = written([(0, 5000), (20, 5100), (30, 6000)], 10_000)
    assert result == [
        "5,000 of 10,000 prompts answered",
        "6,000 of 10,000 prompts answered, 90 per second, 0:00:45 left",
    ]


@pytest.mark.parametrize("always", [True, False])
def test_without_a_terminal_nothing_is_written_unless_asked(
    always: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """The output of existing scripts does not change."""
    with shown(always=always) as report:
        report(5, 5)
    err = capsys.readouterr().err
    assert err == ("5 of 5 prompts answered\n" if always else "")


def test_a_terminal_shows_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bar is drawn on standard error, and removed at the end."""
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
        while chunk := os.read(ours, 65536):
            drawn += chunk
    except OSError:  # how a pseudo-terminal ends
        pass
    os.close(ours)
    bar, erase_line, after = drawn.rpartition(b"\x1b[2K")
    assert erase_line
    assert b"1200/1200" in bar
    assert b"100%" in bar
    assert b"1200" not in after
