"""``compare-baseline``: the gate on two files. It needs no project and reads no settings."""

import sys
from fractions import Fraction
from pathlib import Path

import click

from lynx_pipeline.adapters.files import read_json_bytes, write_atomic
from lynx_pipeline.cli.framework import Command, path_option, with_json
from lynx_pipeline.cli.output import print_json
from lynx_pipeline.cli.tolerance import Tolerance
from lynx_pipeline.domain.gate.baseline import parse_baseline
from lynx_pipeline.domain.gate.rule import judge
from lynx_pipeline.domain.scores import read_scores
from lynx_pipeline.domain.strict_json import parse_object
from lynx_pipeline.errors import BadInput
from lynx_pipeline.reports.report import Report
from lynx_pipeline.reports.terminal import print_report
from lynx_pipeline.reports.verdict_json import verdict_json


@click.command(
    cls=Command,
    data=True,
    settings=False,
    example=(
        "lynx-pipeline compare-baseline --candidate out/candidate_eval.json --baseline "
        "eval_baseline.json"
    ),
)
@path_option("--candidate", metavar="FILE", required=True, help="candidate_eval.json.")
@path_option("--baseline", metavar="FILE", required=True, help="eval_baseline.json.")
@click.option("--tolerance", type=Tolerance(), help="Must equal the baseline's tolerance.")
@path_option("--report", metavar="FILE.md", help="Also write the report: FILE.md or FILE.html.")
@with_json
def compare_baseline(
    candidate: Path, baseline: Path, tolerance: Fraction | None, report: Path | None, as_json: bool
) -> int:
    """Apply the gate to two files.

    Exits with 0 if every bucket passed and with 1 if the gate refused.
    """
    expected = parse_baseline(read_json_bytes(baseline, "no baseline"), str(baseline))
    if tolerance not in (None, expected.tolerance):
        raise BadInput(
            f"--tolerance {float(tolerance or 0):g} differs from the tolerance_pp of {baseline}, "
            f"{float(expected.tolerance):g}. The tolerance is part of the committed "
            "baseline; change it there."
        )
    raw = read_json_bytes(candidate, "no candidate evaluation")
    scores = read_scores(parse_object(raw, str(candidate)), str(candidate))
    verdict = judge(expected, scores)
    if report is not None:
        _write(report.absolute(), Report(verdict))
    if as_json:
        print_json(verdict_json(verdict))
    else:
        print_report(Report(verdict))
    if verdict.passed:
        return 0
    names = ", ".join(bucket.name for bucket in verdict.failed)
    print(f"lynx-pipeline: the gate refused because of: {names}.", file=sys.stderr)
    return 1


def _write(path: Path, report: Report) -> None:
    from lynx_pipeline.reports.markdown import markdown
    from lynx_pipeline.reports.page import page

    formats = {".md": markdown, ".html": page}
    if path.suffix not in formats:
        raise BadInput(f"--report {path}: expected a name that ends in .md or .html.")
    write_atomic(path, formats[path.suffix](report).encode())
