"""The local engine: how it distributes batches among processes and how it ends."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lynx_pipeline.config import Limits
from lynx_pipeline.domain.candidate_eval import NONE
from lynx_pipeline.errors import BadInput
from lynx_pipeline.sandbox.engine import Batch
from lynx_pipeline.sandbox.isolation import Isolation
from lynx_pipeline.sandbox.local import Local
from lynx_pipeline_tests.support.worker_scripts import (
    LIMITS,
    PROMPTS,
    ask,
    ask_batches,
    batches,
    isolation,
    write_script,
)


def test_one_batch_is_sent_ahead(scripted: Path) -> None:
    """The process does not wait for its next batch, and prompts do not pile up."""
    write_script(scripted)
    taken: list[int] = []

    def counted() -> Iterator[Batch]:
        for batch in batches(PROMPTS * 9, 5):
            taken.append(batch.rows[0])
            yield batch

    answers = Local(scripted, isolation(), LIMITS, 1).answer(counted(), len(PROMPTS) * 9)
    next(answers)
    deadline = time.monotonic() + 5
    while len(taken) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.2)
    # Two results are in the queue, a third waits to enter it, and one batch is sent ahead.
    assert 2 <= len(taken) <= 6
    assert len(list(answers)) == 21


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_several_processes_share_the_work(scripted: Path, workers: int) -> None:
    """Processes are added while the remaining work justifies it, up to the maximum."""
    each = "seconds = 9; time.sleep(0.1); answers = [str(os.getpid())] * len(ids)"
    write_script(scripted, each=each)
    found = ask_batches(scripted, prompts=PROMPTS * 5, workers=workers, chosen=Isolation(NONE))
    assert sorted(row for batch in found for row in batch.rows) == list(range(60))
    assert len({text for batch in found for text in batch.answers}) == workers


def test_no_process_is_started_for_little_remaining_work(scripted: Path) -> None:
    """Loading a second process would take longer than the first one needs to finish."""
    write_script(scripted, each="answers = [str(os.getpid())] * len(ids); seconds = 0.01")
    found = ask_batches(scripted, prompts=PROMPTS * 5, workers=4, chosen=Isolation(NONE))
    assert len({text for batch in found for text in batch.answers}) == 1


def test_a_failing_process_ends_all_others(scripted: Path) -> None:
    """The others end immediately, and the error gives the reason."""
    each = "seconds = 9; time.sleep(0.05); 'word3' in answers and ids[0] > 9 and sys.exit(3)"
    write_script(scripted, each=each)
    started, threads = time.monotonic(), threading.active_count()
    with pytest.raises(BadInput, match="exit code 3"):
        ask(scripted, prompts=PROMPTS * 99, workers=3)
    assert time.monotonic() - started < 10
    assert threading.active_count() == threads


def test_answers_can_be_abandoned(scripted: Path) -> None:
    """Closing the iterator early leaves no threads behind."""
    write_script(scripted, each="seconds = 9")
    threads = threading.active_count()
    answers = Local(scripted, isolation(), LIMITS, 3).answer(batches(PROMPTS * 99, 5), 99 * 12)
    next(answers)
    answers.close()  # type: ignore[attr-defined]
    assert threading.active_count() == threads


@pytest.mark.parametrize("size", [1, 7, 12, 100])
def test_answers_do_not_depend_on_the_batch_size(scripted: Path, size: int) -> None:
    """The answers and their order are the same."""

    limits = Limits(batch_size=size)
    assert ask(write_script(scripted), limits) == [f"word{k}" for k in range(12)]
