"""Several models in one project: ``[[tool.lynx_pipeline.models]]``.

Each entry has the ``name`` of a model and any key or subtable of ``[tool.lynx_pipeline]``, which
then holds for this model only. What it does not have comes from there. The rules:

- The names differ, also as identifiers in Dagster, where other characters become underscores.
- A registry contains one model's ledger. One that the models share is a place for all of them, and
  each gets its own below it: a folder, or a branch.
- One workflow promotes all models, so the identity policy and the limit on requests are not part of
  an entry.
"""

import re
from collections.abc import Mapping
from typing import Any

from lynx_pipeline.config.settings import DEFAULT_BRANCH, TABLE
from lynx_pipeline.errors import BadInput

MODELS = "models"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]*")
_WHERE = f"[[{TABLE}.{MODELS}]]"
_ELSEWHERE = {
    "model": "each entry of 'models' has a 'name' instead",
    "identity": f"one workflow promotes all models, so put it into [{TABLE}.identity]",
    "requests_per_day": f"one workflow promotes all models, so put it into [{TABLE}]",
}

Table = dict[str, Any]


def gate_name(model: str) -> str:
    """The name of a model's gate in Dagster, if the project has several."""
    return re.sub(r"[^A-Za-z0-9_]", "_", model)


def own_place(registry: str, model: str) -> str:
    """The model's own registry below one that several models share."""
    if registry.startswith("git+") and "#" not in registry:
        registry += f"#{DEFAULT_BRANCH}"
    return f"{registry.rstrip('/')}/{model}"


def tables(table: Table, file: str) -> Mapping[str, Table]:
    """The table of each model, by its name; by "" if the project has only one model.

    Raises:
        BadInput: a rule is broken. Keys and values of a table are not checked.
    """
    if MODELS not in table:
        return {"": table}
    entries = table[MODELS]
    if (
        not isinstance(entries, list)
        or not entries
        or not all(isinstance(it, dict) for it in entries)
    ):
        raise BadInput(f"{file}, [{TABLE}]: {MODELS!r}: expected one or more tables {_WHERE}.")
    shared = {key: value for key, value in table.items() if key != MODELS}
    _refuse("model", shared, f"{file}, [{TABLE}]")
    found: dict[str, Table] = {}
    for number, entry in enumerate(entries, start=1):
        where = f"{file}, {_WHERE}, entry {number}"
        for key in _ELSEWHERE:
            _refuse(key, entry, where)
        name = entry.get("name")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise BadInput(
                f"{where}: 'name': expected the model's name, beginning with a letter, then "
                "letters, digits, '.', '_' and '-'."
            )
        if gate_name(name).lower() in {gate_name(it).lower() for it in found}:
            raise BadInput(f"{where}: 'name': another model has the name {name!r} in Dagster.")
        found[name] = _merged(shared, entry, name)
    _check_registries(found, file)
    return found


def _refuse(key: str, table: Table, where: str) -> None:
    if key in table:
        raise BadInput(f"{where}: {key!r} can't be there: {_ELSEWHERE[key]}.")


def _merged(shared: Table, entry: Table, name: str) -> Table:
    merged = {**shared, "model": name}
    if "registry" not in entry and isinstance(registry := shared.get("registry"), str):
        merged["registry"] = own_place(registry, name)
    for key, value in entry.items():
        if key == "name":
            continue
        common = merged.get(key)
        if isinstance(value, dict) and isinstance(common, dict):
            value = {**common, **value}
        merged[key] = value
    return merged


def _check_registries(found: Mapping[str, Table], file: str) -> None:
    owners: dict[str, str] = {}
    for name, table in found.items():
        registry = table.get("registry")
        if isinstance(registry, str) and (other := owners.setdefault(registry, name)) != name:
            raise BadInput(
                f"{file}, {_WHERE}: {other!r} and {name!r} have the same 'registry'. A registry "
                f"contains one model's ledger: give each its own, or put one into [{TABLE}] and "
                "none into the entries, so that each model gets its own place below it."
            )
