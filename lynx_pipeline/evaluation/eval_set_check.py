"""Reads an eval set line by line, and finds all that is wrong in it: the rules are in
:mod:`~lynx_pipeline.domain.eval_set_findings`. Takes flat memory, however large the file is."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from lynx_pipeline.domain.eval_set import check_kind
from lynx_pipeline.domain.eval_set_findings import Finding, Findings, Severity, corpus_warnings
from lynx_pipeline.domain.scorers import Scorer
from lynx_pipeline.domain.strict_json import LONGEST
from lynx_pipeline.errors import BadInput
from lynx_pipeline.evaluation.corpus import compare_with_file
from lynx_pipeline.evaluation.inputs import read_eval_file

Progress = Callable[[int, int], None]

_REPORT = 4096  # lines


@dataclass(frozen=True, slots=True)
class Checked:
    """The items that could be read, the sizes of their buckets, and all that was found."""

    items: int
    buckets: dict[str, int]
    findings: tuple[Finding, ...]


def check_eval_set(
    file: Path,
    scorer: Scorer,
    tolerance: Fraction,
    progress: Progress,
    corpus: Path | None = None,
) -> Checked:
    """Check the eval set in ``file``, and compare it with ``corpus`` unless it has errors.
    ``progress`` gets the bytes that were read, and their total.

    Raises:
        BadInput: there is no such file, or it is another kind of file than JSON lines; or
            ``corpus`` is not a corpus of this eval set.
    """
    if not file.is_file():
        raise BadInput(f"there is no eval set {file}.")
    findings = Findings(scorer, tolerance)
    for number, line in _lines(file, progress):
        if not findings.started:
            check_kind(line, str(file))
        findings.add(number, line)
    found = findings.all(lambda: _lines(file, lambda *_: None))
    if corpus is not None and not any(it.severity is Severity.ERROR for it in found):
        found += corpus_warnings(compare_with_file(read_eval_file(file, scorer), corpus))
    return Checked(findings.items, findings.sizes, tuple(found))


def _lines(file: Path, progress: Progress) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, with their numbers. Of a line that is too long to be read, only
    the start."""
    with file.open("rb") as opened:
        size, done, number = file.stat().st_size, 0, 0
        while line := opened.readline(LONGEST + 2):
            number += 1
            done += len(line)
            rest = line
            while rest and not rest.endswith(b"\n"):
                rest = opened.readline(LONGEST)
                done += len(rest)
            if number % _REPORT == 0:
                progress(done, size)
            if line.strip() or len(line) > LONGEST:
                yield number, line
        progress(size, size)
