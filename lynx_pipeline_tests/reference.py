"""The reference: commands, settings, exit codes and what Dagster shows, from the code.

``python -m lynx_pipeline_tests.reference >docs/reference.md`` writes it down.
"""

import argparse
from collections.abc import Iterator, Mapping

from dagster import AssetSpec
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from lynx_pipeline.cli import command_line
from lynx_pipeline.config.schema import SUBTABLES, ProjectTable, expected
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
    yield "Written by `python -m lynx_pipeline_tests.reference`; a test holds it to the code."
    yield ""
    yield "| exit code | means |"
    yield "| --- | --- |"
    for code, kind in EXIT_CODES.items():
        text = kind if isinstance(kind, str) else _first(kind.__doc__)
        yield f"| {code} | {text} |"
    yield ""
    yield "An error is one paragraph on standard error: what, where, what was expected, what to do."
    yield "`--debug`, before the command, shows where it was raised; `--json` prints data."


def _commands() -> Iterator[str]:
    yield ""
    yield "## Commands"
    yield from _below(command_line())


def _below(parser: argparse.ArgumentParser) -> Iterator[str]:
    groups = [it for it in parser._actions if isinstance(it, argparse._SubParsersAction)]
    if not groups:
        yield from _command(parser)
    for group in groups:
        for sub in group.choices.values():
            yield from _below(sub)


def _command(parser: argparse.ArgumentParser) -> Iterator[str]:
    options = [it for it in parser._actions if not isinstance(it, argparse._HelpAction)]
    text = str(parser.description)
    yield ""
    yield f"### `{' '.join([parser.prog, *map(_shown, options)])}`"
    yield ""
    yield f"{text[0].upper()}{text[1:]}."
    told = [it for it in options if it.help and it.dest != "json"]
    if told:
        yield ""
    for it in told:
        name = it.option_strings[0] if it.option_strings else str(it.metavar)
        yield f"- `{name}`: {it.help}"


def _shown(it: argparse.Action) -> str:
    name = it.option_strings[0] if it.option_strings else ""
    takes = "" if it.nargs == 0 else str(it.metavar or "|".join(it.choices or ()))
    text = " ".join(filter(None, (name, takes)))
    optional = (it.option_strings and not it.required) or it.nargs == "?"
    return f"[{text}]" if optional else text


def _settings() -> Iterator[str]:
    yield ""
    yield "## Settings"
    yield ""
    yield "In `pyproject.toml`. Unknown keys are refused."
    yield from _table(TABLE, ProjectTable)
    for name, table in SUBTABLES.items():
        yield from _table(f"{TABLE}.{name}", table)


def _table(name: str, table: type[BaseModel]) -> Iterator[str]:
    yield ""
    yield f"### `[{name}]`"
    yield ""
    yield str(table.__doc__)
    yield ""
    yield "| key | meaning | value | default |"
    yield "| --- | --- | --- | --- |"
    for key, field in table.model_fields.items():
        if key not in SUBTABLES:
            values = (f"`{key}`", field.description, expected(table, key), _default(field))
            yield f"| {' | '.join(map(str, values))} |"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.default
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
    yield "| job or sensor | |"
    yield "| --- | --- |"
    for it in (*(defs.jobs or ()), *(defs.sensors or ())):
        yield f"| `{it.name}` | {_first(it.description)} |"


def _first(text: str | None) -> str:
    """The first paragraph, in one line."""
    return " ".join((text or "").split("\n\n")[0].split())


if __name__ == "__main__":
    main()
