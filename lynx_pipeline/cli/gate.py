"""``gate power``: what the gate can and cannot detect."""

from fractions import Fraction
from pathlib import Path

import click

from lynx_pipeline.adapters.files import write_atomic
from lynx_pipeline.cli.framework import Command, path_option, with_json
from lynx_pipeline.cli.output import print_json
from lynx_pipeline.cli.tolerance import Tolerance
from lynx_pipeline.config import load_settings
from lynx_pipeline.domain.gate.power import DROPS, cells_of, gate_power
from lynx_pipeline.evaluation.inputs import (
    check_match,
    read_baseline,
    read_eval_file,
    read_eval_set,
)
from lynx_pipeline.reports.power import figure, power_json, print_power


@click.group()
def gate() -> None:
    """Show what the gate can and cannot detect."""


@gate.command(
    cls=Command, data=True, example="lynx-pipeline gate power --tolerance 0.05 --figure power.svg"
)
@path_option("--eval-set", metavar="FILE", help="An eval set to use instead of the project's.")
@path_option("--baseline", metavar="FILE", help="A baseline to use instead of the project's.")
@click.option(
    "--tolerance",
    type=Tolerance(),
    help="A tolerance to use instead of the baseline's; 0.02 is two points.",
)
@path_option(
    "--figure",
    "figure_file",
    metavar="FILE.svg",
    help="Also draw how often each bucket refuses, by true drop: FILE.svg.",
)
@with_json
def power(
    eval_set: Path | None,
    baseline: Path | None,
    tolerance: Fraction | None,
    figure_file: Path | None,
    as_json: bool,
) -> int:
    """Show each bucket's false-refusal rate and the drop that it detects.

    The false-refusal rate is how often the gate refuses a model that is as good as the baseline's.
    """
    if eval_set and baseline:
        reference = read_baseline(baseline)
        items = read_eval_file(eval_set, reference.scorer)
    else:
        settings = load_settings()
        reference = read_baseline(baseline or settings.baseline)
        items = read_eval_file(eval_set, reference.scorer) if eval_set else read_eval_set(settings)
    check_match(items, reference)
    cells = cells_of(items, list(reference.buckets))
    allowed = reference.tolerance if tolerance is None else tolerance
    result = gate_power(cells, reference.buckets, allowed, drops=DROPS)
    if figure_file is not None:
        write_atomic(figure_file.absolute(), figure(result).encode())
    if as_json:
        print_json(power_json(result))
    else:
        print_power(result)
    return 0
