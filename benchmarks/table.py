"""Measure everything and write the table: ``python -m benchmarks.table [ROW...]``.

Each row compares a command of this project with a minimal reference for the same result. The two
run alternately on one machine, and the row shows the median ratio. If rows are named, only those
are measured and replaced in the table.
"""

import json
import os
import re
import shlex
import shutil
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benchmarks.inputs import apart, files, ledger, million_lines, ten_million
from benchmarks.measure import Command, Run, middle, pairs, ratio, run
from benchmarks.place import BARE, EVAL_SET, PYTHON, REPO, Place
from lynx_pipeline_tests.support.builders import bundle

RESULT = REPO / "benchmarks" / "results.md"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. ``met`` says whether the target was met."""

    what: str
    ours: str
    reference: str
    measured: str
    target: str
    met: bool


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
    return _timed(
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


def minieval(place: Place) -> Row:
    """The evaluation alone."""
    out = place.folder / "minieval/candidate_eval.json"
    arguments = ("--bundle", place.bundle, "--eval-set", place.eval_set, "--output", out)
    reference = place.bare("evaluate", place.bundle, place.eval_set, place.folder / "bare.json")
    found = pairs(place.command("lynx-pipeline", "minieval", *arguments), reference, times=9)
    what = "`minieval`, 1,200 items, whole process"
    return _timed(what, "a bare script with mlflow.pyfunc", found, 0.9)


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
    return _timed(what, "deepeval's exact match, in its own process", found, 0.9)


_APPENDS = """
import runpy, sys
sys.path.append(sys.argv.pop(1))
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def compare(place: Place) -> Row:
    """The gate on two files."""
    out = place.folder / "compared/candidate_eval.json"
    arguments = ("--bundle", place.bundle, "--eval-set", place.eval_set, "--output", out)
    place.do("lynx-pipeline", "minieval", *arguments)
    files = ("--candidate", out, "--baseline", "eval_baseline.json")
    found = pairs(
        place.command("lynx-pipeline", "compare-baseline", *files),
        place.bare("compare", out, "eval_baseline.json"),
        times=25,
    )
    what = "`compare-baseline`, 28 buckets, whole process"
    return _timed(what, "plain Python reading both files", found, 5.0)


def counting(place: Place) -> Row:
    """Ten million answers in a thousand buckets."""
    apart(ten_million, place.folder)
    items, predictions, floors = files(place.folder)
    found = pairs(
        place.command(PYTHON, "-m", "benchmarks.count", items, predictions, floors),
        place.bare("counts", items, predictions),
        times=5,
    )
    row = _timed(
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


def resolve(place: Place) -> Row:
    """The newest of 100,000 versions."""
    folder = place.folder / "ledger"
    apart(ledger, folder, 100_000)
    environ = {**place.environ, "LYNX_REGISTRY": str(folder)}
    ours = Command(["lynx-pipeline", "registry", "resolve"], place.root, environ)
    found = pairs(ours, place.bare("resolve", folder / "index.jsonl"), times=3)
    what = "`registry resolve`, 100,000 entries, whole process"
    return _timed(what, "Python reading and parsing every line", found, 2.0)


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
    return _timed(what, "a job with four empty assets", found, 1.25)


def run_command(place: Place) -> Row:
    """``run`` and Dagster's command, for a candidate that is already promoted."""
    command = place.request(place.folder / "unchanged.json")
    place.eval_set  # noqa: B018
    place.do(*command)
    ours = place.command("lynx-pipeline", "run", place.run_id, "v0.1.0-dev")
    what = "`lynx-pipeline run` of an unchanged, promoted candidate, with its table"
    return _timed(what, "`dagster job execute`", pairs(ours, place.command(*command), 5), 1.1)


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


def corpus(place: Place) -> Row:
    """The eval set against a million lines."""
    file = place.folder / "corpus.jsonl"
    apart(million_lines, file)
    files = (place.eval_set, file)
    found = pairs(place.command(PYTHON, "-c", _COMPARES, *files), place.bare("corpus", *files), 3)
    what = "an eval set of 1,200 questions compared with a corpus of 1 M lines, whole process"
    row = _timed(what, "plain Python that checks nothing", found, 4.0)
    peak = max(run.peak_mib for run in found[0])
    return replace(row, ours=f"{row.ours}, {peak:.0f} MiB")


_COMPARES = """
import sys
from pathlib import Path
from lynx_pipeline.domain.scorers import EXACT
from lynx_pipeline.evaluation.corpus import compare_with_file
from lynx_pipeline.evaluation.inputs import read_eval_file
eval_set = read_eval_file(Path(sys.argv[1]), EXACT)
print(compare_with_file(eval_set, Path(sys.argv[2])).lines)
"""


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
    return _timed(what, "the same without", found, 0.95)


_COLLECTS = "import atexit, gc, lynx_pipeline.definitions; atexit.unregister(gc.freeze)"


def quick_way(place: Place) -> Row:
    """The time that the quick way to read a promotion saves."""
    folder = place.folder / "ledger"
    apart(ledger, folder, 10_000)
    index = folder / "index.jsonl"
    ours = place.command(PYTHON, "-c", _READS, index)
    slow = place.command(PYTHON, "-c", _SLOW + _READS, index)
    what = "reading a ledger of 10,000 entries, with the quick way to read promotions"
    return _timed(what, "the same without", pairs(ours, slow, times=5), 0.95)


_SLOW = """
from lynx_pipeline.domain.ledger import chain
chain.read_usual = lambda line: None
"""
_READS = """
import sys
from pathlib import Path
from lynx_pipeline.domain.ledger.chain import parse_ledger
parse_ledger(Path(sys.argv[1]).read_bytes(), "the ledger")
"""


ROWS = (
    promotion, minieval, peer, compare, counting, worker, on_ray, resolve, unchanged,
    run_command, fresh, workflow, corpus, definitions, ending, quick_way,
)  # fmt: skip


def main() -> None:
    """Run the rows named on the command line, or all, and write the table."""
    chosen = [row for row in ROWS if row.__name__ in sys.argv[1:] or len(sys.argv) == 1]
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        found = []
        for measure in chosen:
            place = Place(Path(folder) / measure.__name__)
            found.append(measure(place))
            print(_line(found[-1]), file=sys.stderr)
            shutil.rmtree(place.folder)
    new = {row.what: _line(row) for row in found}
    if len(chosen) < len(ROWS) and RESULT.exists():
        before = {line.split(" | ")[0].removeprefix("| "): line for line in _lines()}
        new = before | new
    RESULT.write_text(_HEAD.format(cores=os.cpu_count()) + "\n".join(new.values()) + "\n")
    print(f"Written: {RESULT.relative_to(REPO)}")


def _lines() -> list[str]:
    """The rows of the existing table."""
    return RESULT.read_text().partition("| --- | --- | --- | --- | --- | --- |\n")[2].splitlines()


_HEAD = """\
# Benchmarks

Written by `just benchmarks`. Each row compares a command of this project with a minimal reference
that does the same without checks or isolation. Both run alternately on the same machine ({cores}
cores). Seconds are medians; the ratio is the median of the pairs' ratios.

| what | this project | reference | measured | target | met |
| --- | --- | --- | --- | --- | --- |
"""


def _line(row: Row) -> str:
    cells = (row.what, row.ours, row.reference, row.measured, row.target)
    return f"| {' | '.join(cells)} | {'yes' if row.met else '**no**'} |"


def _timed(what: str, reference: str, found: tuple[list[Run], list[Run]], most: float) -> Row:
    times = ratio(*found)
    return Row(
        what,
        f"{middle(found[0]):.2f} s",
        f"{reference}, {middle(found[1]):.2f} s",
        f"{times:.2f} x",
        f"<= {most:g} x",
        times <= most,
    )


if __name__ == "__main__":
    main()
