"""What the keys of our tables accept: functions that return the value to use, and raise
:class:`ValueError` for one that is not accepted.

Only of a list is the error's text shown. It must not contain the value, which may be a password.
"""

import re
from collections.abc import Callable
from math import isfinite
from pathlib import PurePath, PurePosixPath
from typing import Any

from lynx_pipeline.domain.artifact_location import is_too_wide, parse_location
from lynx_pipeline.domain.release.signing import TrustedKey
from lynx_pipeline.domain.release.witnesses import WitnessKey, parse_key


def _require(holds: object) -> None:
    if not holds:
        raise ValueError


def text(pattern: str = "") -> Callable[[Any], str]:
    """Printable text that matches ``pattern`` as a whole."""
    compiled = re.compile(pattern or ".*")

    def check(value: Any) -> str:
        _require(isinstance(value, str) and value.isprintable() and compiled.fullmatch(value))
        return str(value)

    return check


def project_path(value: Any) -> str:
    """Git tracks these files, so they have to be in the project."""
    name = text()(value)
    path = PurePath(name)
    _require(not path.is_absolute() and ".." not in path.parts)
    return name


def repository_path(value: Any) -> str:
    """In the form in which git lists it."""
    name = project_path(value)
    _require(name == PurePosixPath(name).as_posix() != ".")
    return name


def one_of(*names: str) -> Callable[[Any], str]:
    """One of these texts."""

    def check(value: Any) -> str:
        _require(isinstance(value, str) and value in names)
        return str(value)

    return check


def list_of(each: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, ...]]:
    """A list of what ``each`` accepts."""

    def check(value: Any) -> tuple[Any, ...]:
        _require(isinstance(value, list))
        found = []
        for number, it in enumerate(value, start=1):
            try:
                found.append(each(it))
            except ValueError as error:
                reason = str(error) or "it is not one"
                raise ValueError(f"entry {number} is not accepted: {reason}") from None
        return tuple(found)

    return check


def location(value: Any) -> str:
    """A place that is not above everything."""
    _require(isinstance(value, str))
    if is_too_wide(parse_location(value)):
        raise ValueError("everything would be below it")
    return str(value)


def event_names(value: Any) -> tuple[str, ...]:
    """At least one."""
    names = list_of(text(".+"))(value)
    _require(names)
    return names


def trusted_key(value: Any) -> TrustedKey:
    """A key that signs entries."""
    _require(isinstance(value, dict) and value.keys() in ({"public_key"}, {"public_key", "until"}))
    until = value.get("until")
    return TrustedKey(_public(value["public_key"]), None if until is None else entry_hash(until))


def witness_keys(value: Any) -> tuple[WitnessKey, ...]:
    """At least one."""
    keys = list_of(lambda it: parse_key(text()(it)))(value)
    _require(keys)
    return keys


def whole_number(least: int) -> Callable[[Any], int]:
    """A whole number, ``least`` or more."""

    def check(value: Any) -> int:
        _require(type(value) is int and value >= least)
        return int(value)

    return check


def number(value: Any) -> float:
    """Finite, and 0 or more."""
    _require(type(value) in (int, float))
    found = float(value)
    _require(isfinite(found) and found >= 0)
    return found


def positive(value: Any) -> float:
    """Finite, and more than 0."""
    found = number(value)
    _require(found)
    return found


_public = text("[A-Za-z0-9+/]{16,}={0,2}")
entry_hash = text("[0-9a-f]{64}")
