"""Rows about asking a model and counting its answers."""

import json
from dataclasses import replace
from statistics import median
from typing import NamedTuple

from benchmarks.inputs import apart, files, ten_million
from benchmarks.measure import Run, pairs, run
from benchmarks.place import BARE, PYTHON, Place
from benchmarks.row import Row, timed
from lynx_pipeline_tests.support.builders import bundle


def minieval(place: Place) -> Row:
    """The evaluation alone."""
    out = place.folder / "minieval/candidate_eval.json"
    arguments = ("--bundle", place.bundle, "--eval-set", place.eval_set, "--output", out)
    reference = place.bare("evaluate", place.bundle, place.eval_set, place.folder / "bare.json")
    found = pairs(place.command("lynx-pipeline", "minieval", *arguments), reference, times=9)
    what = "`minieval`, 1,200 items, whole process"
    return timed(what, "a bare script with mlflow.pyfunc", found, 0.9)


def peer(place: Place) -> Row:
    """deepeval, the fastest of the other tools, on the same model and items. It is not in our
    environment: its packages are installed beside it and come last on the path."""
    folder = place.folder / "deepeval"
    place.do("uv", "pip", "install", "--quiet", "--python", PYTHON, "--target", folder, "deepeval")
    out = place.folder / "minieval/candidate_eval.json"
    files = ("--bundle", place.bundle, "--eval-set", place.eval_set)
    script = BARE / "deepeval_exact.py"
    other = place.command(PYTHON, "-c", _APPENDS, folder, script, place.bundle, place.eval_set)
    quiet = {"DEEPEVAL_TELEMETRY_OPT_OUT": "1", "DEEPEVAL_DISABLE_DOTENV": "1"}
    quiet |= {"PYTHONDONTWRITEBYTECODE": "1"}  # see Place.bare
    other = replace(other, environ={**other.environ, **quiet}, cwd=place.folder)
    found = pairs(place.command("lynx-pipeline", "minieval", *files, "--output", out), other, 5)
    what = "`minieval`, 1,200 items, whole process, in the sandbox"
    return timed(what, "deepeval's exact match, in its own process", found, 0.9)


_APPENDS = """
import runpy, sys
sys.path.append(sys.argv.pop(1))
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def counting(place: Place) -> Row:
    """Ten million answers in a thousand buckets."""
    apart(ten_million, place.folder)
    items, predictions, floors = files(place.folder)
    found = pairs(
        place.command(PYTHON, "-m", "benchmarks.count", items, predictions, floors),
        place.bare("counts", items, predictions),
        times=5,
    )
    row = timed(
        "bucket counts and gate, 10 M answers x 1,000 buckets, whole process",
        "one DuckDB query over the same files",
        found,
        1.2,
    )
    memory = max(r.peak_mib for r in found[0]) / max(r.peak_mib for r in found[1])
    return Row(
        row.what,
        f"{row.ours}, {max(r.peak_mib for r in found[0]):.0f} MiB",
        f"{row.reference}, {max(r.peak_mib for r in found[1]):.0f} MiB",
        f"{row.measured} time, {memory:.2f} x memory",
        "<= 1.2 x time, <= 2 x memory",
        row.met and memory <= 2,
    )


def worker(place: Place) -> Row:
    """One million prompts through one worker."""
    prompts = place.folder / "prompts.jsonl"
    lines = [json.loads(line)["prompt"] for line in place.eval_set.read_text().splitlines()]
    texts = [json.dumps(line) + "\n" for line in lines]
    few = prompts.with_name("few.jsonl")
    few.write_text("".join(texts[k % len(texts)] for k in range(100_000)))
    with prompts.open("w") as file:
        file.writelines(texts[k % len(texts)] for k in range(1_000_000))
    arguments = (place.bundle, prompts, "64")
    ours, bare = pairs(
        place.command(PYTHON, "-m", "benchmarks.worker", *arguments),
        place.bare("predict", *arguments),
        times=1,
    )
    many = [_worker_run(each) for each in ours]
    tenth = run(place.command(PYTHON, "-m", "benchmarks.worker", place.bundle, few, "64"))
    fewer = _worker_run(tenth)
    loops = [float(each.output) for each in bare]
    share = median(loop / each.seconds for loop, each in zip(loops, many, strict=True))
    growth = many[-1].ours_mib - fewer.ours_mib
    return Row(
        "1 M items through one worker, throughput after loading",
        f"{1e6 / median(each.seconds for each in many):,.0f} items/s, "
        f"{many[-1].ours_mib:.0f} MiB (worker {many[-1].worker_mib:.0f} MiB)",
        f"a bare predict loop, {1e6 / median(loops):,.0f} items/s",
        f"{share:.1%} of its throughput; {growth:+.0f} MiB (worker "
        f"{many[-1].worker_mib - fewer.worker_mib:+.0f}) against 100,000 items",
        ">= 95 %, memory flat",
        share >= 0.95 and growth < 8,
    )


class _WorkerRun(NamedTuple):
    seconds: float
    ours_mib: float
    worker_mib: float


def _worker_run(found: Run) -> _WorkerRun:
    seconds, ours, worker_process = (float(text) for text in found.output.split())
    return _WorkerRun(seconds, ours, worker_process)


def on_ray(place: Place) -> Row:
    """A CPU-bound model on one node and on two."""
    model = place.folder / "slow"
    bundle(model, _COMPUTES)
    out = place.folder / "ray"
    output = run(
        place.command(PYTHON, "-m", "benchmarks.on_ray", place.eval_set, model, out)
    ).output.splitlines()[-3:]
    tries = [[float(text) for text in line.split()] for line in output]
    faster = median(one / two for one, two, _ in tries)
    same = tries[-1][2] == 1
    return Row(
        "Ray with two workers on two nodes, 1,200 items, a model that computes",
        f"{median(two for _, two, _ in tries):.2f} s",
        f"one worker, {median(one for one, _, _ in tries):.2f} s",
        f"{faster:.2f} x as fast, {'identical' if same else 'DIFFERENT'} bytes",
        ">= 1.8 x, identical bytes",
        faster >= 1.8 and same,
    )


# Ten milliseconds of CPU per prompt.


_COMPUTES = """\
import time
for prompt in prompts:
    end = time.process_time() + 0.01
    while time.process_time() < end:
        hash(prompt)
return prompts
"""
