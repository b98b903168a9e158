"""Reads our tables of ``pyproject.toml``, and reports everything that is wrong with them at once.

Each key is checked by itself, and a few together with another. Resolving paths and applying the
environment is left to :mod:`lynx_pipeline.config.load`.
"""

import difflib
import re
from dataclasses import MISSING, fields
from typing import Any

from lynx_pipeline.config.schema import GTO_NAME, SUBTABLES, Key, ProjectTable
from lynx_pipeline.config.settings import BLOCKING, LOCAL, RAY, TABLE, WARN
from lynx_pipeline.domain.release.providers import GITHUB
from lynx_pipeline.errors import BadInput

_SHOWN_PROBLEMS = 5


def parse_table(table: dict[str, Any], file: str) -> ProjectTable:
    """The table of ``file``, checked.

    Raises:
        BadInput: the table has problems. The message names the first few.
    """
    problems: list[str] = []
    values = _read(ProjectTable, table, f"[{TABLE}]", problems)
    for name, kind in SUBTABLES.items():
        subtable = table.get(name, {})
        if not isinstance(subtable, dict):
            found = _found(subtable)
            problems.append(f"[{TABLE}]: {name!r}: expected a table, found {found}.")
        elif subtable:
            read = _read(kind, subtable, f"[{TABLE}.{name}]", problems)
            if not problems:
                values[name] = kind(**read)
    if not problems:
        result = ProjectTable(**values)
        problems = _contradictions(result)
        if not problems:
            return result
    more = len(problems) - _SHOWN_PROBLEMS
    shown = " ".join(problems[:_SHOWN_PROBLEMS])
    raise BadInput(f"{file}, {shown}" + (f" And {more} more problems." if more > 0 else ""))


def _read(kind: type, table: dict[str, Any], where: str, problems: list[str]) -> dict[str, Any]:
    """The values of a table. What is wrong with it is added to ``problems``."""
    values = {}
    for it in fields(kind):
        known: Key | None = it.metadata.get(Key)
        if known is None:  # a subtable
            continue
        if it.name in table:
            try:
                values[it.name] = known.check(table[it.name])
            except (ValueError, OverflowError) as error:
                found = _found(table[it.name])
                if isinstance(table[it.name], list) and str(error):
                    found += f", in which {error}"
                problems.append(f"{where}: {it.name!r}: expected {known.expected}, found {found}.")
        elif it.default is MISSING:
            problems.append(f"{where}: {it.name!r} is missing: expected {known.expected}.")
    names = [it.name for it in fields(kind)]
    problems += (
        f"{where}: unknown key {_short(name)}{_suggestion(name, names)}."
        for name in table
        if name not in names
    )
    return values


def _contradictions(table: ProjectTable) -> list[str]:
    """Values that are accepted, but not together."""
    problems = []
    if table.corpus_checks == BLOCKING and not table.corpus:
        problems.append(
            f"[{TABLE}]: 'corpus_checks': expected {WARN}, because no 'corpus' is set, found "
            f"{BLOCKING!r}."
        )
    if table.gto_stage and not table.registry.startswith("git+"):
        problems.append(
            f"[{TABLE}]: 'gto_stage': expected a 'registry' on git with it (git+...), because a "
            "stage is a tag there. Remove 'gto_stage', or keep the registry on git."
        )
    if table.gto_stage and not re.fullmatch(GTO_NAME, table.model):
        problems.append(
            f"[{TABLE}]: 'gto_stage': expected a 'model' whose name GTO accepts (letters, digits, "
            f"'_' and '-', starting and ending with a letter or digit), found {table.model!r}."
        )
    if table.aliases.prod == table.aliases.dev:
        problems.append(
            f"[{TABLE}.aliases]: 'dev': expected another alias than that of prod, found "
            f"{table.aliases.dev!r}."
        )
    if table.identity and table.identity.job_workflow and table.identity.provider != GITHUB:
        problems.append(
            f"[{TABLE}.identity]: 'job_workflow': expected it only with the provider {GITHUB!r}: "
            "tokens of other systems don't name a called workflow."
        )
    public = [key.public_key for key in table.signatures.keys]
    if len(set(public)) < len(public):
        problems.append(
            f"[{TABLE}.signatures]: 'keys': expected each key once, found one twice. A retired key "
            "has only the line with 'until'."
        )
    problems += _witnesses(table)
    manager = table.evaluation.env_manager
    if manager != LOCAL and table.evaluation.engine == RAY:
        problems.append(
            f"[{TABLE}.evaluation]: 'env_manager': expected {LOCAL} with the engine {RAY} (Ray's "
            f"nodes use their own software), found {manager!r}."
        )
    return problems


def _witnesses(table: ProjectTable) -> list[str]:
    if table.witnesses is None:
        return []
    problems, keys = [], table.witnesses.keys
    if len({key.name for key in keys}) < len(keys) or len({it.public for it in keys}) < len(keys):
        problems.append(
            f"[{TABLE}.witnesses]: 'keys': expected each name and each key once, found one twice."
        )
    if table.witnesses.required > len(keys):
        problems.append(
            f"[{TABLE}.witnesses]: 'required': expected at most {len(keys)}, the number of "
            f"witnesses, found {table.witnesses.required}."
        )
    return problems


def _suggestion(key: str, known: list[str]) -> str:
    near = difflib.get_close_matches(key[:80], known, n=1)
    return (f", did you mean {near[0]!r}?" if near else "") + f" (known keys: {', '.join(known)})"


def _found(value: object) -> str:
    """``value`` for an error message: short, and without credentials."""
    match value:
        case bool():
            return str(value).lower()
        case int() if abs(value) >= 2**63:
            return "a number that is too large"
        case int() | float():
            return repr(value)
        case str() if "@" in value or "?" in value:
            return "text with '@' or '?' in it (not shown, since it may contain a password)"
        case str():
            return _short(value)
        case list():
            return "a list"
        case dict():
            return "a table"
    return "a date or time"


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:77]}...")
