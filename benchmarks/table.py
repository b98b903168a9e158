"""Measure everything and write the table: ``python -m benchmarks.table [ROW...]``.

Every row is this project's command against a reference that does the least for the same result,
run in turn on one machine; what is compared is the median ratio. With rows named, only those are
measured again and replaced in the table.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benchmarks.measure import Command, Run, middle, pairs, ratio, run
from lynx_pipeline_tests.builders import bundle

HERE = Path(__file__).parent
REPO = HERE.parent
BARE = HERE / "bare"
RESULT = HERE / "results.md"
PYTHON = sys.executable
EVAL_SET = "data/eval/phase-20.jsonl"
OURS = ("LYNX_", "DAGSTER_", "MLFLOW_", "DVC_")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. ``kept`` says whether the target was reached."""

    what: str
    ours: str
    reference: str
    measured: str
    target: str
    kept: bool


class Place:
    """A clone of this repository with a trained tutor, for the commands to work in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "clone"
        subprocess.run(["git", "clone", "-q", REPO, self.root], check=True)
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(OURS)}
        path = f"{Path(PYTHON).parent}{os.pathsep}{inherited['PATH']}"
        self.environ = {
            **inherited,
            "PATH": path,
            "PYTHONPATH": str(REPO),
            "LYNX_HOME": str(folder / "home"),
            "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }

    def command(self, *words: str | Path, before: Callable[[], object] = lambda: None) -> Command:
        """A command in the clone."""
        return Command(words, self.root, self.environ, before)

    def bare(self, script: str, *words: str | Path) -> Command:
        """One of the reference scripts."""
        return self.command(PYTHON, BARE / f"{script}.py", *words)

    def do(self, *words: str | Path) -> str:
        """Run a command once, unmeasured."""
        return run(self.command(*words)).output

    @cached_property
    def eval_set(self) -> Path:
        """The pulled eval set."""
        self.do("dvc", "pull", "-q", f"{EVAL_SET}.dvc")
        return self.root / EVAL_SET

    @cached_property
    def run_id(self) -> str:
        """The MLflow run of a tutor that passes the gate."""
        code = (
            "from lynx_pipeline.config import load_settings\n"
            "from lynx_pipeline.tutor.configs import CANDIDATE\n"
            "from lynx_pipeline.tutor.train import train_and_log\n"
            "print('run', train_and_log(load_settings(), CANDIDATE, {}))"
        )
        return self._at(self.folder / "trained", code)

    @cached_property
    def bundle(self) -> Path:
        """Its bundle."""
        code = (
            "from lynx_pipeline.config import load_settings\n"
            "from lynx_pipeline.flow.candidate import candidate, fetch\n"
            f"fetch(load_settings(), {self.run_id!r})\n"
            f"print('at', candidate(load_settings(), {self.run_id!r}).bundle)"
        )
        return Path(self._at(self.folder / "trained", code))

    def _at(self, home: Path, code: str) -> str:
        """The last word that ``code`` prints, with a state folder that no measurement empties."""
        environ = {**self.environ, "LYNX_HOME": str(home)}
        return run(Command([PYTHON, "-c", code], self.root, environ)).output.split()[-1]

    def request(self, config: Path) -> list[str]:
        """The command that evaluates and promotes the tutor."""
        asked = ("--run-id", self.run_id, "--semver", "v0.1.0-dev", "--output", config, "--json")
        said = self.do("lynx-pipeline", "request", *asked)
        command: list[str] = json.loads(said)["command"]
        return command


def promotion(place: Place) -> Row:
    """From a clone without data and a state folder without anything, to a promotion."""
    data, home = place.root / EVAL_SET, place.folder / "home"
    place.eval_set, place.bundle  # noqa: B018  # made now, not while it is measured
    config = place.folder / "request.json"
    command = place.request(config)

    def afresh() -> None:
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

    def bare_afresh() -> None:
        afresh()
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()

    ours, bare = pairs(
        place.command(*command, before=afresh),
        place.command("sh", "-c", script, before=bare_afresh),
        times=4,
    )
    place.do("dvc", "pull", "-q", f"{EVAL_SET}.dvc")
    return _timed(
        "`dagster job execute -j eval_and_promote`, whole process",
        "six bare commands: dvc pull, mlflow download, digest, evaluate, compare, append",
        (ours, bare),
        1.0,
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
    return _timed(what, "a bare script with mlflow.pyfunc", found, 1.25)


def importing(place: Place) -> Row:
    """What the others' figures were measured beside."""
    imported = [run(place.command(PYTHON, "-c", "import mlflow.pyfunc")) for _ in range(5)]
    out = place.folder / "minieval/candidate_eval.json"
    arguments = ("--bundle", place.bundle, "--eval-set", place.eval_set, "--output", out)
    ours = [run(place.command("lynx-pipeline", "minieval", *arguments)) for _ in range(5)]
    scale = 1.4 / middle(imported)
    scaled = middle(ours) * scale
    return Row(
        "the same, on a machine where importing mlflow.pyfunc takes 1.4 s",
        f"{scaled:.1f} s ({middle(ours):.2f} s here, where it takes {middle(imported):.2f} s)",
        "deepeval 2.6 s, promptfoo 3.6 s, MLflow evaluate 3.5 s, Inspect AI 6.5 s, evidently "
        "9.3 s, TFMA 15.8 s (each at its best, on such a machine; not run here)",
        f"{scaled / 2.6:.2f} x the fastest",
        "< 1 x",
        scaled < 2.6,
    )


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
    _apart(_ten_million, place.folder)
    items, predictions, floors = _files(place.folder)
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
        row.kept and memory <= 2,
    )


def worker(place: Place) -> Row:
    """A million prompts to one worker."""
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
    many = [_asked(each) for each in ours]
    tenth = run(place.command(PYTHON, "-m", "benchmarks.worker", place.bundle, few, "64"))
    fewer = _asked(tenth)
    loops = [float(each.output) for each in bare]
    share = median(loop / asked.seconds for loop, asked in zip(loops, many, strict=True))
    growth = many[-1].ours_mib - fewer.ours_mib
    return Row(
        "1 M items through one worker, throughput after loading",
        f"{1e6 / median(asked.seconds for asked in many):,.0f} items/s, "
        f"{many[-1].ours_mib:.0f} MiB (worker {many[-1].worker_mib:.0f} MiB)",
        f"a bare predict loop, {1e6 / median(loops):,.0f} items/s",
        f"{share:.1%} of its throughput; {growth:+.0f} MiB (worker "
        f"{many[-1].worker_mib - fewer.worker_mib:+.0f}) against 100,000 items",
        ">= 95 %, memory flat",
        share >= 0.95 and growth < 8,
    )


class _Asked(NamedTuple):
    seconds: float
    ours_mib: float
    worker_mib: float


def _asked(found: Run) -> _Asked:
    seconds, ours, worker_process = (float(text) for text in found.output.split())
    return _Asked(seconds, ours, worker_process)


def on_ray(place: Place) -> Row:
    """A model that computes, on one node and on two."""
    model = place.folder / "slow"
    bundle(model, _COMPUTES)
    out = place.folder / "ray"
    said = run(
        place.command(PYTHON, "-m", "benchmarks.on_ray", place.eval_set, model, out)
    ).output.splitlines()[-3:]
    tries = [[float(text) for text in line.split()] for line in said]
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


# Ten milliseconds a prompt.
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
    _apart(_ledger, folder, 100_000)
    environ = {**place.environ, "LYNX_REGISTRY": str(folder)}
    ours = Command(["lynx-pipeline", "registry", "resolve"], place.root, environ)
    found = pairs(ours, place.bare("resolve", folder / "index.jsonl"), times=3)
    what = "`registry resolve`, 100,000 entries, whole process"
    return _timed(what, "Python reading and parsing every line", found, 3.0)


def unchanged(place: Place) -> Row:
    """A job that finds everything done."""
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


ROWS = (
    promotion, minieval, importing, compare, counting, worker, on_ray, resolve, unchanged,
    definitions,
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
    """The table's rows as they are written."""
    return RESULT.read_text().partition("| --- | --- | --- | --- | --- | --- |\n")[2].splitlines()


_HEAD = """\
# Benchmarks

Written by `just benchmarks`. Each row is a command of this project and, run in turn with it on the
same machine ({cores} cores here), the least that would do the same without checks or isolation.
Seconds are medians; the ratio is the median of the pairs' ratios.

| what | this project | reference | measured | target | reached |
| --- | --- | --- | --- | --- | --- |
"""


def _line(row: Row) -> str:
    cells = (row.what, row.ours, row.reference, row.measured, row.target)
    return f"| {' | '.join(cells)} | {'yes' if row.kept else '**no**'} |"


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


def _apart(make: Callable[..., None], *arguments: object) -> None:
    """In a process of its own: what this one holds at the most, its children seem to."""
    process = get_context("spawn").Process(target=make, args=arguments)
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError(f"{make.__name__} failed")


def _files(folder: Path) -> tuple[Path, Path, Path]:
    return folder / "items.parquet", folder / "predictions.parquet", folder / "baseline.json"


def _ten_million(folder: Path) -> None:
    """Items as they are kept, predictions of which 9 in 10 are right, and floors to match."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from lynx_pipeline.adapters import large_eval_set

    count, cells, step = 10_000_000, 1000, 1_000_000
    items, predictions, floors = _files(folder)
    parts = [[[f"d.b{k:03}"], count // cells] for k in range(cells)]
    about = json.dumps({"cells": parts, "words": 4 * count}).encode()
    texts = ("id", "prompt")
    schema = pa.schema(
        [
            *((name, pa.string()) for name in texts),
            ("answers", pa.list_(pa.string())),
            ("cell", pa.int32()),
        ],
        {large_eval_set._FORMAT: about},
    )
    answered = pa.schema([("id", pa.string()), ("prediction", pa.string())])
    with (
        pq.ParquetWriter(items, schema, compression="zstd") as first,
        pq.ParquetWriter(predictions, answered, compression="zstd") as second,
    ):
        for start in range(0, count, step):
            rows = range(start, start + step)
            ids = [f"i{k:08}" for k in rows]
            right = [f"answer {k % 977}" for k in rows]
            given = [
                text if k // 1000 % 10 else "wrong" for k, text in zip(rows, right, strict=True)
            ]
            prompts = [f"Say answer {k}" for k in rows]
            wanted = [[text] for text in right]
            part = pa.table([ids, prompts, wanted, [k % cells for k in rows]], schema=schema)
            first.write_table(part, 1 << 16)
            second.write_table(pa.table([ids, given], schema=answered), 1 << 16)
    floor = {"accuracy": 0.5, "n": count // cells}
    buckets = {f"d.b{k:03}": floor for k in range(cells)}
    values = {"eval_set_dvc_hash": "0" * 32, "baseline_sha": "0" * 64, "tolerance_pp": 0.02}
    floors.write_text(json.dumps({**values, "buckets": buckets}))


def _ledger(folder: Path, count: int) -> None:
    """A ledger of so many promotions in dev."""
    from lynx_pipeline.domain.ledger import PROMOTED, Checkpoint, Fact, seal
    from lynx_pipeline.domain.versioning import Env

    folder.mkdir()
    prev, size = None, 0
    with (folder / "index.jsonl").open("wb") as file:
        for k in range(1, count + 1):
            fact = Fact(
                time="2025-01-02T03:04:05Z",
                env=Env.DEV,
                event=PROMOTED,
                model="grammar-tutor",
                mlflow_run_id=f"{k:032x}",
                artifact_uri=f"mlflow-artifacts:/1/{k:032x}/artifacts/model",
                canonical_sha=f"{k:064x}",
                semver=f"v0.1.{k}-dev",
                evidence={
                    **{f"{name}_sha256": f"{k:064x}" for name in _DIGESTS},
                    "eval_set_dvc_hash": f"{k:032x}",
                    "scorer": "normalised-exact-match/1",
                    "isolation": "bubblewrap",
                    "tolerance": 0.02,
                    "worst_bucket": "verb.be",
                    "worst_margin": 0.001667,
                },
                cpqu=3.125e-08,
            )
            entry = seal(k, prev, fact)
            line = entry.to_line()
            file.write(line)
            prev, size = entry.hash, size + len(line)
    assert prev
    checkpoint = Checkpoint(size, count, prev)
    (folder / "index.checkpoint.json").write_bytes(checkpoint.to_line())


_DIGESTS = ("eval_set", "baseline", "candidate_eval", "predictions")


if __name__ == "__main__":
    main()
