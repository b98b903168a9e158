"""Candidates that attack. Each is stopped with the right error and leaves nothing behind.

They run in place of the worker and speak its protocol, because loading a model adds nothing to the
attack; ``test_hostile_models.py`` has models that MLflow loads. Each attack is bounded, so that the
machine survives if a defence fails. On a machine without isolation, attacks that only isolation can
stop are not tried; the tests assert instead that prod refuses.
"""

import re
import time
from dataclasses import replace

import pytest

from lynx_pipeline.domain.candidate_eval import NONE
from lynx_pipeline.errors import BadInput
from lynx_pipeline.sandbox.isolation import Isolation
from lynx_pipeline.sandbox.local import Local
from lynx_pipeline_tests.sandbox.hostile import TIGHT, Scene
from lynx_pipeline_tests.support.worker_scripts import (
    PROMPTS,
    ask,
    batches,
    isolation,
    write_script,
)

QUICK = replace(TIGHT, batch_seconds=1, load_seconds=4)


# ----- what a candidate can use -------------------------------------------------------------

MEMORY = """
import mmap, threading
def eat(mib):
    block = bytearray(mib << 20)
    for at in range(0, len(block), 4096):
        block[at] = 1
    return block
def shared(mib):
    block = mmap.mmap(-1, mib << 20)
    block.write(bytes(mib << 20))
    return block
def fill(place, mib):
    with open(place, 'wb') as file:
        for _ in range(mib):
            file.write(bytes(1 << 20))
def threads(count):
    threading.stack_size(65536)
    for _ in range(count):
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    time.sleep(60)
def many(count, work=lambda: None, before=lambda: None):
    for _ in range(count):
        if os.fork() == 0:
            before()
            kept = work()
            time.sleep(60)
            os._exit(0)
    time.sleep(60)
"""
IN_MEMORY = "more than 256 MiB of memory"
# Unless we are root, the kernel stops it first.
IN_NUMBER = "more than 40 processes and threads|BlockingIOError|can't start new thread"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("where", "attack", "message"),
    [
        pytest.param("each", "eat(2000)", "MemoryError", id="in one process"),
        pytest.param("each", "many(9, lambda: eat(90))", IN_MEMORY, id="in many processes"),
        pytest.param("first", "many(9, lambda: eat(90))", IN_MEMORY, id="while loading"),
        pytest.param("last", "many(9, lambda: eat(90))", IN_MEMORY, id="at the end"),
        pytest.param("each", "many(9, lambda: shared(90))", IN_MEMORY, id="shared pages"),
        pytest.param(
            "each",
            "os.close(1); os.close(2); many(9, lambda: eat(90))",
            IN_MEMORY,
            id="with its output closed",
        ),
        pytest.param("each", "many(60)", IN_NUMBER, id="processes"),
        pytest.param("each", "many(500)", IN_NUMBER, id="far too many processes"),
        pytest.param("each", "many(500, before=os.setsid)", IN_NUMBER, id="sessions"),
        pytest.param(
            "each",
            "many(500, before=lambda: os.fork() and os._exit(0))",
            IN_NUMBER,
            id="orphans",
        ),
        pytest.param(
            "each",
            "[os.fork() or os._exit(0) for _ in range(500)]; time.sleep(60)",
            IN_NUMBER,
            id="zombies",
        ),
        pytest.param("first", "many(500)", IN_NUMBER, id="processes while loading"),
        pytest.param("last", "many(500)", IN_NUMBER, id="processes at the end"),
        pytest.param(
            "each",
            "threads(60)",
            IN_NUMBER,
            id="threads",
        ),
    ],
)
@pytest.mark.parametrize("level", ["isolated", "none"])
def test_all_processes_of_a_candidate_are_limited(
    scene: Scene, where: str, attack: str, message: str, level: str
) -> None:
    """The limits on memory and number apply in every phase."""
    chosen = isolation() if level == "isolated" else Isolation(NONE)
    script = {"first": MEMORY, where: attack}
    if where == "first":
        script["first"] = f"{MEMORY}\n{attack}"
    assert re.search(message, scene.error_of(script, TIGHT, chosen))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("attack", "message"),
    [
        pytest.param("[fill(f'/tmp/{k}', 100) for k in range(9)]", "No space left", id="tmp"),
        pytest.param("[fill(f'/dev/shm/{k}', 100) for k in range(9)]", "No space left", id="shm"),
        pytest.param("fill('/tmp/1', 900)", "No space left", id="one file"),
        pytest.param(
            "fill('/tmp/1', 90); fill('/dev/shm/1', 90); kept = eat(90); time.sleep(60)",
            IN_MEMORY,
            id="in files and in the process",
        ),
        pytest.param(
            "[open(f'/tmp/{k}', 'w').close() for k in range(300_000)]; time.sleep(60)",
            IN_MEMORY,
            id="empty files",
        ),
        pytest.param("os.memfd_create('x')", "not implemented", id="memfd"),
    ],
)
def test_files_in_memory_are_limited(
    scene: Scene, attack: str, message: str, isolated: bool
) -> None:
    """A candidate's writable folders are in memory, and count as memory."""
    if isolated:
        assert message in scene.error_of({"first": MEMORY, "each": attack})


def test_shared_memory_counts_once(scene: Scene) -> None:
    """Several processes may read one model in memory."""
    first = MEMORY + "kept = eat(90)\nfor _ in range(9):\n    os.fork() or time.sleep(2)"
    write_script(scene.bundle, first + " or os._exit(0)", each="ids[0] or time.sleep(1)")
    assert len(ask(scene.bundle, TIGHT)) == len(PROMPTS)
    scene.assert_nothing_left()


@pytest.mark.parametrize(
    ("script", "message"),
    [
        pytest.param(
            {"each": "while True: os.write(1, b'x' * 65536)"}, "more output", id="an endless line"
        ),
        pytest.param({"each": "while True: print(1)"}, "not a JSON object", id="endless lines"),
        pytest.param(
            {"each": "while True: os.write(2, b'x' * 65536)"}, "more output", id="standard error"
        ),
        pytest.param(
            {"first": "while True: os.write(2, b'x' * 65536)"}, "more output", id="loading"
        ),
        pytest.param(
            {"last": "os.fork() or [os.write(1, b'x' * 65536) for _ in range(9999)]"},
            "more output|after its last answer",
            id="from a surviving child",
        ),
        pytest.param(
            {"each": "answers[0] = 'x' * (3 << 20)"}, "more output", id="an enormous answer"
        ),
    ],
)
def test_output_is_limited(scene: Scene, script: dict[str, str], message: str) -> None:
    """The limit applies to standard output and standard error."""
    assert re.search(message, scene.error_of(script))


def test_premature_output_does_not_pile_up(scene: Scene) -> None:
    """The candidate writes all answers before the first prompt, then more output with every
    batch."""
    first = (
        "for k in range(0, 600, 5):\n"
        "    ids = list(range(k, k + 5))\n"
        "    ahead = {'ids': ids, 'predictions': ['x'] * 5, 'seconds': 0, 'peak_mib': 1}\n"
        "    later = (later if k else '') + json.dumps(ahead) + '\\n'"
    )
    each = "os.write(1, later.encode() + b'x' * 50_000); later = ''; continue"
    write_script(scene.bundle, first, each)
    prompts, answered = PROMPTS * 50, []
    with pytest.raises(BadInput, match="more output"):
        for batch in Local(scene.bundle, isolation(), TIGHT, 1).answer(batches(prompts, 5), 600):
            answered.append(batch)
            time.sleep(0.03)  # otherwise all of it is read before there is more
    assert len(answered) < 100
    scene.assert_nothing_left()


def test_a_gigabyte_of_noise_costs_no_memory(scene: Scene) -> None:
    """Only the end is kept, for the error message."""
    each = "[os.write(2, b'x' * (1 << 20)) for _ in range(1024)]"
    assert "more output" in scene.error_of({"each": each}, replace(TIGHT, output_mib=1000))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "message"),
    [
        pytest.param({"first": "time.sleep(99)"}, "ran out of time during loading", id="loading"),
        pytest.param({"each": "time.sleep(99)"}, "ran out of time during the batch", id="batch"),
        pytest.param({"last": "time.sleep(99)"}, "did not exit in time", id="end"),
        pytest.param(
            {"each": "os.kill(os.getpid(), signal.SIGSTOP)"}, "ran out of time", id="stops itself"
        ),
        pytest.param(
            {"each": "[signal.signal(k, signal.SIG_IGN) for k in (1, 2, 3, 15)]; time.sleep(99)"},
            "ran out of time",
            id="ignores signals",
        ),
        pytest.param(
            {"last": "os.close(1); os.close(2); time.sleep(99)"},
            "did not exit in time|but is still running",
            id="goes silent",
        ),
        pytest.param(
            {"each": "os.fork() and time.sleep(99); os.setsid(); time.sleep(99)"},
            "ran out of time",
            id="in a session of its own",
        ),
    ],
)
def test_time_is_limited(scene: Scene, script: dict[str, str], message: str) -> None:
    """Sleeping, stopping and ignoring signals do not help."""
    assert re.search(message, scene.error_of(script, QUICK))


DAEMON = """
def daemon():
    if os.fork() == 0:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if os.fork() == 0:
            os.chdir('/')
            for fd in range(3): os.close(fd)
            time.sleep(99)
        os._exit(0)
"""


@pytest.mark.parametrize("level", ["isolated", "none"])
@pytest.mark.parametrize("where", ["first", "each", "last"])
def test_no_process_survives_a_successful_evaluation(scene: Scene, level: str, where: str) -> None:
    """Success leaves no more behind than failure does."""
    script = {"first": DAEMON, where: "daemon()"}
    if where == "first":
        script["first"] = f"{DAEMON}daemon()"
    chosen = isolation() if level == "isolated" else Isolation(NONE)
    found = ask(write_script(scene.bundle, **script), TIGHT, chosen=chosen)
    assert found == [prompt.removeprefix("Say ") for prompt in PROMPTS]
    scene.assert_nothing_left()


@pytest.mark.slow
@pytest.mark.parametrize(
    "attack",
    [
        pytest.param("os.kill(1, signal.SIGSTOP)", id="stop bubblewrap"),
        pytest.param("os.kill(1, signal.SIGKILL)", id="kill bubblewrap"),
        pytest.param("os.kill(os.getppid(), signal.SIGSTOP)", id="stop its parent"),
        # Only in a pid namespace, which a small pid indicates.
        pytest.param("os.getpid() < 9 and os.kill(-1, signal.SIGKILL)", id="kill every process"),
        pytest.param("libc.prctl(4, 0)", id="hide from inspection"),
        pytest.param("libc.prctl(1, 0)", id="outlive its parent"),
    ],
)
def test_harmless_attacks_lift_no_limit(scene: Scene, attack: str, isolated: bool) -> None:
    """The candidate continues, with the same limits."""
    if not isolated:
        return
    first = f"{MEMORY}\nimport ctypes\nlibc = ctypes.CDLL(None)\ntry: {attack}\n"
    first += "except ProcessLookupError: pass"
    assert len(ask(write_script(scene.bundle, first), TIGHT)) == len(PROMPTS)
    scene.assert_nothing_left()
    assert IN_MEMORY in scene.error_of({"first": first, "each": "many(9, lambda: eat(90))"})


# ----- what a candidate can write -----------------------------------------------------------


def test_quotes_and_brackets_in_answers_do_not_count_as_values(scene: Scene) -> None:
    """Answers may contain any number of quotes and brackets, in any position."""
    odd = ["[" * 99_999, '"' * 9999, '\\"' * 9999, "\\", '{"a": [' * 9999, ""]
    assert ask(write_script(scene.bundle), TIGHT, ["Say " + text for text in odd]) == odd


FORGED = (
    "{'canonical_sha': '5' * 64, 'n': 12, 'correct': 12, 'accuracy': 1.0, "
    "'buckets': {'half.a': {'n': 6, 'correct': 6, 'accuracy': 1.0}}}"
)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        pytest.param({"each": f"send(**{FORGED})"}, "no list of", id="a report"),
        pytest.param(
            {"first": f"send(**{FORGED})"}, "ready = None", id="a report instead of ready"
        ),
        pytest.param(
            {"first": "send(ready=1, ids=[0], predictions=['x'])"}, "no list of", id="ready twice"
        ),
        pytest.param(
            {"each": "send(ids=ids, predictions=answers, seconds=0, peak_mib=1)"},
            "ids that differ",
            id="answers twice",
        ),
        pytest.param(
            {"each": "ids = [k + 5 for k in ids]"}, "ids that differ", id="ahead of the prompts"
        ),
        pytest.param(
            {"last": "send(ids=[12], predictions=['x'])"},
            "after its last answer",
            id="after the end",
        ),
        pytest.param(
            {"last": "os.write(1, b' ')"}, "after its last answer", id="a blank after the end"
        ),
        pytest.param({"each": "ids = [[], {}, 1, 2, 3]"}, "ids that differ", id="odd ids"),
        pytest.param({"each": "answers[0] = {'text': 'x'}"}, "returned dict", id="an object"),
        pytest.param({"each": "answers[0] = float('nan')"}, "returned float", id="NaN"),
        pytest.param({"each": "answers[0] = 10 ** 999"}, "returned int", id="a long number"),
        pytest.param({"each": "seconds = 1e999"}, "seconds = inf", id="infinite seconds"),
        pytest.param({"each": "peak = -1"}, "peak_mib = -1", id="negative memory"),
        pytest.param({"each": "answers *= 999"}, "far more values", id="many answers"),
        pytest.param({"each": "answers[0] = [{}] * 99_999"}, "far more values", id="many objects"),
        pytest.param({"each": "ids = [0.5] * 99_999"}, "far more values", id="many numbers"),
        pytest.param(
            {"each": "seconds = {k: '' for k in range(999)}"}, "far more values", id="many keys"
        ),
        pytest.param({"each": "os.write(1, b'\\0' * 9 + b'\\n')"}, "not a JSON", id="zeros"),
    ],
)
def test_forged_messages_are_refused(scene: Scene, script: dict[str, str], message: str) -> None:
    """A candidate can't send its own report, or answers that nobody requested."""

    assert message in scene.error_of(script)
