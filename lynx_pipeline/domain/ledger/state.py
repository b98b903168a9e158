"""What holds now: a fold over a ledger's entries of one model in one environment, and what may be
added to it.

An entry that breaks a rule never counts, and the fold says so:

- In ``prod`` a verified identity makes every promotion and rollback, each with a token of its own,
  and a promotion rests on evidence.
- A version is one of its environment, is promoted once, and in ``prod`` is greater than all before.
- A rollback names what was promoted, with the bundle that it had then.

That the chain is whole is :mod:`lynx_pipeline.domain.ledger.chain`'s to prove.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from lynx_pipeline.domain.ledger.chain import (
    DIGEST,
    EVIDENCE_FILES,
    PROMOTED,
    REGISTERED,
    ROLLED_BACK,
    Entry,
    Fact,
    Ledger,
)
from lynx_pipeline.domain.release.identity import RECORDED
from lynx_pipeline.domain.versioning import Env, Version, check_semver
from lynx_pipeline.errors import BadInput, Refused


@dataclass(frozen=True, slots=True)
class RegistryState:
    """What holds now for one model in one environment: a fold over its entries.

    ``registered`` by canonical sha, ``promoted`` by semver, ``latest`` is what resolves, a
    promotion or none; ``since`` is the entry that made it so, itself or a rollback. ``newest``
    is the greatest version promoted. ``ignored`` are entries that break a rule, each with its
    reason: this package never writes such, and they count for nothing.
    """

    registered: Mapping[str, Entry] = field(default_factory=dict)
    promoted: Mapping[str, Entry] = field(default_factory=dict)
    latest: Entry | None = None
    since: Entry | None = None
    newest: Version | None = None
    ignored: tuple[tuple[Entry, str], ...] = ()


def replay(ledger: Ledger, env: Env, model: str) -> RegistryState:
    """The state of ``model`` in ``env``."""
    registered: dict[str, Entry] = {}
    promoted: dict[str, Entry] = {}
    latest: Entry | None = None
    since: Entry | None = None
    newest: Version | None = None
    tokens: set[str] = set()
    ignored: list[tuple[Entry, str]] = []
    for entry in ledger.entries:
        fact = entry.fact
        if fact.env is not env or fact.model != model:
            continue
        if fact.event == REGISTERED:
            registered[fact.canonical_sha] = entry
            continue
        reason = _unproven(fact, tokens) or _broken_rule(fact, promoted, newest)
        if reason:
            ignored.append((entry, reason))
            continue
        assert fact.semver is not None
        if fact.event == PROMOTED:
            version = check_semver(fact.semver, env)
            newest = version if newest is None else max(newest, version)
            promoted[fact.semver] = entry
        latest, since = promoted[fact.semver], entry
        if fact.actor is not None:
            tokens.add(fact.actor["jti"])
    return RegistryState(registered, promoted, latest, since, newest, tuple(ignored))


def broken_rules(ledger: Ledger) -> list[tuple[Entry, str]]:
    """Entries of a whole ledger that count for nothing, since they break a rule, with why."""
    kinds = {(entry.fact.env, entry.fact.model) for entry in ledger.entries}
    found = [pair for env, model in kinds for pair in replay(ledger, env, model).ignored]
    return sorted(found, key=lambda pair: pair[0].seq)


def _unproven(fact: Fact, tokens: Collection[str]) -> str | None:
    """Why nobody who may changed prod here, or on no evidence; None if it was so."""
    if fact.env is not Env.PROD:
        return None
    actor, evidence = fact.actor or {}, fact.evidence or {}
    unnamed = [name for name in RECORDED if not (isinstance(v := actor.get(name), str) and v)]
    if unnamed:
        return f"in prod only a verified identity changes anything; its {unnamed[0]} is not here"
    if actor["jti"] in tokens:
        return f"its token (jti {actor['jti']!r:.80}) was used before"
    if fact.event == PROMOTED:
        for name in EVIDENCE_FILES:
            if not DIGEST.fullmatch(str(evidence.get(f"{name}_sha256"))):
                return f"in prod only evidence promotes; the digest of its {name} is not here"
    return None


def _broken_rule(fact: Fact, promoted: Mapping[str, Entry], newest: Version | None) -> str | None:
    """Why a promotion or rollback can't count after those before it; None if it does."""
    assert fact.semver is not None
    try:
        version = check_semver(fact.semver, fact.env)
    except BadInput as error:
        return str(error)
    known = promoted.get(fact.semver)
    if fact.event == ROLLED_BACK:
        if known is None or known.fact.canonical_sha != fact.canonical_sha:
            return f"it rolls back to {fact.semver} of a bundle that was never promoted as that"
        return None
    if known is not None:
        return f"{fact.semver} was promoted before, in entry {known.seq}"
    if fact.env is Env.PROD and newest is not None and version <= newest:
        return f"{fact.semver} is not greater than {newest}"
    return None


def check_promotion(
    ledger: Ledger, env: Env, model: str, canonical_sha: str, semver: str
) -> Entry | None:
    """Whether ``semver`` may name ``canonical_sha`` now.

    Returns:
        The entry that already says so, or None if the promotion is new.

    Raises:
        BadInput: ``semver`` is none for this environment.
        Refused: it names another bundle, or is not greater than every production version;
            the message says which entry won.
    """
    version = check_semver(semver, env)
    state = replay(ledger, env, model)
    known = state.promoted.get(semver)
    if known is not None and known.fact.canonical_sha == canonical_sha:
        return known
    for entry in ledger.entries:
        fact = entry.fact
        if (fact.event, fact.semver, fact.model) == (PROMOTED, semver, model):
            raise Refused(
                f"{semver} already names the bundle {fact.canonical_sha[:12]} (entry "
                f"{entry.seq}, {fact.time}); a version is never reused. Choose a new one."
            )
    if env is Env.PROD and state.newest is not None and version <= state.newest:
        won = state.promoted[str(state.newest)]
        raise Refused(
            f"{semver} is not greater than {state.newest}, the newest version promoted in prod "
            f"(entry {won.seq}, {won.fact.time}). Choose a greater one."
        )
    return None


def check_unused(ledger: Ledger, actor: Mapping[str, Any] | None) -> None:
    """That the token with this ``jti`` has not changed the ledger before.

    Raises:
        Refused: it has.
    """
    if actor is None:
        return
    for entry in ledger.entries:
        if entry.fact.actor is not None and entry.fact.actor.get("jti") == actor["jti"]:
            raise Refused(
                f"claim 'jti': got {actor['jti']!r}, which entry {entry.seq} already used; "
                "expected a token that was not used before. Request a new one."
            )
