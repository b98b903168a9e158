"""The reference: commands, settings, exit codes and what Dagster shows, from the code.

``python -m lynx_pipeline_tests.reference >docs/reference.md`` generates the page.
"""

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields

import click
from dagster import AssetSpec

from lynx_pipeline.cli import cli
from lynx_pipeline.cli.framework import Command
from lynx_pipeline.config.schema import SUBTABLES, ProjectTable, keys
from lynx_pipeline.config.settings import TABLE
from lynx_pipeline.definitions import defs
from lynx_pipeline.errors import BadInput, LynxError, Refused, SystemFailed

EXIT_CODES: Mapping[int, type[LynxError] | str] = {
    0: "Done, or passed.",
    **{kind.exit_code: kind for kind in (Refused, BadInput, SystemFailed)},
}


def main() -> None:
    """Print the page."""
    for part in (_head(), _commands(), _settings(), _dagster()):
        for line in part:
            print(line)


def _head() -> Iterator[str]:
    yield "# Reference"
    yield ""
    yield "Written by `python -m lynx_pipeline_tests.reference`; a test compares it with the code."
    yield ""
    yield "| exit code | means |"
    yield "| --- | --- |"
    for code, kind in EXIT_CODES.items():
        text = kind if isinstance(kind, str) else _first(kind.__doc__)
        yield f"| {code} | {text} |"
    yield ""
    yield "An error is one paragraph on standard error: what, where, what was expected, what to do."
    yield "`--debug` shows where it was raised, and `--json` prints data. `--gate MODEL` names the"
    yield "model, if the project has several. Each goes before or after the command's name."


def _commands() -> Iterator[str]:
    yield ""
    yield "## Commands"
    for context, command in commands(click.Context(cli, info_name="lynx-pipeline")):
        yield from _command(context, command)


def commands(context: click.Context) -> Iterator[tuple[click.Context, Command]]:
    """Every command below the group of ``context``, each with its own context."""
    group = context.command
    assert isinstance(group, click.Group)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        assert found is not None
        below = click.Context(found, parent=context, info_name=name)
        if isinstance(found, Command):
            yield below, found
        else:
            yield from commands(below)


def _command(context: click.Context, command: Command) -> Iterator[str]:
    params = [it for it in command.params if it.name not in ("debug", "gate")]
    yield ""
    yield f"### `{' '.join([context.command_path, *(_usage(it, context) for it in params)])}`"
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        yield ""
        yield _first(paragraph)
    options = [it for it in params if isinstance(it, click.Option) and it.name != "json"]
    if options:
        yield ""
    for it in options:
        yield f"- `{it.opts[0]}`: {it.help}"
    yield ""
    yield "```text"
    yield command.example
    yield "```"


def _usage(it: click.Parameter, context: click.Context) -> str:
    if isinstance(it, click.Argument):
        return it.make_metavar(context)
    flag = isinstance(it, click.Option) and it.is_flag
    text = it.opts[0] if flag else f"{it.opts[0]} {it.make_metavar(context)}"
    return text if it.required else f"[{text}]"


def _settings() -> Iterator[str]:
    yield ""
    yield "## Settings"
    yield ""
    yield "In `pyproject.toml`. Unknown keys are refused."
    yield from _table(TABLE, ProjectTable)
    for name, table in SUBTABLES.items():
        yield from _table(f"{TABLE}.{name}", table)
    yield ""
    yield f"### `[[{TABLE}.models]]`"
    yield ""
    yield "See [Several models](several-models.md). An entry has a `name` and any key or subtable"
    yield f"of `[{TABLE}]`, except `model` and `identity`."


def _table(name: str, table: type) -> Iterator[str]:
    yield ""
    yield f"### `[{name}]`"
    yield ""
    yield str(table.__doc__)
    yield ""
    yield "| key | meaning | value | default |"
    yield "| --- | --- | --- | --- |"
    defaults = {it.name: it.default for it in fields(table)}
    for name, key in keys(table).items():
        values = (f"`{name}`", key.description, key.expected, _default(defaults[name]))
        yield f"| {' | '.join(values)} |"


def _default(value: object) -> str:
    if value is MISSING:
        return "required"
    if value in ("", (), None):
        return "none"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def _dagster() -> Iterator[str]:
    yield ""
    yield "## In Dagster"
    yield ""
    yield "| asset | group | |"
    yield "| --- | --- | --- |"
    graph = defs.resolve_asset_graph()
    for key in graph.toposorted_asset_keys:
        spec: AssetSpec = graph.get(key).to_asset_spec()
        yield f"| `{key.to_user_string()}` | {spec.group_name} | {_first(spec.description)} |"
    yield ""
    yield "| check | of | |"
    yield "| --- | --- | --- |"
    for check in sorted(graph.asset_check_keys, key=lambda it: it.name):
        text = graph.get(check).description
        yield f"| `{check.name}` | `{check.asset_key.to_user_string()}` | {_first(text)} |"
    yield ""
    yield "| job, sensor or schedule | |"
    yield "| --- | --- |"
    for it in (*(defs.jobs or ()), *(defs.sensors or ()), *(defs.schedules or ())):
        yield f"| `{it.name}` | {_first(it.description)} |"


def _first(text: str | None) -> str:
    """The first paragraph, in one line."""
    return " ".join((text or "").split("\n\n")[0].split())


if __name__ == "__main__":
    main()
