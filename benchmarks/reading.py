"""Rows about commands that read files: the gate on two files, and the registry."""

import shutil

from benchmarks.inputs import apart, ledger, server
from benchmarks.measure import Command, pairs
from benchmarks.place import PYTHON, Place
from benchmarks.row import Row, timed


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
    return timed(what, "plain Python reading both files", found, 5.0)


def resolve(place: Place) -> Row:
    """The newest of 100,000 versions."""
    folder = place.folder / "ledger"
    apart(ledger, folder, 100_000)
    environ = {**place.environ, "LYNX_REGISTRY": str(folder)}
    ours = Command(["lynx-pipeline", "registry", "resolve"], place.root, environ)
    found = pairs(ours, place.bare("resolve", folder / "index.jsonl"), times=3)
    what = "`registry resolve`, 100,000 entries, whole process"
    return timed(what, "Python reading and parsing every line", found, 2.0)


def signed(place: Place) -> Row:
    """What a reader saves that remembers the signatures that it has verified."""
    folder = place.folder / "server"
    apart(server, folder, 10_000)
    environ = {**place.environ, "LYNX_ENV": "prod"}
    memory = place.folder / "home" / "verified"
    command = ["lynx-pipeline", "registry", "resolve"]
    ours = Command(command, folder, environ)
    anew = Command(command, folder, environ, lambda: shutil.rmtree(memory, ignore_errors=True))
    what = "`registry resolve`, 10,000 signed entries, by a reader that has verified them before"
    return timed(what, "by one that has not", pairs(ours, anew, times=5), 0.6)


def light_client(place: Place) -> Row:
    """What a server imports to follow the registry."""
    ours = place.command(PYTHON, "-c", "from lynx_pipeline import Registry, fetch, resolve, verify")
    found = pairs(ours, place.command(PYTHON, "-c", "import mlflow.artifacts"), times=11)
    what = "importing the light client, whole process"
    return timed(what, "`import mlflow.artifacts`", found, 0.1)


def quick_way(place: Place) -> Row:
    """The time that the quick way to read a promotion saves."""
    folder = place.folder / "ledger"
    apart(ledger, folder, 10_000)
    index = folder / "index.jsonl"
    ours = place.command(PYTHON, "-c", _READS, index)
    slow = place.command(PYTHON, "-c", _SLOW + _READS, index)
    what = "reading a ledger of 10,000 entries, with the quick way to read promotions"
    return timed(what, "the same without", pairs(ours, slow, times=5), 0.95)


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
