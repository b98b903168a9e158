"""The command ``lynx-pipeline``: finds the command, runs it, and turns errors into exit codes."""

import os
import sys
import traceback
import warnings
from collections.abc import Sequence

import click
from click.shell_completion import shell_complete

from lynx_pipeline.adapters import actions
from lynx_pipeline.cli.framework import LazyGroup, Shared, debug_option, gate_option, json_option
from lynx_pipeline.cli.output import warn
from lynx_pipeline.errors import INTERRUPTED, LynxError, from_os_error, missing_package, paragraph

_NAME = "lynx-pipeline"
_COMPLETE = "_LYNX_PIPELINE_COMPLETE"

COMMANDS = {
    "demo": ("demo", "Run the example project: promote a good model, refuse a regressed one."),
    "init": ("init", "Make the git repository in this folder a project."),
    "doctor": ("doctor", "Check the project's set-up from end to end."),
    "minieval": ("minieval", "Evaluate a bundle on an eval set, by default the project's."),
    "compare-baseline": ("compare_baseline", "Apply the gate to two files."),
    "eval-set": ("eval_set", "Make an eval set from a table, and check one."),
    "gate": ("gate", "Show what the gate can and cannot detect."),
    "run": ("run", "Evaluate a candidate through Dagster, and promote it."),
    "candidates": ("candidates", "List the candidates in Dagster, and archive them."),
    "request": ("request", "Validate a release request and prepare its run."),
    "baseline": ("baseline", "Propose and check baselines."),
    "registry": ("registry", "Read and change the append-only registry."),
    "announce": ("announce", "Announce a promotion on the configured channels."),
    "canary": ("canary", "Check that a server answers as VERSION did in its evaluation."),
    "audit": ("audit", "Show everything about a version and replay its verdict."),
    "ci": ("ci", "Run one step of the deploy workflow."),
}


@click.group(
    cls=LazyGroup,
    lazy=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"]},
    params=[json_option(), gate_option(), debug_option()],
    epilog=(
        "\b\nShell completion in bash (for others, zsh_source or fish_source):\n"
        f'  eval "$({_COMPLETE}=bash_source {_NAME})"'
    ),
)
@click.version_option(package_name="lynx-pipeline", message="%(prog)s %(version)s")
def cli() -> None:
    """A deploy gate for machine-learning models."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the process's exit code."""
    warnings.showwarning = lambda message, *_, **__: warn(str(message))
    arguments = list(sys.argv[1:] if argv is None else argv)
    options = Shared()
    # Not click's own main(): it exits with 1, which means refused, if nobody reads the output.
    try:
        if completing := os.environ.get(_COMPLETE):
            return shell_complete(cli, {"obj": options}, _NAME, _COMPLETE, completing)
        with cli.make_context(_NAME, arguments, obj=options) as context:
            code = int(cli.invoke(context) or 0)
        sys.stdout.flush()
        return code
    except click.exceptions.Exit as done:  # --help and --version
        return done.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except BrokenPipeError:
        # Python flushes standard output once more at its end, and would exit with 120.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 3
    except KeyboardInterrupt:
        actions.fail(INTERRUPTED)
        return 3
    except Exception as error:
        known = _known(error)
        if known is None or options.debug:
            traceback.print_exc()
        if known is None:  # a bug; an uncaught exception would exit with 1, which means refused
            return 3
        actions.fail(paragraph(known))
        return known.exit_code


def _known(error: Exception) -> LynxError | None:
    """The error as one that a user can meet; None for a bug."""
    match error:
        case LynxError():
            return error
        case OSError():
            return from_os_error(error)
        case ModuleNotFoundError():
            return missing_package(error)
    return None
