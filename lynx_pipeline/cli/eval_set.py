"""``eval-set import`` and ``eval-set check``: make an eval set, and find what is wrong with it."""

from dataclasses import asdict
from fractions import Fraction
from pathlib import Path

import click

from lynx_pipeline.adapters.dvc_data import pulled
from lynx_pipeline.cli.framework import Command, path_option, with_json
from lynx_pipeline.cli.output import print_json
from lynx_pipeline.cli.tolerance import Tolerance
from lynx_pipeline.config import Settings, find_settings, load_settings
from lynx_pipeline.domain.eval_set_findings import Severity
from lynx_pipeline.domain.file_kinds import quoted
from lynx_pipeline.domain.gate.baseline import USUAL_TOLERANCE
from lynx_pipeline.domain.scorers import EXACT, Scorer
from lynx_pipeline.domain.tables import Columns
from lynx_pipeline.domain.text import number_of, printable
from lynx_pipeline.errors import BadInput
from lynx_pipeline.evaluation.eval_set_check import check_eval_set
from lynx_pipeline.evaluation.inputs import read_baseline
from lynx_pipeline.evaluation.table_import import import_table
from lynx_pipeline.reports.progress import BYTES, shown


@click.group("eval-set")
def eval_set() -> None:
    """Make an eval set from a table, and check one."""


@eval_set.command(
    "import",
    cls=Command,
    data=True,
    example=(
        "lynx-pipeline eval-set import questions.csv --prompt question --expected answer "
        "--bucket topic --bucket level --output data/eval/questions.jsonl"
    ),
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--prompt", metavar="COLUMN", required=True, help="The column of the prompts.")
@click.option(
    "--expected", metavar="COLUMN", required=True, help="The column of the expected answers."
)
@click.option(
    "--bucket",
    "buckets",
    metavar="COLUMN",
    required=True,
    multiple=True,
    help="A column of buckets; its name is the dimension. Repeat it for more dimensions.",
)
@click.option(
    "--accept",
    metavar="COLUMN",
    multiple=True,
    help="A column of another right answer, where there is one. Repeat it for more.",
)
@click.option(
    "--id",
    "item_id",
    metavar="COLUMN",
    help="The column of unique ids. By default ids are made from the items' content.",
)
@path_option("--output", metavar="FILE", required=True, help="The JSON lines file to write.")
@click.option("--overwrite", is_flag=True, help="Replace the output file if it exists.")
@click.option("--progress", is_flag=True, help="Print progress lines when not on a TTY.")
@with_json
def import_(
    file: Path,
    prompt: str,
    expected: str,
    buckets: tuple[str, ...],
    accept: tuple[str, ...],
    item_id: str | None,
    output: Path,
    overwrite: bool,
    progress: bool,
    as_json: bool,
) -> int:
    """Write an eval set from FILE, a table in CSV, TSV or Parquet.

    Cells are copied unchanged. A cell that can't be imported is an error that names the row, and
    nothing is written.
    """
    columns = Columns(prompt, expected, buckets, accept, item_id)
    if not file.is_file():
        raise BadInput(f"there is no file {file} to import.")
    if output.exists() and output.samefile(file):
        raise BadInput(f"{output} is the table itself. Choose another name for the output.")
    if output.exists() and not overwrite:
        raise BadInput(f"{output} exists. Choose another name, or replace it with --overwrite.")
    scorer = _scorer(find_settings())
    with shown(always=progress, what=BYTES) as report:
        result = import_table(file, columns, output.absolute(), scorer, report)
    if as_json:
        print_json(
            {
                "output": str(output),
                "items": result.items,
                "buckets": sorted(result.buckets),
                "unused_columns": list(result.unused),
            }
        )
        return 0
    buckets_made = number_of(len(result.buckets), "bucket")
    print(f"Wrote {number_of(result.items, 'item')} in {buckets_made} to {output}.")
    if result.unused:
        print(f"Columns that were not used: {', '.join(map(repr, result.unused))}.")
    print(f"Check it: lynx-pipeline eval-set check {quoted(str(output))}")
    return 0


@eval_set.command(cls=Command, data=True, example="lynx-pipeline eval-set check --tolerance 0.05")
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option(
    "--tolerance",
    type=Tolerance(),
    help="A tolerance to use instead of the baseline's; 0.02 is two points.",
)
@path_option(
    "--corpus", metavar="FILE", help="Also compare it with this corpus: JSON lines with prompts."
)
@click.option("--progress", is_flag=True, help="Print progress lines when not on a TTY.")
@with_json
def check(
    file: Path | None,
    tolerance: Fraction | None,
    corpus: Path | None,
    progress: bool,
    as_json: bool,
) -> int:
    """Show everything that is wrong or risky in an eval set, all at once.

    FILE is the project's eval set by default, as it is on disk. Errors make the eval set unusable
    (exit code 2). Warnings are for you to judge, and don't affect the exit code.
    """
    settings = load_settings() if file is None else find_settings()
    if tolerance is None:
        tolerance = USUAL_TOLERANCE
        if settings is not None and settings.baseline_or_none and settings.baseline.is_file():
            tolerance = read_baseline(settings.baseline).tolerance
    if file is None:
        assert settings is not None  # without a project, FILE is required
        file = settings.eval_set
        if not file.exists():
            pulled(file)
    with shown(always=progress, what=BYTES) as report:
        checked = check_eval_set(file, _scorer(settings), tolerance, report, corpus)
    errors = sum(finding.severity is Severity.ERROR for finding in checked.findings)
    if as_json:
        print_json(
            {
                "file": str(file),
                "items": checked.items,
                "buckets": dict(sorted(checked.buckets.items())),
                "tolerance": float(tolerance),
                "findings": [asdict(finding) for finding in checked.findings],
            }
        )
        return 2 if errors else 0
    for finding in checked.findings:
        text = printable(finding.message)
        print(f"{finding.severity}: {finding.kind} ({finding.count:,}): {text}")
    print(
        f"{file}: {number_of(checked.items, 'item')} in "
        f"{number_of(len(checked.buckets), 'bucket')}; {number_of(errors, 'error')}, "
        f"{number_of(len(checked.findings) - errors, 'warning')}."
    )
    return 2 if errors else 0


def _scorer(settings: Settings | None) -> Scorer:
    """The project's scorer, or the default outside a project."""
    return EXACT if settings is None else settings.scorer
