"""Facts: what a ledger entry records. One type per event, with exactly the fields it has.

An entry's JSON object has the same keys for every event; a key that the event does not use is
null. :func:`to_json` and :func:`read_fact` translate between the two.

Evidence and actor are objects of known form. A file can contain other objects under these keys.
Such an object is kept as :class:`Malformed`, so that the entry's hash can still be verified, and
:mod:`lynx_pipeline.domain.ledger.state` ignores the entry in prod.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from typing import Any, ClassVar, TypeVar

from lynx_pipeline.domain.strict_json import Fields, JsonObject
from lynx_pipeline.domain.versioning import Env

TIME = "%Y-%m-%dT%H:%M:%SZ"
_TIME_FORM = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
_DIGEST = re.compile(r"[0-9a-f]{64}")

# The keys of a fact's JSON object. An entry adds its place in the chain. Entries from before there
# was a bundle digest don't have its key.
DIGEST_KEY = "bundle_digest"
# Keys of the evidence that are there together or not at all.
OPTIONAL_EVIDENCE = ("corpus_dvc_hash", "corpus_sha256")
KEYS = (
    *("time", "env", "event", "model", "mlflow_run_id", "artifact_uri"),
    *("canonical_sha", "parent_sha", "semver", "evidence", "cpqu", "actor"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a promotion is based on: digests of the files, and their most important numbers.

    The registry keeps the baseline, the candidate evaluation and the predictions under their
    SHA-256. The numbers are for reading; the files give them again. ``tolerance`` and
    ``worst_margin`` are fractions. The corpus's two digests are None if the project has no corpus;
    the entry then doesn't have their keys.
    """

    eval_set_dvc_hash: str
    eval_set_sha256: str
    baseline_sha256: str
    candidate_eval_sha256: str
    predictions_sha256: str
    scorer: str
    isolation: str
    tolerance: float
    worst_bucket: str
    worst_margin: float
    corpus_dvc_hash: str | None = None
    corpus_sha256: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """The verified identity that made an entry in prod: claims of an OIDC token, under the names
    that they have on GitHub."""

    jti: str
    iss: str
    sha: str
    ref: str
    repository: str
    repository_id: str
    repository_owner_id: str
    workflow_ref: str
    workflow_sha: str
    job_workflow_ref: str
    environment: str
    runner_environment: str
    event_name: str
    actor: str
    actor_id: str
    run_id: str
    run_attempt: str


@dataclass(frozen=True, slots=True)
class Malformed:
    """An evidence or actor object that does not have the required form; ``problem`` says why."""

    values: Mapping[str, Any]
    problem: str = field(compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fact:
    """What every fact has: when, where, and about which bundle of which MLflow run."""

    time: str
    env: Env
    model: str
    mlflow_run_id: str
    artifact_uri: str
    canonical_sha: str
    bundle_digest: str | None = None
    parent_sha: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered(_Fact):
    """A bundle was recorded by hand, so that a dev promotion may name it."""

    event: ClassVar[str] = "registered"
    semver: ClassVar[None] = None  # a registration names no version


@dataclass(frozen=True, slots=True, kw_only=True)
class Promoted(_Fact):
    """``semver`` names the bundle from here on, and is the latest version.

    ``evidence`` is None for a dev promotion by hand, ``actor`` is None in dev. ``cpqu`` is the
    cost per quality unit, see :mod:`lynx_pipeline.domain.cost`.
    """

    event: ClassVar[str] = "promoted"
    semver: str
    evidence: Evidence | Malformed | None = None
    cpqu: float | str | None = None
    actor: Actor | Malformed | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RolledBack(_Fact):
    """The earlier promoted ``semver`` is the latest version again."""

    event: ClassVar[str] = "rolled_back"
    semver: str
    actor: Actor | Malformed | None = None


Fact = Registered | Promoted | RolledBack

_EVENTS: dict[str, type[Fact]] = {kind.event: kind for kind in (Registered, Promoted, RolledBack)}
_ENVS = {env.value: env for env in Env}
_TEXT_KEYS = (
    *("event", "env", "time"),
    *("model", "mlflow_run_id", "artifact_uri", "canonical_sha"),
)
_NULL = {
    kind: tuple(k for k in KEYS if k != "event" and k not in {part.name for part in fields(kind)})
    for kind in _EVENTS.values()
}


def to_json(fact: Fact) -> JsonObject:
    """The fact's JSON object, every one of :data:`KEYS` present."""
    values: JsonObject = dict.fromkeys(KEYS)
    for part in fields(fact):
        value = getattr(fact, part.name)
        if isinstance(value, Malformed):
            value = dict(value.values)
        elif isinstance(value, Evidence | Actor):
            value = {
                name: it
                for name, it in asdict(value).items()
                if it is not None or name not in OPTIONAL_EVIDENCE
            }
        values[part.name] = value
    if fact.bundle_digest is None:
        del values[DIGEST_KEY]
    return {**values, "env": fact.env.value, "event": fact.event}


def read_fact(keys: Fields) -> Fact:
    """The fact that an entry's ``keys`` record.

    Raises:
        BadInput: a key does not have the form that the event requires.
    """
    values: dict[str, Any] = keys.texts(_TEXT_KEYS)
    event = values.pop("event")
    kind, env = _EVENTS.get(event), _ENVS.get(values["env"])
    if kind is None:
        keys.fail("event", f"one of {', '.join(_EVENTS)}", repr(event))
    if env is None:
        keys.fail("env", "dev or prod", repr(values["env"]))
    if not is_time(values["time"]):
        keys.fail("time", "UTC as 2025-01-02T03:04:05Z", repr(values["time"]))
    for key in _NULL[kind]:
        if keys.values[key] is not None:
            keys.fail(key, f"null, since the event is {event}", repr(keys.values[key])[:60])
    digest = keys.text(DIGEST_KEY) if DIGEST_KEY in keys.values else None
    if digest is not None and not _DIGEST.fullmatch(digest):
        keys.fail(DIGEST_KEY, "64 hex digits", repr(digest)[:80])
    values |= {"env": env, "parent_sha": keys.optional_text("parent_sha"), DIGEST_KEY: digest}
    if kind is Registered:
        return Registered(**values)
    values |= {"semver": keys.text("semver"), "actor": _optional(keys, "actor", Actor)}
    if kind is RolledBack:
        return RolledBack(**values)
    return Promoted(**values, evidence=_optional(keys, "evidence", Evidence), cpqu=_cpqu(keys))


_Kind = TypeVar("_Kind", Evidence, Actor)
_NAMES = {kind: tuple(part.name for part in fields(kind)) for kind in (Evidence, Actor)}
_NUMBERS = ("tolerance", "worst_margin")
_TEXTS: dict[type, tuple[str, ...]] = {
    kind: tuple(n for n in names if n not in (*_NUMBERS, *OPTIONAL_EVIDENCE))
    for kind, names in _NAMES.items()
}
_DIGESTS: dict[type, tuple[str, ...]] = {
    kind: tuple(n for n in names if n.endswith("_sha256")) for kind, names in _TEXTS.items()
}


def read_object(values: Mapping[str, Any], kind: type[_Kind]) -> _Kind | Malformed:
    """``values`` as ``kind``, or as :class:`Malformed` with the first problem."""
    texts: tuple[str, ...] = _TEXTS[kind]
    digests: tuple[str, ...] = _DIGESTS[kind]
    if not values.keys().isdisjoint(OPTIONAL_EVIDENCE):
        texts, digests = (*texts, *OPTIONAL_EVIDENCE), (*digests, "corpus_sha256")
    for name in texts:
        value = values.get(name)
        if not isinstance(value, str) or not value.strip():
            return Malformed(values, f"{name!r}: expected text, found {value!r:.60}")
    for name in digests:
        if not _DIGEST.fullmatch(values[name]):
            return Malformed(
                values, f"{name!r}: expected 64 hex digits, found {values[name]!r:.80}"
            )
    for name in _NUMBERS if kind is Evidence else ():
        value = values.get(name)
        if not isinstance(value, int | float) or isinstance(value, bool):
            return Malformed(values, f"{name!r}: expected a number, found {value!r:.60}")
    for name in values:
        if name not in _NAMES[kind]:
            return Malformed(values, f"{name!r:.80}: expected a known key")
    return kind(**values)


def _optional(keys: Fields, key: str, kind: type[_Kind]) -> _Kind | Malformed | None:
    return None if keys.values[key] is None else read_object(keys.object(key), kind)


def _cpqu(keys: Fields) -> float | str | None:
    value = keys.values["cpqu"]
    if isinstance(value, bool) or not isinstance(value, float | int | str | None):
        keys.fail("cpqu", "a number, text or null", repr(value)[:60])
    return value


def is_time(text: str) -> bool:
    """Whether ``text`` is a time in an entry's form, :data:`TIME`."""
    try:
        return bool(_TIME_FORM.fullmatch(text)) and datetime.fromisoformat(text) is not None
    except ValueError:
        return False
