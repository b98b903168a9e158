"""``candidates list`` and ``candidates archive``: the candidates that Dagster shows."""

from dataclasses import asdict

import click

from lynx_pipeline.cli.framework import Command, with_json
from lynx_pipeline.cli.output import print_json
from lynx_pipeline.config import load_settings
from lynx_pipeline.defs import candidates as stored
from lynx_pipeline.defs.gate import gate_of
from lynx_pipeline.defs.instance import open_instance
from lynx_pipeline.domain.ledger.facts import TIME

_COLUMNS = ("candidate", "run name", "author", "version", "last outcome", "last run")


@click.group()
def candidates() -> None:
    """List the candidates in Dagster, and archive them."""


@candidates.command("list", cls=Command, data=True, example="lynx-pipeline candidates list")
@with_json
def list_candidates(as_json: bool) -> int:
    """List the candidates that Dagster shows, the newest run first.

    The last outcome is promoted, evaluated, refused, mistyped or broken; for a run that has not
    ended it is Dagster's status.
    """
    gate = gate_of(load_settings())
    with open_instance() as instance:
        found = stored.candidates(gate, instance)
    rows = [{**asdict(it), "time": it.time.strftime(TIME) if it.time else None} for it in found]
    if as_json:
        print_json(rows)
    elif rows:
        names = ("key", "run_name", "author", "semver", "outcome", "time")
        lines = [_COLUMNS, *(tuple(str(row[name] or "-") for name in names) for row in rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        for line in lines:
            cells = (text.ljust(width) for text, width in zip(line, widths, strict=True))
            print("  ".join(cells).rstrip())
    else:
        print("Dagster has no candidates. Add one: lynx-pipeline run CANDIDATE")
    return 0


@candidates.command(
    cls=Command,
    example="lynx-pipeline candidates archive 0123456789abcdef0123456789abcdef",
)
@click.argument("keys", metavar="CANDIDATE...", nargs=-1, required=True)
def archive(keys: tuple[str, ...]) -> int:
    """Remove candidates from Dagster's UI.

    Their runs and their evidence stay: 'registry list' and 'audit' show what they showed before.
    The next run of a candidate adds it again.
    """
    settings = load_settings()
    with open_instance() as instance:
        stored.archive(gate_of(settings), instance, keys)
    print(f"Archived {len(keys)}. Evidence and bundles stay in {settings.candidates}.")
    return 0
