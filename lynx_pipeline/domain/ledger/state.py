"""The registry's state: the entries of one model in one environment, replayed in order, and what
may be added next.

An entry that breaks a rule is ignored, and the replay says why:

- In ``prod`` a verified identity makes every promotion and rollback, each with a new token, and a
  promotion has evidence. Each is signed: :mod:`lynx_pipeline.domain.ledger.signatures`.
- A semver fits its environment, is promoted once, and in ``prod`` is greater than all before it.
- A rollback names an earlier promotion and its bundle.

:mod:`lynx_pipeline.domain.ledger.chain` proves that the entries are complete and unchanged.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import cast

from lynx_pipeline.domain.ledger.chain import Entry, Ledger
from lynx_pipeline.domain.ledger.facts import (
    Actor,
    Evidence,
    Malformed,
    Promoted,
    Registered,
    RolledBack,
)
from lynx_pipeline.domain.versioning import Env, Version, check_semver
from lynx_pipeline.errors import BadInput, Refused


@dataclass(frozen=True, slots=True)
class RegistryState:
    """The current state of one model in one environment.

    ``registered`` is by canonical sha, ``promoted`` by semver. ``latest`` is the promotion that
    resolves as latest, ``since`` the entry that made it so: the promotion itself or a rollback.
    ``newest`` is the greatest promoted version. ``ignored`` are entries that break a rule, each
    with the reason; this package writes no such entry.
    """

    registered: Mapping[str, Entry[Registered]] = field(default_factory=dict)
    promoted: Mapping[str, Entry[Promoted]] = field(default_factory=dict)
    latest: Entry[Promoted] | None = None
    since: Entry[Promoted] | Entry[RolledBack] | None = None
    newest: Version | None = None
    ignored: tuple[tuple[Entry, str], ...] = ()


def replay(ledger: Ledger, env: Env, model: str, unsigned: Mapping[str, str]) -> RegistryState:
    """The state of ``model`` in ``env``. ``unsigned`` are the entries without a valid signature, as
    :func:`~lynx_pipeline.domain.ledger.signatures.unsigned_entries` finds them."""
    registered: dict[str, Entry[Registered]] = {}
    promoted: dict[str, Entry[Promoted]] = {}
    latest: Entry[Promoted] | None = None
    since: Entry[Promoted] | Entry[RolledBack] | None = None
    newest: Version | None = None
    tokens: set[str] = set()
    ignored: list[tuple[Entry, str]] = []
    for entry in ledger.entries:
        fact = entry.fact  # the casts below follow its type, which mypy does not carry over
        if fact.env is not env or fact.model != model:
            continue
        if isinstance(fact, Registered):
            registered[fact.canonical_sha] = cast("Entry[Registered]", entry)
            continue
        reason = unsigned.get(entry.hash) or _unauthorized(fact, tokens)
        if reason is None:
            try:
                version = check_semver(fact.semver, env)
            except BadInput as error:
                reason = str(error)
            else:
                reason = _broken_rule(fact, version, promoted, newest)
        if reason:
            ignored.append((entry, reason))
            continue
        if isinstance(fact, Promoted):
            newest = version if newest is None else max(newest, version)
            promoted[fact.semver] = cast("Entry[Promoted]", entry)
        latest, since = promoted[fact.semver], cast("Entry[Promoted] | Entry[RolledBack]", entry)
        if isinstance(fact.actor, Actor):
            tokens.add(fact.actor.jti)
    return RegistryState(registered, promoted, latest, since, newest, tuple(ignored))


def broken_rules(ledger: Ledger, unsigned: Mapping[str, str]) -> list[tuple[Entry, str]]:
    """The ignored entries of a whole ledger, in order, each with the reason. ``unsigned`` is as for
    :func:`replay`."""
    kinds = {(entry.fact.env, entry.fact.model) for entry in ledger.entries}
    found = [pair for env, model in kinds for pair in replay(ledger, env, model, unsigned).ignored]
    return sorted(found, key=lambda pair: pair[0].seq)


def _unauthorized(fact: Promoted | RolledBack, tokens: Collection[str]) -> str | None:
    """Why the entry has no valid identity or evidence; None if it has both, or needs none."""
    if fact.env is not Env.PROD:
        return None
    if not isinstance(fact.actor, Actor):
        return f"in prod only a verified identity makes changes; its actor {_found(fact.actor)}"
    if fact.actor.jti in tokens:
        return f"its token (jti {fact.actor.jti!r:.80}) was used before"
    if isinstance(fact, Promoted) and not isinstance(fact.evidence, Evidence):
        return f"in prod a promotion needs evidence; its evidence {_found(fact.evidence)}"
    return None


def _found(value: Malformed | None) -> str:
    return "is missing" if value is None else f"is malformed: {value.problem}"


def _broken_rule(
    fact: Promoted | RolledBack,
    version: Version,
    promoted: Mapping[str, Entry[Promoted]],
    newest: Version | None,
) -> str | None:
    """Why a promotion or rollback is invalid after those before it; None if it is valid."""
    known = promoted.get(fact.semver)
    if isinstance(fact, RolledBack):
        if (
            known is None
            or known.fact.canonical_sha != fact.canonical_sha
            or fact.bundle_digest not in (None, known.fact.bundle_digest)
        ):
            return f"it rolls back to {fact.semver}, which was never promoted with this bundle"
        return None
    if known is not None:
        return f"{fact.semver} was promoted before, in entry {known.seq}"
    if fact.env is Env.PROD and newest is not None and version <= newest:
        return f"{fact.semver} is not greater than {newest}"
    return None


def check_promotion(
    ledger: Ledger,
    env: Env,
    model: str,
    canonical_sha: str,
    semver: str,
    bundle_digest: str | None,
    unsigned: Mapping[str, str],
) -> Entry[Promoted] | None:
    """Check that ``semver`` may name this bundle now. None is the digest of a bundle that was
    registered before digests were. ``unsigned`` is as for :func:`replay`.

    Returns:
        The entry that already says so, or None if the promotion is new.

    Raises:
        BadInput: ``semver`` is not valid in this environment.
        Refused: it names another bundle, or is not greater than every production version; the
            message says which entry is in the way.
    """
    version = check_semver(semver, env)
    state = replay(ledger, env, model, unsigned)
    known = state.promoted.get(semver)
    if known is not None and known.fact.canonical_sha == canonical_sha:
        if known.fact.bundle_digest not in (None, bundle_digest):
            raise Refused(
                f"{semver} already names this checkpoint with other bytes: entry {known.seq} has "
                f"the bundle digest {known.fact.bundle_digest}, and this bundle has "
                f"{bundle_digest}. Choose a new version."
            )
        return known
    for entry in ledger.entries:
        fact = entry.fact
        if isinstance(fact, Promoted) and (fact.semver, fact.model) == (semver, model):
            raise Refused(
                f"{semver} already names the bundle {fact.canonical_sha[:12]} (entry "
                f"{entry.seq}, {fact.time}); a version is never reused. Choose a new one."
            )
    if env is Env.PROD and state.newest is not None and version <= state.newest:
        newest = state.promoted[str(state.newest)]
        raise Refused(
            f"{semver} is not greater than {state.newest}, the newest version promoted in prod "
            f"(entry {newest.seq}, {newest.fact.time}). Choose a greater one."
        )
    return None


def check_unused(ledger: Ledger, actor: Actor) -> None:
    """Check that the actor's token has not changed the ledger before.

    Raises:
        Refused: it has.
    """
    for entry in ledger.entries:
        fact = entry.fact
        if isinstance(fact, Registered) or fact.actor is None:
            continue
        known = fact.actor
        jti = known.jti if isinstance(known, Actor) else known.values.get("jti")
        if jti == actor.jti:
            raise Refused(
                f"claim 'jti': got {actor.jti!r}, which entry {entry.seq} already used; expected "
                "an unused token. Request a new one."
            )
