"""``gate power``: what the gate can and cannot detect."""

from collections.abc import Mapping
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import click

from lynx_pipeline.adapters.files import write_atomic
from lynx_pipeline.cli.framework import Command, path_option, with_json
from lynx_pipeline.cli.output import print_json
from lynx_pipeline.cli.tolerance import Tolerance
from lynx_pipeline.config import find_settings, load_settings
from lynx_pipeline.domain.eval_set import bucket_sizes
from lynx_pipeline.domain.gate.baseline import USUAL_TOLERANCE, Baseline
from lynx_pipeline.domain.gate.power import DROPS, Cells, assumed, cells_of, gate_power
from lynx_pipeline.domain.scorers import EXACT
from lynx_pipeline.domain.scores import Score
from lynx_pipeline.domain.strict_json import exact
from lynx_pipeline.errors import BadInput
from lynx_pipeline.evaluation.inputs import (
    check_match,
    read_baseline,
    read_eval_file,
    read_eval_set,
)
from lynx_pipeline.reports.power import figure, power_json, print_power, print_tries


@click.group()
def gate() -> None:
    """Show what the gate can and cannot detect."""


class _Accuracy(click.ParamType[tuple[str, Fraction]]):
    """An assumed accuracy, of one bucket (``BUCKET=0.8``) or of all (``0.9``, named "")."""

    name = "accuracy"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, Fraction]:
        """The bucket's name and the exact fraction.

        Raises:
            BadInput: it is not a number between 0 and 1.
        """
        if isinstance(value, tuple):
            return value
        bucket, _, text = str(value).rpartition("=")  # a bucket's name may contain =
        with suppress(ValueError, ArithmeticError):  # not a number, or not finite
            if 0 < (accuracy := exact(text)) < 1:
                return bucket, Fraction(accuracy)
        raise BadInput(
            f"--accuracy {value!r}: expected a number between 0 and 1 such as 0.9, or a bucket's, "
            "such as tense.past_simple=0.8. 0 and 1 themselves are not accepted."
        )


@gate.command(
    cls=Command,
    data=True,
    example="lynx-pipeline gate power --accuracy 0.9 --tolerance 0.05 --figure power.svg",
)
@path_option("--eval-set", metavar="FILE", help="An eval set to use instead of the project's.")
@path_option("--baseline", metavar="FILE", help="A baseline to use instead of the project's.")
@click.option(
    "--tolerance",
    type=Tolerance(),
    help="A tolerance to use instead of the baseline's; 0.02 is two points.",
)
@click.option(
    "--accuracy",
    "accuracies",
    metavar="[BUCKET=]FRACTION",
    type=_Accuracy(),
    multiple=True,
    help=(
        "Assume a reference of this accuracy instead of a baseline, before there is one. Repeat it "
        "as BUCKET=FRACTION for buckets that differ."
    ),
)
@click.option(
    "--tries",
    metavar="COUNT",
    type=click.IntRange(1, 1_000_000),
    help="Also show how likely one of so many worse candidates passes by luck.",
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
    accuracies: tuple[tuple[str, Fraction], ...],
    tries: int | None,
    figure_file: Path | None,
    as_json: bool,
) -> int:
    """Show each bucket's false-refusal rate and the drop that it detects.

    The false-refusal rate is how often the gate refuses a model that is as good as the baseline's.
    """
    if accuracies:
        if baseline:
            raise BadInput("give either --baseline or --accuracy, not both.")
        cells, scores = _assumed(eval_set, accuracies)
        allowed = USUAL_TOLERANCE
    else:
        cells, reference = _measured(eval_set, baseline)
        scores, allowed = reference.buckets, reference.tolerance
    allowed = allowed if tolerance is None else tolerance
    result = gate_power(cells, scores, allowed, drops=DROPS)
    if figure_file is not None:
        write_atomic(figure_file.absolute(), figure(result).encode())
    if as_json:
        print_json(power_json(result, tries))
    else:
        print_power(result)
        if tries is not None:
            print()
            print_tries(result, tries)
    return 0


def _measured(eval_set: Path | None, baseline: Path | None) -> tuple[Cells, Baseline]:
    """The eval set and its baseline."""
    if eval_set and baseline:
        reference = read_baseline(baseline)
        items = read_eval_file(eval_set, reference.scorer)
    else:
        settings = load_settings()
        file = baseline or settings.baseline
        if not file.exists():
            raise BadInput(
                f"there is no baseline {file}. Before there is one, assume the accuracy of a "
                "reference: --accuracy 0.9, and --accuracy BUCKET=0.8 for buckets that differ."
            )
        reference = read_baseline(file)
        items = read_eval_file(eval_set, reference.scorer) if eval_set else read_eval_set(settings)
    check_match(items, reference)
    return cells_of(items, list(reference.buckets)), reference


def _assumed(
    eval_set: Path | None, accuracies: tuple[tuple[str, Fraction], ...]
) -> tuple[Cells, Mapping[str, Score]]:
    """The eval set, and the scores of an imagined reference."""
    names = [name for name, _ in accuracies]
    for name in names:
        if names.count(name) > 1:
            raise BadInput(f"--accuracy is given twice for {name or 'all buckets'}.")
    buckets = dict(accuracies)
    overall = buckets.pop("", None)
    if overall is None:
        raise BadInput("give an accuracy for the other buckets, too, such as --accuracy 0.9.")
    if eval_set is None:
        items = read_eval_set(load_settings())
    else:
        settings = find_settings()
        items = read_eval_file(eval_set, settings.scorer if settings else EXACT)
    cells = cells_of(items, list(bucket_sizes(items)))
    return cells, assumed(cells, overall, buckets)
