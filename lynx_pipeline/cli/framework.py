"""Shared parts of all commands: lazy groups, examples, and the options ``--json``, ``--gate`` and
``--debug``, which may be given before or after the command's name.
"""

import importlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial, wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import click
from click.shell_completion import CompletionItem

from lynx_pipeline.domain.text import GATE_VARIABLE

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(slots=True)
class Shared:
    """The options that every command has, wherever they were given."""

    as_json: bool = False
    debug: bool = False


# An option whose value is a path.
path_option = partial(click.option, type=click.Path(path_type=Path))

# How a user may name a candidate, and one of a run's models.
CANDIDATE_FORMS = (
    "an MLflow run id, a logged model's id, RUN_ID:PATH, models:/NAME/VERSION or models:/NAME@ALIAS"
)
model_option = click.option(
    "--model",
    metavar="NAME",
    help=(
        "Which of the run's models, if it has several: the name or id of a logged model, "
        "NAME@STEP, or a path among its artifacts."
    ),
)


def shared(context: click.Context) -> Shared:
    """The shared options of this command line."""
    found = context.find_object(Shared)
    assert found is not None  # main() gives every command line one
    return found


def _remember(name: str) -> Callable[[click.Context, click.Parameter, bool], None]:
    def remember(context: click.Context, _: click.Parameter, value: bool) -> None:
        if value:
            setattr(shared(context), name, True)

    return remember


def debug_option() -> click.Option:
    """``--debug``."""
    return click.Option(
        ["--debug"],
        is_flag=True,
        expose_value=False,
        callback=_remember("debug"),
        help="Show the traceback of an error.",
    )


def json_option() -> click.Option:
    """``--json``."""
    return click.Option(
        ["--json"],
        is_flag=True,
        expose_value=False,
        callback=_remember("as_json"),
        help="Print the result as JSON.",
    )


def _choose_gate(context: click.Context, _: click.Parameter, model: str | None) -> None:
    """Name the model in the environment while the command runs: the processes that it starts need
    it, too."""
    if model is None:
        return
    before = os.environ.get(GATE_VARIABLE)
    os.environ[GATE_VARIABLE] = model

    @context.call_on_close
    def restore() -> None:
        if before is None:
            del os.environ[GATE_VARIABLE]
        else:
            os.environ[GATE_VARIABLE] = before


def gate_option() -> click.Option:
    """``--gate``."""
    return click.Option(
        ["--gate"],
        metavar="MODEL",
        expose_value=False,
        callback=_choose_gate,
        help=f"Which of the project's models, if it has several. Default: {GATE_VARIABLE}.",
    )


class Command(click.Command):
    """A command with an example in its help. ``data`` says whether it has ``--json``, ``settings``
    whether it reads a project's, and so has ``--gate``."""

    def __init__(
        self,
        *args: Any,
        example: str = "",
        data: bool = False,
        settings: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.example = example
        self.data = data
        self.params += [
            *([json_option()] if data else []),
            *([gate_option()] if settings else []),
            debug_option(),
        ]

    def invoke(self, ctx: click.Context) -> Any:
        """Run it."""
        if shared(ctx).as_json and not self.data:
            raise click.UsageError(f"'{ctx.command_path}' has no --json.", ctx)
        return super().invoke(ctx)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the example."""
        with formatter.section("Example"):
            formatter.write_text(self.example)


class LazyGroup(click.Group):
    """A group whose commands' modules are imported when they run.

    ``lazy`` maps each command's name to its module and its help line. The module contains the
    command under its own name, with underscores.
    """

    def __init__(self, *args: Any, lazy: Mapping[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of the map."""
        return list(self.lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command."""
        if cmd_name not in self.lazy:
            return None
        module = importlib.import_module(f"lynx_pipeline.cli.{self.lazy[cmd_name][0]}")
        found: click.Command = getattr(module, cmd_name.replace("-", "_"))
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that ``args`` name."""
        try:
            return super().resolve_command(ctx, args)
        except click.NoSuchCommand as error:  # click knows no names of commands to suggest
            raise click.NoSuchCommand(
                error.command_name, possibilities=self.lazy, ctx=ctx
            ) from None

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete a command's name or an option without importing the commands."""
        names = [
            CompletionItem(name, help=line)
            for name, (_, line) in self.lazy.items()
            if name.startswith(incomplete)
        ]
        return names + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in self.lazy.items()])


def with_json(command: Callable[P, R]) -> Callable[P, R]:
    """Pass ``as_json`` to a command function."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        kwargs["as_json"] = shared(click.get_current_context()).as_json
        return command(*args, **kwargs)

    return run
