"""A long evaluation that is killed several times resumes, with the result of an undisturbed one."""

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from lynx_pipeline_tests.end_to_end.conftest import COLD_PROGRAMS
from lynx_pipeline_tests.support.builders import bundle

pytestmark = pytest.mark.slow(seconds=40)

ITEMS = 40_000
KILLS = 5
BATCH = 64
# Slow enough to be killed at work; some answers are missing.
SLOWLY = """\
import time
time.sleep(0.003)
return [None if p.endswith("7") else p.removeprefix("Say ") for p in prompts]
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle and an eval set of 40,000 items, whose long ids make it a large one."""
    folder = tmp_path_factory.mktemp("resume")
    bundle(folder / "bundle", SLOWLY)
    with (folder / "eval.jsonl").open("w") as file:
        for k in range(ITEMS):
            item = {"id": f"i{k:0200}", "prompt": f"Say word{k}", "expected": f"word{k}"}
            file.write(json.dumps({**item, "buckets": {"half": "ab"[k % 2]}}) + "\n")
    return folder


def start(place: Path, output: str) -> "subprocess.Popen[bytes]":
    """Start ``minieval`` in a new process."""
    command = [str(COLD_PROGRAMS / "lynx-pipeline"), "minieval", "--bundle", "bundle"]
    command += ["--eval-set", "eval.jsonl", "--output", f"{output}/candidate_eval.json"]
    return subprocess.Popen(command, cwd=place, env=_environ(place), stdout=subprocess.DEVNULL)


def kept(place: Path) -> int:
    """The number of batches in the journal."""
    try:
        return (place / "killed/candidate_eval.json.journal").read_bytes().count(b"\n") - 1
    except FileNotFoundError:
        return 0


def test_five_kills_change_no_byte(place: Path) -> None:
    """Each kill -9 comes at a random time. Recorded answers are not requested again, and no process
    of the candidate survives."""
    undisturbed = start(place, "undisturbed")
    dice = random.Random()
    batches = ITEMS // BATCH
    for kill in range(KILLS):
        process = start(place, "killed")
        before = kept(place)
        until = before + dice.randint(1, (batches - before) // (KILLS - kill + 1))
        while kept(place) < until:
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(dice.random() / 20)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert until <= kept(place) < batches
        _check_processes_ended(place)
    before = kept(place)
    last = start(place, "killed")
    assert last.wait(120) == 0
    assert undisturbed.wait(120) == 0
    ended, whole = place / "killed", place / "undisturbed"
    assert (ended / "predictions.parquet").read_bytes() == (
        whole / "predictions.parquet"
    ).read_bytes()
    found, wanted = (
        json.loads((folder / "candidate_eval.json").read_bytes()) for folder in (ended, whole)
    )
    assert found.pop("measured") != wanted.pop("measured")
    assert found == wanted
    assert (found["n"], found["null_answers"]) == (ITEMS, ITEMS // 10)
    assert [path.name for path in ended.glob("*journal*")] == []


def _environ(place: Path) -> dict[str, str]:
    ours = {k: v for k, v in os.environ.items() if not k.startswith("LYNX_")}
    return {**ours, "LYNX_HOME": str(place / "home")}


def _check_processes_ended(place: Path) -> None:
    """Assert that no process of the killed evaluation is left: those of the other have a parent."""
    end = time.monotonic() + 5
    while time.monotonic() < end:
        parents = {_parent(pid) for pid in _pids_naming(str(place / "bundle"))}
        if 1 not in parents:
            return
        time.sleep(0.05)
    raise AssertionError("a process of the killed evaluation is still running")


def _pids_naming(text: str) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if text.encode() in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0
