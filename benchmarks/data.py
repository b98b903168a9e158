"""Rows about large data: importing and checking an eval set, and comparing one with a corpus. Each
row shows the command's peak memory too."""

from dataclasses import replace

from benchmarks.inputs import apart, million_lines, million_rows
from benchmarks.measure import Command, pairs
from benchmarks.place import PYTHON, Place
from benchmarks.row import Row, timed


def importing(place: Place) -> Row:
    """A CSV of a million rows."""
    table = place.folder / "table.csv"
    apart(million_rows, table)
    made = place.folder / "made.jsonl"
    arguments = ("--prompt", "prompt", "--expected", "expected", "--bucket", "topic")
    output = ("--output", made, "--overwrite")
    return _large(
        "`eval-set import`, a CSV of 1 M rows, whole process",
        "Python's csv and json that check nothing",
        place.command("lynx-pipeline", "eval-set", "import", table, *arguments, *output),
        place.bare("table", table, place.folder / "bare.jsonl"),
        10.0,
    )


def checking(place: Place) -> Row:
    """An eval set of a million items."""
    file = place.folder / "eval.jsonl"
    apart(million_lines, file)
    return _large(
        "`eval-set check`, 1 M items, whole process",
        "Python's json that checks nothing",
        place.command("lynx-pipeline", "eval-set", "check", file),
        place.bare("items", file),
        10.0,
    )


def corpus(place: Place) -> Row:
    """The eval set against a million lines."""
    file = place.folder / "corpus.jsonl"
    apart(million_lines, file)
    files = (place.eval_set, file)
    return _large(
        "an eval set of 1,200 questions compared with a corpus of 1 M lines, whole process",
        "plain Python that checks nothing",
        place.command(PYTHON, "-c", _COMPARES, *files),
        place.bare("corpus", *files),
        4.0,
    )


def _large(what: str, reference: str, ours: Command, bare: Command, most: float) -> Row:
    found = pairs(ours, bare, times=1)
    row = timed(what, reference, found, most)
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
