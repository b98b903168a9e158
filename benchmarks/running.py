"""Rows about whole runs: a job, the demo, the deploy workflow."""

import os
import re
import shlex
import shutil
import sys
from pathlib import Path
from statistics import median

from benchmarks.measure import Command, pairs, run
from benchmarks.place import BARE, EVAL_SET, PYTHON, Place
from benchmarks.row import Row, timed


def promotion(place: Place) -> Row:
    """From a clone without data and an empty state folder to a promotion."""
    data, home = place.root / EVAL_SET, place.folder / "home"
    place.eval_set, place.bundle  # noqa: B018  # created now, so that it is not measured
    config = place.folder / "request.json"
    command = place.request(config)

    def reset() -> None:
        data.unlink(missing_ok=True)
        shutil.rmtree(place.root / ".dvc/cache", ignore_errors=True)
        shutil.rmtree(home, ignore_errors=True)
        place.request(config)

    out = place.folder / "bare"
    found = place.do(PYTHON, "-c", _MODEL_URI.format(run=place.run_id)).split()[-1]
    steps: list[list[str | Path]] = [
        ["dvc", "pull", f"{EVAL_SET}.dvc"],
        ["mlflow", "artifacts", "download", "-u", found, "-d", out / "bundle"],
        [PYTHON, BARE / "digest.py", out / "bundle"],
        [PYTHON, BARE / "evaluate.py", out / "bundle", EVAL_SET, out / "eval.json"],
        [PYTHON, BARE / "compare.py", out / "eval.json", "eval_baseline.json"],
        [PYTHON, BARE / "append.py", out / "ledger.jsonl"],
    ]
    script = " && ".join(shlex.join(str(word) for word in step) for step in steps)

    def reset_bare() -> None:
        reset()
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()

    ours, bare = pairs(
        place.command(*command, before=reset),
        place.command("sh", "-c", script, before=reset_bare),
        times=4,
    )
    place.do("dvc", "pull", "-q", f"{EVAL_SET}.dvc")
    return timed(
        "`dagster job execute -j eval_and_promote`, whole process",
        "six bare commands: dvc pull, mlflow download, digest, evaluate, compare, append",
        (ours, bare),
        0.9,
    )


_MODEL_URI = """
from mlflow import MlflowClient
run = MlflowClient().get_run({run!r})
print("models:/" + run.outputs.model_outputs[0].model_id)
"""


def unchanged(place: Place) -> Row:
    """A job for a candidate that is already promoted."""
    command = place.request(place.folder / "unchanged.json")
    place.eval_set  # noqa: B018
    place.do(*command)
    nothing = Command(
        ["dagster", "job", "execute", "-m", "benchmarks.bare.four_assets", "-j", "four"],
        place.root,
        {**place.environ, "LYNX_HOME": str(place.folder / "empty-home")},
    )
    found = pairs(place.command(*command), nothing, times=5)
    what = "`dagster job execute` of an unchanged, promoted candidate"
    return timed(what, "a job with four empty assets", found, 1.25)


def run_command(place: Place) -> Row:
    """``run`` and Dagster's command, for a candidate that is already promoted."""
    command = place.request(place.folder / "unchanged.json")
    place.eval_set  # noqa: B018
    place.do(*command)
    ours = place.command("lynx-pipeline", "run", place.run_id, "v0.1.0-dev")
    what = "`lynx-pipeline run` of an unchanged, promoted candidate, with its table"
    return timed(what, "`dagster job execute`", pairs(ours, place.command(*command), 5), 1.1)


def fresh(place: Place) -> Row:
    """The README's first command in a fresh clone, with empty caches."""
    environ = {
        **place.environ,
        "PYTHON": getattr(sys, "_base_executable", PYTHON),
        "PATH": os.pathsep.join(
            folder
            for folder in place.environ["PATH"].split(os.pathsep)
            if Path(folder) != Path(PYTHON).parent
        ),
        **{f"{name}_CACHE_DIR": str(place.folder / name) for name in ("UV", "PIP", "XDG")},
    }
    del environ["PYTHONPATH"]

    def reset() -> None:
        for name in ("UV", "PIP", "XDG"):
            shutil.rmtree(place.folder / name, ignore_errors=True)
        shutil.rmtree(place.root / ".venv", ignore_errors=True)

    install = run(Command(["./dev", "install"], place.root, environ, reset))
    demo = run(Command(["./dev", "demo"], place.root, environ))
    seconds = install.seconds + demo.seconds
    return Row(
        "`./dev demo` in a fresh clone, empty caches, whole process",
        f"{seconds:.0f} s",
        "none",
        f"{install.seconds:.0f} s to install, {demo.seconds:.0f} s to train, evaluate, promote and "
        "refuse",
        "<= 30 s",
        seconds <= 30,
    )


def workflow(place: Place) -> Row:
    """The deploy workflow under nektos/act, each job with its own installation."""
    output = place.do(PYTHON, "-m", "lynx_pipeline_tests.simulators.act", "promoted")
    steps = re.findall(r"^ *([0-9.]+) s  (\w+) +\w+ +(\S.*)$", output, re.MULTILINE)
    seconds = sum(float(text) for text, job, _ in steps if job != "report")
    installs = sum(float(text) for text, _, name in steps if name == "Install")
    return Row(
        "the deploy workflow under act on this machine, from the comment to the promotion",
        f"{seconds:.0f} s",
        "none",
        f"{len(steps)} steps with the report, of which installations took {installs:.0f} s",
        "<= 90 s",
        bool(steps) and seconds <= 90,
    )


def definitions(place: Place) -> Row:
    """Loading the code location."""
    code = "import time; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"
    modules = ("lynx_pipeline.definitions", "dagster")
    first, second = (place.command(PYTHON, "-c", code.format(name)) for name in modules)
    found = pairs(first, second, times=9)
    ours, bare = (median(float(each.output) for each in runs) for runs in found)
    more = ours - bare
    return Row(
        "loading the definitions, without the process around it",
        f"{ours:.2f} s",
        f"`import dagster`, {bare:.2f} s",
        f"{more:+.2f} s",
        "<= +0.3 s",
        more <= 0.3,
    )


def ending(place: Place) -> Row:
    """The time that a process saves by skipping its last garbage collection."""
    ours = place.command(PYTHON, "-c", "import lynx_pipeline.definitions")
    collecting = place.command(PYTHON, "-c", _COLLECTS)
    found = pairs(ours, collecting, times=9)
    what = "a process that loads the definitions and ends, with `gc.freeze` at its end"
    return timed(what, "the same without", found, 0.95)


_COLLECTS = "import atexit, gc, lynx_pipeline.definitions; atexit.unregister(gc.freeze)"
