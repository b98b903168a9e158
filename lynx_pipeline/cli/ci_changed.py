"""``ci changed``: whether a pull request changes gate inputs. It runs before the packages are
installed that check the change, so it imports no more than the light client."""

import click

from lynx_pipeline.adapters import actions
from lynx_pipeline.cli.framework import Command
from lynx_pipeline.registry.gate_inputs import reviewed_changes


@click.command(cls=Command, example="lynx-pipeline ci changed --base origin/main")
@click.option("--base", metavar="GIT_REF", required=True, help="The commit to compare with.")
def changed(base: str) -> int:
    """Check whether gate inputs change.

    Sets the step's output 'changed' to true or false, and lists what differs for each model.
    """
    found = reviewed_changes(base)
    for settings, names in found:
        print(f"{settings.model}: {', '.join(names) or f'no gate input differs from {base}'}.")
    actions.output(changed="true" if any(names for _, names in found) else "false")
    return 0
