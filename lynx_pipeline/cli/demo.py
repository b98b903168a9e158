"""``demo``: the example project, from training to promotion and refusal."""

import importlib
import sys
from pathlib import Path

import click

from lynx_pipeline.cli.framework import Command
from lynx_pipeline.config import NoProject, load_settings
from lynx_pipeline.errors import BadInput
from lynx_pipeline.registry.authorization import require_dev

EXAMPLE = "examples/grammar_tutor/demo.py"
_WHERE = (
    "the demo trains and promotes the example project's models. Run it in a clone of the "
    "lynx-pipeline repository. In your own project, use 'lynx-pipeline run'."
)


@click.command(cls=Command, example="lynx-pipeline demo")
def demo() -> int:
    """Run the example project: promote a good model, refuse a regressed one.

    Trains two grammar tutors, evaluates both on the versioned eval set, promotes the good one as
    v0.1.0-dev and refuses the regressed one.
    """
    try:
        settings = load_settings()
    except NoProject:
        raise BadInput(f"{Path.cwd()} is not in a project: {_WHERE}") from None
    require_dev(settings, "the demo")
    if not (settings.root / EXAMPLE).is_file():
        raise BadInput(f"the project {settings.root} has no {EXAMPLE}: {_WHERE}")
    sys.path.insert(0, str(settings.root))
    importlib.import_module("examples.grammar_tutor.demo").run(settings)
    return 0
