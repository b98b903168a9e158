"""The candidate's process, real ones only: what it may answer, and how long it may take.

Most are scripts that speak the worker's protocol, well or badly, and start fast. Those marked
slow load a model with MLflow.
"""

import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lynx_pipeline.config import Limits
from lynx_pipeline.domain.candidate_eval import BUBBLEWRAP, NONE
from lynx_pipeline.errors import BadInput
from lynx_pipeline.sandbox.isolation import Isolation
from lynx_pipeline.sandbox.workers import Batch, Local
from lynx_pipeline_tests.support.builders import bundle
from lynx_pipeline_tests.support.strangers import (
    LIMITS,
    PROMPTS,
    QUICK,
    ask,
    asked,
    batches,
    isolation,
    speaks,
)


def test_good_answers_come_back_by_row(stranger: Path) -> None:
    """A batch at a time, with what the process says of itself."""
    speaks(stranger)
    found = asked(stranger)
    assert [batch.rows for batch in found] == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 11]]
    assert [text for batch in found for text in batch.answers] == [f"word{k}" for k in range(12)]
    level = isolation().level
    assert [batch[2:] for batch in found] == [(0.25, 0.5, 1.5, level)] * 3


def test_the_next_batch_is_on_its_way_while_one_is_answered(stranger: Path) -> None:
    """One ahead and no more: the process does not wait for us, nor do prompts pile up."""
    speaks(stranger)
    taken: list[int] = []

    def counted() -> Iterator[Batch]:
        for batch in batches(PROMPTS * 9, 5):
            taken.append(batch.rows[0])
            yield batch

    answers = Local(stranger, isolation(), LIMITS, 1).answer(counted(), len(PROMPTS) * 9)
    next(answers)
    deadline = time.monotonic() + 5
    while len(taken) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.2)
    # Two answers wait for us, a third to be put there, and one batch is ahead of it.
    assert 2 <= len(taken) <= 6
    assert len(list(answers)) == 21


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_several_processes_share_the_work(stranger: Path, workers: int) -> None:
    """Another one is started when the work left is worth it, and no more than allowed."""
    speaks(stranger, each="seconds = 9; time.sleep(0.1); answers = [str(os.getpid())] * len(ids)")
    found = asked(stranger, prompts=PROMPTS * 5, workers=workers, chosen=Isolation(NONE))
    assert sorted(row for batch in found for row in batch.rows) == list(range(60))
    assert len({text for batch in found for text in batch.answers}) == workers


def test_a_process_is_not_started_for_work_that_is_soon_done(stranger: Path) -> None:
    """Loading would take longer than the one that is there needs."""
    speaks(stranger, each="answers = [str(os.getpid())] * len(ids); seconds = 0.01")
    found = asked(stranger, prompts=PROMPTS * 5, workers=4, chosen=Isolation(NONE))
    assert len({text for batch in found for text in batch.answers}) == 1


def test_when_one_process_fails_all_are_ended(stranger: Path) -> None:
    """At once, and its reason is told."""
    each = "seconds = 9; time.sleep(0.05); 'word3' in answers and ids[0] > 9 and sys.exit(3)"
    speaks(stranger, each=each)
    started, threads = time.monotonic(), threading.active_count()
    with pytest.raises(BadInput, match="exit code 3"):
        ask(stranger, prompts=PROMPTS * 99, workers=3)
    assert time.monotonic() - started < 10
    assert threading.active_count() == threads


def test_nobody_needs_to_hear_all_answers(stranger: Path) -> None:
    """Whoever stops listening leaves no process and no thread."""
    speaks(stranger, each="seconds = 9")
    threads = threading.active_count()
    answers = Local(stranger, isolation(), LIMITS, 3).answer(batches(PROMPTS * 99, 5), 99 * 12)
    next(answers)
    answers.close()  # type: ignore[attr-defined]
    assert threading.active_count() == threads


def test_it_is_asked_with_running_numbers(stranger: Path) -> None:
    """An item's id may say what its answer is."""
    speaks(stranger, each="answers = [f'{i}' for i in ids]")
    assert ask(stranger) == [str(k) for k in range(12)]


def test_null_is_an_answer(stranger: Path) -> None:
    """It is counted as wrong elsewhere."""
    speaks(stranger, each="answers = [None, *answers[1:]]")
    assert [row for row, text in enumerate(ask(stranger)) if text is None] == [0, 5, 10]


@pytest.mark.parametrize("size", [1, 7, 12, 100])
def test_the_batch_size_changes_no_answer(stranger: Path, size: int) -> None:
    """Nor their order."""
    limits = Limits(batch_size=size)
    assert ask(speaks(stranger), limits) == [f"word{k}" for k in range(12)]


def test_long_batches_do_not_block_the_pipes(stranger: Path) -> None:
    """Megabytes each way, while it also writes to standard error."""
    prompts = ["Say " + "x" * 100_000] * 40
    speaks(stranger, each="sys.stderr.write('y' * 300_000)")
    limits = Limits(batch_size=20, output_mib=16)
    found = ask(stranger, limits, prompts)
    assert set(found) == {"x" * 100_000}


@pytest.mark.parametrize(
    ("each", "says"),
    [
        pytest.param("answers.pop()", "4 predictions to 5 prompts", id="too few"),
        pytest.param("answers.append('x')", "6 predictions to 5 prompts", id="too many"),
        pytest.param("answers = []", "0 predictions to 5 prompts", id="none"),
        pytest.param("answers = None", "no list of", id="no list"),
        pytest.param("answers = {i: 'x' for i in ids}", "no list of", id="a mapping"),
        pytest.param("answers = 'words'", "no list of", id="a text as long as the batch"),
        pytest.param("answers[0] = 5", "answered int", id="a number"),
        pytest.param("answers[0] = True", "answered bool", id="true"),
        pytest.param("answers[0] = ['x']", "answered list", id="a list"),
        pytest.param("answers[0] = '\\ud800'", "half a surrogate", id="half a surrogate"),
        pytest.param("ids = ids[::-1]", "other ids", id="ids reversed"),
        pytest.param("ids = [ids[0]] * 5", "other ids", id="ids doubled"),
        pytest.param("ids = ids[:-1]", "other ids", id="id missing"),
        pytest.param("ids = [f'{i}' for i in ids]", "other ids", id="ids as text"),
        pytest.param("seconds = float('nan')", "seconds", id="NaN seconds"),
        pytest.param("seconds = -1", "seconds", id="negative seconds"),
        pytest.param("seconds = '1'", "seconds", id="seconds as text"),
        pytest.param("peak = float('inf')", "peak_mib", id="infinite memory"),
        pytest.param("peak = True", "peak_mib", id="memory true"),
        pytest.param("say(error='no\\x1b[2J idea')", r"failed with no\?\[2J idea", id="an error"),
        pytest.param(
            "say(error='no'); time.sleep(0.5); sys.exit('in line 7')",
            "failed with no.* It printed: in line 7",
            id="an error, and where",
        ),
        pytest.param("print('hello', flush=True)", "no JSON object", id="prose"),
        pytest.param("print([1], flush=True)", "no JSON object", id="JSON, no object"),
        pytest.param("print('[' * 9999, flush=True)", "no JSON object", id="deep JSON"),
        pytest.param("print('{\"a\":' + '9' * 9999 + '}')", "no JSON", id="too many digits"),
        pytest.param("os.write(1, b'\\xff\\n')", "no JSON object", id="no text"),
        pytest.param("sys.exit(3)", "ended during the batch.*exit code 3", id="exits"),
        pytest.param("sys.exit(0)", "ended during the batch.*exit code 0", id="exits well"),
        pytest.param("os.kill(os.getpid(), 11)", "ended during the batch", id="crashes"),
        pytest.param("raise ValueError('why')", "ended during.*ValueError: why", id="raises"),
        pytest.param("print('x' * (2 << 20), flush=True)", "more output", id="too much output"),
        pytest.param("sys.stderr.write('x' * (2 << 20))", "more output", id="too much noise"),
    ],
)
def test_an_answer_out_of_form_ends_the_evaluation(stranger: Path, each: str, says: str) -> None:
    """With the reason; never a lower score, never fewer questions."""
    speaks(stranger, each=each)
    with pytest.raises(BadInput, match=f"could not be evaluated: .*{says}") as caught:
        ask(stranger)
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize(
    ("script", "says"),
    [
        pytest.param({"first": "sys.exit(1)"}, "ended during loading", id="no hello"),
        pytest.param({"first": "say(ready='soon')"}, "ready = 'soon'", id="odd hello"),
        pytest.param({"first": "say(ready=1)"}, "no list", id="two hellos"),
        pytest.param({"last": "sys.exit(5)"}, "did not end well.*exit code 5", id="ends badly"),
        pytest.param({"last": "print('x' * (2 << 20))"}, "more output", id="floods at the end"),
    ],
)
def test_beginning_and_end_have_to_be_in_form_too(
    stranger: Path, script: dict[str, str], says: str
) -> None:
    """A process that ends badly may have answered badly."""
    with pytest.raises(BadInput, match=says):
        ask(speaks(stranger, **script))


@pytest.mark.parametrize(
    ("script", "says"),
    [
        pytest.param({"each": "time.sleep(999)"}, "ran out of time during the batch", id="sleeps"),
        pytest.param({"each": "os.write(1, b'{'); time.sleep(999)"}, "ran out of time", id="half"),
        pytest.param(
            {"each": "[print(end='x', flush=True) or time.sleep(0.1) for _ in range(999)]"},
            "ran out of time",
            id="drips",
        ),
        pytest.param(
            {"each": "os.close(1); os.close(2); time.sleep(999)"},
            "ran out of time|runs on|ended during",
            id="closes its output",
        ),
        pytest.param(
            {"first": "signal.signal(15, signal.SIG_IGN)", "each": "time.sleep(999)"},
            "ran out of time",
            id="ignores being asked to end",
        ),
        pytest.param(
            {"each": "os.fork() or time.sleep(999); time.sleep(999)"}, "out of time", id="forks"
        ),
    ],
)
def test_time_is_limited(stranger: Path, script: dict[str, str], says: str) -> None:
    """However it spends it."""
    started = time.monotonic()
    with pytest.raises(BadInput, match=says):
        ask(speaks(stranger, **script), QUICK)
    assert time.monotonic() - started < 15


def test_a_process_that_reads_nothing_is_given_up(stranger: Path) -> None:
    """The questions are larger than a pipe holds."""
    prompts = ["x" * 100_000] * 5
    speaks(stranger, first="say(ready=1); time.sleep(999)")
    with pytest.raises(BadInput, match="did not take its input in time"):
        ask(stranger, QUICK, prompts)


def test_loading_and_the_whole_have_limits_of_their_own(stranger: Path) -> None:
    """Each batch may be in time and all of them too slow."""
    with pytest.raises(BadInput, match="ran out of time during loading"):
        ask(speaks(stranger, first="time.sleep(999)"), Limits(load_seconds=1))
    slow = Limits(batch_size=1, total_seconds=3)
    with pytest.raises(BadInput, match="ran out of time during the batch"):
        ask(speaks(stranger, each="time.sleep(1)"), slow)


def test_nothing_of_it_lives_on(stranger: Path) -> None:
    """Under isolation not even a child that left its process group."""
    mark = f"lynx-survivor-{os.getpid()}-{time.monotonic_ns()}"
    speaks(
        stranger,
        first="import subprocess",
        each=f"subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(99)', '{mark}'], "
        "start_new_session=True); time.sleep(999)",
    )
    with pytest.raises(BadInput, match="ran out of time"):
        ask(stranger, QUICK)
    deadline = time.monotonic() + 5
    while (alive := _processes(mark)) and time.monotonic() < deadline:
        time.sleep(0.05)
    if isolation().level == BUBBLEWRAP:
        assert alive == []
    for pid in alive:
        os.kill(pid, 9)


def _processes(mark: str) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if mark.encode() in arguments:
            found.append(int(folder.name))
    return found


# ----- models that MLflow loads -------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "load", "says"),
    [
        pytest.param("pass", "raise RuntimeError('at load')", "loading.*at load", id="load"),
        pytest.param("raise KeyError('inside')", "pass", "batch.*KeyError: 'inside'", id="predict"),
        pytest.param("return prompts[:-1]", "pass", "4 predictions to 5", id="too few"),
        pytest.param("return [1.5 for _ in prompts]", "pass", "answers float", id="numbers"),
        pytest.param("pass", "bytearray(1 << 40)", "MemoryError", id="memory"),
        pytest.param("import os; os._exit(0)", "pass", "exit code 0", id="vanishes"),
    ],
)
def test_a_model_that_fails_is_no_model_with_a_low_score(
    tmp_path: Path, body: str, load: str, says: str
) -> None:
    """Loaded by MLflow, as in serving."""
    with pytest.raises(BadInput, match=says):
        ask(bundle(tmp_path / "b", body, load))


@pytest.mark.slow
def test_what_a_model_prints_is_no_answer(tmp_path: Path) -> None:
    """Also when it looks like one, on standard output, from C or from Python."""
    fake = json.dumps({"ids": [0, 1, 2, 3, 4], "predictions": ["x"] * 5, "seconds": 0})
    body = (
        f"import os; print({fake!r}, flush=True); os.write(1, {fake.encode()!r}); print('n' * 999)"
    )
    body += "\nreturn [None if p.endswith('word3') else p.removeprefix('Say ') for p in prompts]"
    found = ask(bundle(tmp_path / "b", body, load=f"print({fake!r})"))
    assert found == [None if k == 3 else f"word{k}" for k in range(12)]
