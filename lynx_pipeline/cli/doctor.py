"""``doctor``: check a set-up."""

from dataclasses import asdict

import click

from lynx_pipeline.cli.framework import Command, with_json
from lynx_pipeline.cli.output import print_json
from lynx_pipeline.config import load_settings
from lynx_pipeline.setup.doctor import findings


@click.command(cls=Command, data=True, example="lynx-pipeline doctor --json")
@with_json
def doctor(as_json: bool) -> int:
    """Check the project's set-up from end to end.

    Changes nothing. Each line says what is right, or what is wrong and what to do. Production is
    checked if [tool.lynx_pipeline.identity] is there or LYNX_ENV is prod; GitHub's side of it needs
    GITHUB_TOKEN. The exit code is the highest of all failed checks: 1 for a policy, 2 for something
    invalid, 3 for a system that failed.
    """
    found = []
    for it in findings(load_settings()):
        found.append(it)
        if not as_json:
            print(f"{it.status:<8} {it.name}: {it.text}", flush=True)
    if as_json:
        print_json([asdict(it) for it in found])
    return max((it.exit_code for it in found), default=0)
