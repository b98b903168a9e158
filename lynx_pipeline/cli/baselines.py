"""Commands about the committed floors: baseline propose, baseline check."""

import sys
from argparse import Namespace
from pathlib import Path

from lynx_pipeline.cli.output import warn


def baseline_propose(arguments: Namespace) -> int:
    from lynx_pipeline.config import load_settings
    from lynx_pipeline.evaluation.baseline import propose, reference_file

    settings = load_settings()
    evaluation = Path(arguments.from_eval).absolute()
    floors = propose(settings, evaluation, arguments.justification)
    for floor in floors:
        print(f"  {floor.text}")
    reference = reference_file(settings)
    print(
        f"{len(floors)} floors change. Review and commit {settings.baseline.name}, "
        f"{reference.name}.dvc and what was pushed to the DVC remote."
    )
    return 0


def baseline_check(arguments: Namespace) -> int:
    from lynx_pipeline.config import load_settings
    from lynx_pipeline.domain.gate.rule import points
    from lynx_pipeline.evaluation.baseline import check

    settings = load_settings()
    change = check(settings, arguments.base)
    if not change.changed:
        print(f"{settings.baseline.name} is as at {arguments.base}.")
    for floor in change.floors:
        print(f"  {floor.text}")
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
