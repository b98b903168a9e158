"""``baseline propose`` and ``baseline check``: propose and check a new baseline."""

import os
import sys
from pathlib import Path

import click

from lynx_pipeline.adapters.dvc_files import own_record
from lynx_pipeline.cli.framework import Command, path_option
from lynx_pipeline.cli.output import warn
from lynx_pipeline.config import Settings, load_each, load_settings
from lynx_pipeline.domain.file_kinds import quoted
from lynx_pipeline.domain.gate.rule import points
from lynx_pipeline.evaluation.baseline import check as check_change
from lynx_pipeline.evaluation.baseline import propose as write_proposal
from lynx_pipeline.evaluation.baseline import reference_file


@click.group()
def baseline() -> None:
    """Propose and check baselines."""


@baseline.command(
    cls=Command,
    example=(
        "lynx-pipeline baseline propose --from out/candidate_eval.json --justification 'v0.3.1 is "
        "the new reference.'"
    ),
)
@path_option(
    "--from",
    "evaluation",
    metavar="FILE",
    required=True,
    help="The candidate_eval.json of the new reference model.",
)
@click.option("--justification", required=True, help="Why the baseline may change.")
def propose(evaluation: Path, justification: str) -> int:
    """Write a new baseline from an evaluation, for review.

    The predictions become the reference that candidates are compared with.
    """
    settings = load_settings()
    buckets = write_proposal(settings, evaluation.absolute(), justification)
    for bucket in buckets:
        print(f"  {bucket.text}")
    record = own_record(reference_file(settings))
    written = (settings.baseline, record, record.with_name(".gitignore"))
    files = ", ".join(quoted(os.path.relpath(file)) for file in written if file.exists())
    print(
        f"{_counted(len(buckets))} Review and commit {files} and, if the DVC remote is in the "
        "repository, what was pushed to it."
    )
    return 0


def _counted(buckets: int) -> str:
    """How many buckets change."""
    if not buckets:
        return "No bucket changes in accuracy or size."
    return "1 bucket changes." if buckets == 1 else f"{buckets} buckets change."


@baseline.command(cls=Command, example="lynx-pipeline baseline check --base origin/main")
@click.option("--base", metavar="GIT_REF", required=True, help="The commit to compare with.")
def check(base: str) -> int:
    """Refuse a baseline change that is not justified or not supported.

    Shows which buckets' baselines fall, and warns when accepted drops have added up. Checks each
    model of a project that has several.
    """
    return max([_check(settings, base) for settings in load_each()])


def _check(settings: Settings, base: str) -> int:
    """Check the baseline of one model."""
    change = check_change(settings, base)
    if not change.changed:
        print(f"{settings.baseline.name} is unchanged since {base}.")
    for bucket in change.buckets:
        print(f"  {bucket.text}")
    for name, drop in sorted(change.drift.items(), key=lambda pair: pair[1]):
        if -drop > change.tolerance:
            warn(
                f"{name}: the drops accepted since the first baseline of this eval set add up to "
                f"{points(drop)} points, more than the gate lets one candidate fall."
            )
    for objection in change.objections:
        print(f"lynx-pipeline: {settings.baseline.name}: refused: {objection}", file=sys.stderr)
    if change.objections:
        return 1
    if change.changed:
        print(f"{settings.baseline.name}: the change is justified and its numbers are supported.")
    return 0
