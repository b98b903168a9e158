"""``ci changed``: whether a pull request changes gate inputs. It runs before the packages are
installed that check them, so it imports no more than the light client."""

import click

from lynx_pipeline.adapters import actions
from lynx_pipeline.cli.framework import Command
from lynx_pipeline.config import load_each
from lynx_pipeline.registry.gate_inputs import changes


@click.command(cls=Command, example="lynx-pipeline ci changed --base origin/main")
@click.option("--base", metavar="GIT_REF", required=True, help="The commit to compare with.")
def changed(base: str) -> int:
    """Look for changed gate inputs.

    Sets the step's output 'changed' to true or false. Looks at each model of a project that has
    several, and lists what differs.
    """
    found = {it.model: changes(it, base, "HEAD") for it in load_each()}
    for model, names in found.items():
        print(f"{model}: {', '.join(names) or f'no gate input differs from {base}'}.")
    actions.output(changed="true" if any(found.values()) else "false")
    return 0
