"""The worker process as we drive it: which output is accepted, and how long it may take.

All processes are real. Most run scripts that speak the worker's protocol, correctly or not, and
start fast; tests marked slow load a model with MLflow.
"""

import json
import os
import time
from pathlib import Path

import pytest

from lynx_pipeline.config import Limits
from lynx_pipeline.domain.candidate_eval import BUBBLEWRAP
from lynx_pipeline.errors import BadInput
from lynx_pipeline_tests.support.builders import bundle
from lynx_pipeline_tests.support.worker_scripts import (
    QUICK,
    ask,
    ask_batches,
    isolation,
    write_script,
)


def test_answers_come_back_with_their_rows(scripted: Path) -> None:
    """One batch at a time, with the times and memory that the process reports."""
    write_script(scripted)
    found = ask_batches(scripted)
    assert [batch.rows for batch in found] == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 11]]
    assert [text for batch in found for text in batch.answers] == [f"word{k}" for k in range(12)]
    level = isolation().level
    assert [batch[2:] for batch in found] == [(0.25, 0.5, 1.5, level)] * 3


def test_the_process_sees_only_consecutive_numbers(scripted: Path) -> None:
    """Row numbers and item ids are hidden, because they may reveal an answer."""
    write_script(scripted, each="answers = [f'{i}' for i in ids]")
    assert ask(scripted) == [str(k) for k in range(12)]


def test_null_is_an_answer(scripted: Path) -> None:
    """Scoring counts it as wrong."""
    write_script(scripted, each="answers = [None, *answers[1:]]")
    assert [row for row, text in enumerate(ask(scripted)) if text is None] == [0, 5, 10]


@pytest.mark.slow
def test_long_batches_do_not_block_the_pipes(scripted: Path) -> None:
    """Megabytes in both directions, while the process also writes to standard error."""
    prompts = ["Say " + "x" * 100_000] * 40
    write_script(scripted, each="sys.stderr.write('y' * 300_000)")
    limits = Limits(batch_size=20, output_mib=16)
    found = ask(scripted, limits, prompts)
    assert set(found) == {"x" * 100_000}


@pytest.mark.parametrize(
    ("each", "message"),
    [
        pytest.param("answers.pop()", "4 predictions for 5 prompts", id="too few"),
        pytest.param("answers.append('x')", "6 predictions for 5 prompts", id="too many"),
        pytest.param("answers = []", "0 predictions for 5 prompts", id="no answers"),
        pytest.param("answers = None", "no list of", id="not a list"),
        pytest.param("answers = {i: 'x' for i in ids}", "no list of", id="a mapping"),
        pytest.param("answers = 'words'", "no list of", id="a text as long as the batch"),
        pytest.param("answers[0] = 5", "returned int", id="a number"),
        pytest.param("answers[0] = True", "returned bool", id="true"),
        pytest.param("answers[0] = ['x']", "returned list", id="a list"),
        pytest.param("answers[0] = '\\ud800'", "unpaired surrogate", id="an unpaired surrogate"),
        pytest.param("ids = ids[::-1]", "ids that differ", id="ids reversed"),
        pytest.param("ids = [ids[0]] * 5", "ids that differ", id="ids repeated"),
        pytest.param("ids = ids[:-1]", "ids that differ", id="id missing"),
        pytest.param("ids = [f'{i}' for i in ids]", "ids that differ", id="ids as text"),
        pytest.param("seconds = float('nan')", "seconds", id="NaN seconds"),
        pytest.param("seconds = -1", "seconds", id="negative seconds"),
        pytest.param("seconds = '1'", "seconds", id="seconds as text"),
        pytest.param("peak = float('inf')", "peak_mib", id="infinite memory"),
        pytest.param("peak = True", "peak_mib", id="memory true"),
        pytest.param("send(error='no\\x1b[2J idea')", r"failed with no\?\[2J idea", id="an error"),
        pytest.param(
            "send(error='no'); time.sleep(0.5); sys.exit('in line 7')",
            "failed with no. The last line that it printed: in line 7",
            id="an error and a traceback",
        ),
        pytest.param("print('hello', flush=True)", "not a JSON object", id="prose"),
        pytest.param("print([1], flush=True)", "not a JSON object", id="JSON but not an object"),
        pytest.param("print('[' * 9999, flush=True)", "not a JSON object", id="deep JSON"),
        pytest.param("print('{\"a\":' + '9' * 9999 + '}')", "not a JSON", id="too many digits"),
        pytest.param("os.write(1, b'\\xff\\n')", "not a JSON object", id="not UTF-8"),
        pytest.param("sys.exit(3)", "ended during the batch.*exit code 3", id="exits"),
        pytest.param("sys.exit(0)", "ended during the batch.*exit code 0", id="exits with 0"),
        pytest.param("os.kill(os.getpid(), 11)", "ended during the batch", id="crashes"),
        pytest.param("raise ValueError('why')", "ended during.*ValueError: why", id="raises"),
        pytest.param("print('x' * (2 << 20), flush=True)", "more output", id="too much output"),
        pytest.param(
            "sys.stderr.write('x' * (2 << 20))", "more output", id="too much standard error"
        ),
    ],
)
def test_malformed_output_ends_the_evaluation(scripted: Path, each: str, message: str) -> None:
    """The error gives the reason. Malformed output never just lowers the score."""
    write_script(scripted, each=each)
    with pytest.raises(BadInput, match=f"could not be evaluated: .*{message}") as caught:
        ask(scripted)
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        pytest.param({"first": "sys.exit(1)"}, "ended during loading", id="not ready"),
        pytest.param({"first": "send(ready='soon')"}, "ready = 'soon'", id="invalid ready"),
        pytest.param({"first": "send(ready=1)"}, "no list", id="ready twice"),
        pytest.param({"last": "sys.exit(5)"}, "did not exit cleanly.*exit code 5", id="ends badly"),
        pytest.param({"last": "print('x' * (2 << 20))"}, "more output", id="floods at the end"),
    ],
)
def test_startup_and_exit_are_validated_too(
    scripted: Path, script: dict[str, str], message: str
) -> None:
    """A process that fails at its end may have given wrong answers."""
    with pytest.raises(BadInput, match=message):
        ask(write_script(scripted, **script))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "message"),
    [
        pytest.param({"each": "time.sleep(999)"}, "ran out of time during the batch", id="sleeps"),
        pytest.param(
            {"each": "os.write(1, b'{'); time.sleep(999)"}, "ran out of time", id="half a message"
        ),
        pytest.param(
            {"each": "[print(end='x', flush=True) or time.sleep(0.1) for _ in range(999)]"},
            "ran out of time",
            id="writes slowly",
        ),
        pytest.param(
            {"each": "os.close(1); os.close(2); time.sleep(999)"},
            "ran out of time|still running|ended during",
            id="closes its output",
        ),
        pytest.param(
            {"first": "signal.signal(15, signal.SIG_IGN)", "each": "time.sleep(999)"},
            "ran out of time",
            id="ignores SIGTERM",
        ),
        pytest.param(
            {"each": "os.fork() or time.sleep(999); time.sleep(999)"}, "out of time", id="forks"
        ),
    ],
)
def test_time_is_limited(scripted: Path, script: dict[str, str], message: str) -> None:
    """The limit applies however the process spends the time."""
    started = time.monotonic()
    with pytest.raises(BadInput, match=message):
        ask(write_script(scripted, **script), QUICK)
    assert time.monotonic() - started < 15


def test_a_process_that_does_not_read_its_input_is_stopped(scripted: Path) -> None:
    """The prompts are larger than a pipe's buffer."""
    prompts = ["x" * 100_000] * 5
    write_script(scripted, first="send(ready=1); time.sleep(999)")
    with pytest.raises(BadInput, match="did not read its input in time"):
        ask(scripted, QUICK, prompts)


@pytest.mark.slow
def test_loading_and_the_whole_evaluation_have_their_own_limits(scripted: Path) -> None:
    """Every batch may be in time and all of them together too slow."""
    with pytest.raises(BadInput, match="ran out of time during loading"):
        ask(write_script(scripted, first="time.sleep(999)"), Limits(load_seconds=1))
    slow = Limits(batch_size=1, total_seconds=3)
    with pytest.raises(BadInput, match="ran out of time during the batch"):
        ask(write_script(scripted, each="time.sleep(1)"), slow)


def test_no_process_survives(scripted: Path) -> None:
    """Under isolation, not even a child that left its process group."""
    mark = f"lynx-survivor-{os.getpid()}-{time.monotonic_ns()}"
    write_script(
        scripted,
        first="import subprocess",
        each=f"subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(99)', '{mark}'], "
        "start_new_session=True); time.sleep(999)",
    )
    with pytest.raises(BadInput, match="ran out of time"):
        ask(scripted, QUICK)
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
    ("body", "load", "message"),
    [
        pytest.param(
            "pass",
            "raise RuntimeError('at load')",
            r"loading failed with RuntimeError: at load. It was raised at code/tiny_loader.py, "
            r"line 11, in _load_pyfunc\.$",
            id="load",
        ),
        pytest.param(
            "raise KeyError('inside')",
            "pass",
            r"batch.* failed with KeyError: 'inside'. It was raised at code/tiny_loader.py, "
            r"line 2, in answer\.$",
            id="predict",
        ),
        pytest.param("return prompts[:-1]", "pass", "4 predictions for 5", id="too few"),
        pytest.param("return [b'' for _ in prompts]", "pass", "model returned bytes", id="bytes"),
        pytest.param("pass", "bytearray(1 << 40)", "MemoryError", id="memory"),
        pytest.param("import os; os._exit(0)", "pass", "exit code 0", id="vanishes"),
    ],
)
def test_a_failing_model_gets_an_error_and_no_score(
    tmp_path: Path, body: str, load: str, message: str
) -> None:
    """MLflow loads the model, as in serving."""
    with pytest.raises(BadInput, match=message):
        ask(bundle(tmp_path / "b", body, load))


@pytest.mark.slow
def test_what_a_model_prints_is_not_an_answer(tmp_path: Path) -> None:
    """Output from C or Python is ignored, even if it looks like a reply."""
    fake = json.dumps({"ids": [0, 1, 2, 3, 4], "predictions": ["x"] * 5, "seconds": 0})
    body = (
        f"import os; print({fake!r}, flush=True); os.write(1, {fake.encode()!r}); print('n' * 999)"
    )
    body += "\nreturn [None if p.endswith('word3') else p.removeprefix('Say ') for p in prompts]"
    found = ask(bundle(tmp_path / "b", body, load=f"print({fake!r})"))
    assert found == [None if k == 3 else f"word{k}" for k in range(12)]
