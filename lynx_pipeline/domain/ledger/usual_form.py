"""A quick way to read the entries that most ledgers consist of: promotions in plain ASCII.

One regular expression checks that a line is in canonical form and finds its values. A line that it
does not match is left to the long way in :mod:`lynx_pipeline.domain.ledger.chain`, which decides
about every line and gives the errors. ``benchmarks/results.md`` shows what this saves.
"""

import re
from collections.abc import Iterable
from dataclasses import fields
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

from lynx_pipeline.domain.ledger.facts import (
    DIGEST_KEY,
    OPTIONAL_EVIDENCE,
    Actor,
    Evidence,
    Promoted,
    is_time,
)
from lynx_pipeline.domain.versioning import Env

_TEXT = r'"([!#-\[\]-~][ !#-\[\]-~]*)"'
_SHA256 = '"([0-9a-f]{64})"'
_NUMBER = r"(-?[0-9][-.0-9e]*)"
# Whole numbers and fractions that Python and RFC 8785 write alike, but for the zero in 1e-07.
_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,14}")
_FRACTION = re.compile(
    r"-?(?:0|[1-9][0-9]*)\.[0-9]*[1-9]|-?[1-9](?:\.[0-9]*[1-9])?e-(?:[7-9]|[1-9][0-9]+)"
)


class Found(NamedTuple):
    """An entry's values."""

    seq: int
    prev: str | None
    hash: str
    fact: Promoted


def _or_null(pattern: str) -> str:
    return f"(?:null|{pattern})"


def _object(kind: type, numbers: Iterable[str], optional: Iterable[str]) -> tuple[list[str], str]:
    """The names of a dataclass's keys in canonical order, and the pattern of its object."""
    names, pattern = sorted(part.name for part in fields(kind)), ""
    for name in names:
        value = _NUMBER if name in numbers else _SHA256 if name.endswith("_sha256") else _TEXT
        member = f'"{name}":{value},'
        pattern += f"(?:{member})?" if name in optional else member
    return names, rf"\{{{pattern.removesuffix(',')}\}}"


_ACTOR_KEYS, _ACTOR = _object(Actor, (), ())
_EVIDENCE_KEYS, _EVIDENCE = _object(Evidence, ("tolerance", "worst_margin"), OPTIONAL_EVIDENCE)
_MEMBERS = {
    "actor": _or_null(_ACTOR),
    "artifact_uri": _TEXT,
    DIGEST_KEY: _SHA256,
    "canonical_sha": _TEXT,
    "cpqu": _or_null(_NUMBER),
    "env": '"(dev|prod)"',
    "event": '"promoted"',
    "evidence": _or_null(_EVIDENCE),
    "hash": _TEXT,
    "mlflow_run_id": _TEXT,
    "model": _TEXT,
    "parent_sha": _or_null(_TEXT),
    "prev": _or_null(_TEXT),
    "semver": _TEXT,
    "seq": "([1-9][0-9]{0,14})",
    "time": _TEXT,
}
_OPTIONAL = f'"{DIGEST_KEY}":{_SHA256},'
_LINE = re.compile(
    r"\{"
    + ",".join(f'"{key}":{value}' for key, value in _MEMBERS.items()).replace(
        _OPTIONAL, f"(?:{_OPTIONAL})?"
    )
    + r"\}"
)
_AFTER_ACTOR = len(_ACTOR_KEYS)
_EVIDENCE_FROM = _AFTER_ACTOR + 5
_EVIDENCE_TO = _EVIDENCE_FROM + len(_EVIDENCE_KEYS)
_ENVS = {env.value: env for env in Env}


def read_usual(line: bytes) -> Found | None:
    """The entry in ``line``, without its newline; None if the long way has to decide. The hash is
    not verified."""
    try:
        matched = _LINE.fullmatch(line.decode("ascii"))
        if matched is None:
            return None
        values: tuple[Any, ...] = matched.groups()
        uri, digest, canonical_sha, cpqu, env = values[_AFTER_ACTOR:_EVIDENCE_FROM]
        hashed, run_id, model, parent, prev, semver, seq, time = values[_EVIDENCE_TO:]
        fact = Promoted(
            time=time,
            env=_ENVS[env],
            model=model,
            mlflow_run_id=run_id,
            artifact_uri=uri,
            canonical_sha=canonical_sha,
            bundle_digest=digest,
            parent_sha=parent,
            semver=semver,
            evidence=_evidence(values[_EVIDENCE_FROM:_EVIDENCE_TO]),
            cpqu=None if cpqu is None else _number(cpqu),
            actor=_known(Actor, _ACTOR_KEYS, values[:_AFTER_ACTOR]),
        )
    except ValueError:
        return None
    return Found(int(seq), prev, hashed, fact) if is_time(time) else None


_Kind = TypeVar("_Kind", Evidence, Actor)


def _known(kind: type[_Kind], keys: list[str], values: tuple[Any, ...]) -> _Kind | None:
    """The object; None if the entry has null in its place."""
    return None if values[-1] is None else kind(**dict(zip(keys, values, strict=True)))


def _evidence(values: tuple[Any, ...]) -> Evidence | None:
    found = dict(zip(_EVIDENCE_KEYS, values, strict=True))
    if found["tolerance"] is None:
        return None
    found["tolerance"] = _number(found["tolerance"])
    found["worst_margin"] = _number(found["worst_margin"])
    first, second = OPTIONAL_EVIDENCE
    if (found[first] is None) is not (found[second] is None):
        raise ValueError
    return Evidence(**found)


@lru_cache(maxsize=4096)
def _number(text: str) -> float:
    if _WHOLE.fullmatch(text):
        return int(text)
    value = float(text)
    if not _FRACTION.fullmatch(text) or repr(value).replace("e-0", "e-") != text:
        raise ValueError
    return value
