"""``eval-set import`` and ``eval-set check``: make an eval set, and find what is wrong with it."""

from pathlib import Path

import click

from lynx_pipeline.cli.framework import Command, path_option, with_json
from lynx_pipeline.cli.output import print_json
from lynx_pipeline.config import NoProject, load_settings
from lynx_pipeline.domain.scorers import EXACT, Scorer
from lynx_pipeline.domain.tables import Columns
from lynx_pipeline.errors import BadInput
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

    Cells are taken over exactly as they are. What can't be taken over is an error that names the
    row, and nothing is written.
    """
    columns = Columns(prompt, expected, buckets, accept, item_id)
    if output.exists() and (not overwrite or output.samefile(file)):
        raise BadInput(f"{output} exists. Choose another name, or replace it with --overwrite.")
    with shown(always=progress, what=BYTES) as report:
        result = import_table(file, columns, output.absolute(), _scorer(), report)
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
    print(f"Wrote {result.items:,} items in {len(result.buckets):,} buckets to {output}.")
    if result.unused:
        print(f"Columns that were not used: {', '.join(map(repr, result.unused))}.")
    print(f"Check it: lynx-pipeline eval-set check {output}")
    return 0


def _scorer() -> Scorer:
    """The project's scorer, or the default outside a project."""
    try:
        return load_settings().scorer
    except NoProject:
        return EXACT
