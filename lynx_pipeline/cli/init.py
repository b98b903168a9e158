"""``init``: make a git repository a project."""

import sys
from pathlib import Path

import click

from lynx_pipeline.cli.framework import CANDIDATE_FORMS, Command, model_option, path_option
from lynx_pipeline.cli.output import inform, warn
from lynx_pipeline.errors import BadInput
from lynx_pipeline.reports.progress import shown
from lynx_pipeline.setup.files import State
from lynx_pipeline.setup.initialization import Initialization, plan
from lynx_pipeline.setup.workflows import Action


@click.command(
    cls=Command,
    example="lynx-pipeline init --candidate 0123456789abcdef0123456789abcdef --owner @octocat",
    help=f"""Make the git repository in this folder a project.

    Writes the settings, Dagster's and DVC's configuration, CODEOWNERS and the deploy workflow, puts
    the eval set under DVC, and makes the first baseline from CANDIDATE: {CANDIDATE_FORMS}. Nothing
    that exists is overwritten; the difference is shown instead. Running it again adds what is
    missing.""",
)
@click.option("--name", metavar="MODEL", help="The model's name. By default, the folder's.")
@path_option(
    "--eval-set", metavar="FILE", help="The eval set. By default, the only *.jsonl file here."
)
@click.option(
    "--dvc-remote",
    metavar="URL",
    help=(
        "Where DVC keeps its data, if it has no default remote: a URL, or a folder that is "
        "committed. By default, data/dvc-remote."
    ),
)
@click.option(
    "--owner",
    "owners",
    metavar="@LOGIN",
    multiple=True,
    help="Who may approve changes and request promotions. Repeat it for more.",
)
@path_option(
    "--wheel",
    metavar="FILE",
    help="The wheel that the workflow installs. By default, the one that was installed here.",
)
@click.option(
    "--action",
    metavar="OWNER/REPO@COMMIT",
    help=(
        "Let the workflow install lynx-pipeline from this commit of its repository on GitHub, in "
        "place of a wheel."
    ),
)
@click.option("--candidate", help="The model that the first baseline is measured on.")
@model_option
@click.option("--yes", is_flag=True, help="Don't ask.")
def init(
    name: str | None,
    eval_set: Path | None,
    dvc_remote: str | None,
    owners: tuple[str, ...],
    wheel: Path | None,
    action: str | None,
    candidate: str | None,
    model: str | None,
    yes: bool,
) -> int:
    """Make the git repository in this folder a project."""
    if model and not candidate:
        raise BadInput("--model chooses one of a run's models, so it needs --candidate.")
    if wheel and action:
        raise BadInput("give either --wheel or --action: the workflow installs one of them.")
    source = Action(action) if action else wheel
    planned = plan(Path.cwd(), name, eval_set, dvc_remote, owners, source)
    _show(planned)
    if not yes:
        if not sys.stdin.isatty():
            raise BadInput("nobody can be asked here whether to write this. Give --yes.")
        if not click.confirm("Write this?", default=True):
            print("Nothing was written.")
            return 0
    for line in planned.write():
        print(line)
    if candidate:
        with shown(always=False) as report:
            for line in planned.first_baseline(candidate, model, warn, inform, report):
                print(line)
    print("Next:")
    for line in planned.next_steps():
        print(f"  {line}")
    return 0


def _show(planned: Initialization) -> None:
    for file in planned.files:
        print(f"{file.state:<10} {file.path.relative_to(planned.root)}")
        if file.state is State.DIFFERENT:
            print("           It stays as it is. Compared with what it could be:")
            print("\n".join(f"           {line}" for line in file.difference().splitlines()))
    for note in planned.notes:
        print(f"not written: {note}")
