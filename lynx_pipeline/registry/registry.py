"""The registry: what may change production, and what production is.

A new version goes through :func:`promote`, which takes evidence and judges it itself, here,
where the ledger changes; a verdict from elsewhere counts for nothing. :func:`rollback` points back
to a version that went through it. In ``prod`` both take the CI workflow's verified identity as
well, and what is judged by has to be committed. In ``dev`` a registered bundle can be promoted
under a dev version without evidence, loudly; its entry says so with ``"evidence": null``.

Reading (:func:`resolve`, :func:`history`, :func:`verify`) imports neither Dagster nor MLflow.
"""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from lynx_pipeline.config import GitRemote, Settings, load_settings
from lynx_pipeline.domain.ledger.chain import (
    PROMOTED,
    REGISTERED,
    ROLLED_BACK,
    TIME,
    Entry,
    Fact,
    Ledger,
    Store,
)
from lynx_pipeline.domain.ledger.state import RegistryState, check_promotion, check_unused, replay
from lynx_pipeline.domain.versioning import Env, check_semver
from lynx_pipeline.errors import BadInput, Refused

if TYPE_CHECKING:
    from lynx_pipeline.registry.audited import Audit

NOT_THE_CI_PATH = (
    "THIS IS NOT THE CI PATH: no evaluation, no gate, no evidence. The entry will say so, and "
    "only a dev version can be given this way."
)


class NotTheCIPath(UserWarning):
    """Something was recorded by hand. The command line shows it whatever the filters say."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a serving process needs: which bundle, and where to load it from."""

    model: str
    semver: str
    canonical_sha: str
    mlflow_run_id: str | None
    artifact_uri: str | None


def register_pending(run_id: str, *, settings: Settings | None = None) -> Entry:
    """Record the bundle of an MLflow run, so that a dev promotion may name it; loudly.

    Doing it again for the same bundle and run changes nothing.

    Raises:
        Refused: this is ``prod``.
        BadInput: the run holds no usable model.
    """
    from lynx_pipeline.evaluation.candidate import fresh_bundle

    settings = settings or load_settings()
    _only_dev(settings, "a registration by hand")
    store = open_store(settings)
    warnings.warn(NOT_THE_CI_PATH, NotTheCIPath, stacklevel=2)
    with fresh_bundle(settings, run_id) as (_, bundle, uri):
        fact = Fact(
            time=_now(),
            env=settings.env,
            event=REGISTERED,
            model=settings.model,
            mlflow_run_id=run_id,
            artifact_uri=uri,
            canonical_sha=bundle.canonical_sha,
            parent_sha=bundle.parent_sha,
        )

    def decide(ledger: Ledger) -> Fact | Entry:
        known = replay(ledger, settings.env, settings.model).registered.get(fact.canonical_sha)
        return known if known and known.fact.mlflow_run_id == run_id else fact

    return store.append(decide)


def promote(
    canonical_sha: str,
    semver: str,
    *,
    evidence: Path | None = None,
    settings: Settings | None = None,
    confirm: Callable[[], object] = lambda: None,
) -> Entry:
    """Make ``semver`` name the bundle, if the evidence passes the gate now.

    With ``evidence`` (an evidence folder) the stored predictions are scored again, the bundle
    is downloaded and hashed again, eval set and baseline are read again, and the rule is
    applied; what it was applied to is kept beside the ledger. Without, see the module's
    docstring. ``confirm`` is called last, each time that the ledger is about to change, and raises
    what speaks against it. Repeating a promotion changes nothing.

    Raises:
        Refused: the gate or a policy says no.
        BadInput: evidence, eval set, baseline, bundle or semver is not what it has to be.
        SystemFailed: MLflow, DVC, git, the issuer or the disk failed. The ledger is the old
            one or the complete new one; running it again is right for both.
    """
    settings = settings or load_settings()
    check_semver(semver, settings.env)
    if evidence is None:
        return _promote_by_hand(settings, canonical_sha, semver)
    from lynx_pipeline.registry.promotion import judged_fact, unmoved_baseline

    actor = _actor(settings)
    store = open_store(settings)
    supported = judged_fact(settings, evidence, canonical_sha, semver, _now(), actor)

    def decide(ledger: Ledger) -> Fact | Entry:
        done = check_promotion(ledger, settings.env, settings.model, canonical_sha, semver)
        if done:
            return done
        check_unused(ledger, actor)
        unmoved_baseline(settings, supported.fact)
        _check_rightful(settings, actor, supported.fact)
        confirm()
        return supported.fact

    return store.append(decide, supported.evidence)


def _promote_by_hand(settings: Settings, canonical_sha: str, semver: str) -> Entry:
    _only_dev(settings, "a promotion without evidence")
    store = open_store(settings)
    warnings.warn(NOT_THE_CI_PATH, NotTheCIPath, stacklevel=3)

    def decide(ledger: Ledger) -> Fact | Entry:
        known = replay(ledger, settings.env, settings.model).registered.get(canonical_sha)
        if known is None:
            raise Refused(
                f"the bundle {canonical_sha!r} is not registered. Register its run first "
                "(registry register RUN_ID), or promote with evidence."
            )
        done = check_promotion(ledger, settings.env, settings.model, canonical_sha, semver)
        return done or Fact(
            time=_now(),
            env=settings.env,
            event=PROMOTED,
            model=known.fact.model,
            mlflow_run_id=known.fact.mlflow_run_id,
            artifact_uri=known.fact.artifact_uri,
            canonical_sha=canonical_sha,
            parent_sha=known.fact.parent_sha,
            semver=semver,
        )

    return store.append(decide)


def rollback(semver: str, *, settings: Settings | None = None) -> Entry:
    """Point latest at the earlier promoted ``semver``, as a new entry.

    Raises:
        Refused: ``semver`` was never promoted here, or this is ``prod`` and no CI workflow.
    """
    settings = settings or load_settings()
    check_semver(semver, settings.env)
    actor = _actor(settings)
    store = open_store(settings)

    def decide(ledger: Ledger) -> Fact | Entry:
        state = replay(ledger, settings.env, settings.model)
        target = _promoted(state, semver, settings)
        if state.latest is target and state.since is not None:
            return state.since
        check_unused(ledger, actor)
        _check_rightful(settings, actor)
        old = target.fact
        return Fact(
            time=_now(),
            env=settings.env,
            event=ROLLED_BACK,
            model=old.model,
            mlflow_run_id=old.mlflow_run_id,
            artifact_uri=old.artifact_uri,
            canonical_sha=old.canonical_sha,
            parent_sha=old.parent_sha,
            semver=semver,
            actor=actor,
        )

    return store.append(decide)


def resolve(version: str = "latest", *, settings: Settings | None = None) -> Resolved:
    """The bundle that ``version`` names in this environment.

    Raises:
        Refused: nothing was promoted, or not this version.
        BadInput: the registry is damaged.
    """
    fact = promoted(version, settings=settings).fact
    assert fact.semver is not None
    return Resolved(
        fact.model, fact.semver, fact.canonical_sha, fact.mlflow_run_id, fact.artifact_uri
    )


def promoted(version: str = "latest", *, settings: Settings | None = None) -> Entry:
    """The promotion of ``version`` in this environment.

    Raises:
        Refused: nothing was promoted, or not this version.
        BadInput: the registry is damaged.
    """
    settings = settings or load_settings()
    if version == "latest":
        return latest(settings=settings)
    return _promoted(_state(settings), version, settings)


def latest(*, settings: Settings | None = None) -> Entry:
    """The promotion that is in force in this environment.

    Raises:
        Refused: nothing was promoted.
        BadInput: the registry is damaged.
    """
    settings = settings or load_settings()
    entry = _state(settings).latest
    if entry is None:
        raise Refused(f"nothing was promoted in {settings.env} yet, so there is no latest.")
    return entry


def latest_if_promoted(canonical_sha: str, *, settings: Settings | None = None) -> Entry:
    """:func:`latest`, asked for in the name of a promoted bundle.

    Raises:
        Refused: the bundle was never promoted here.
    """
    settings = settings or load_settings()
    state = _state(settings)
    promoted = {entry.fact.canonical_sha for entry in state.promoted.values()}
    if state.latest is None or canonical_sha not in promoted:
        raise Refused(f"the bundle {canonical_sha[:12]} was never promoted in {settings.env}.")
    return state.latest


def history(env: Env | None = None, *, settings: Settings | None = None) -> Iterator[Entry]:
    """All entries, oldest first; those of ``env`` if it is given."""
    for entry in verify(settings=settings).entries:
        if env is None or entry.fact.env is env:
            yield entry


def verify(*, settings: Settings | None = None) -> Ledger:
    """Read the whole ledger and prove its chain.

    Raises:
        BadInput: a line is damaged, out of place or cut off; the message names it.
    """
    return open_store(settings or load_settings()).read()


def audit(version: str, *, settings: Settings | None = None) -> "Audit":
    """Everything about ``version``, its verdict worked out again from the kept evidence.

    Raises:
        Refused: no entry names it.
        BadInput: the ledger is damaged.
        SystemFailed: the registry or DVC could not be asked.
    """
    from lynx_pipeline.registry import audit as flow

    settings = settings or load_settings()
    return flow.audit(settings, open_store(settings), version)


def _promoted(state: RegistryState, semver: str, settings: Settings) -> Entry:
    entry = state.promoted.get(semver)
    if entry is None:
        known = ", ".join(state.promoted) or "none"
        raise Refused(f"{semver!r} was never promoted in {settings.env}. Promoted: {known}.")
    return entry


def _state(settings: Settings) -> RegistryState:
    return replay(verify(settings=settings), settings.env, settings.model)


def open_store(settings: Settings) -> Store:
    """Where this project's ledger is kept.

    Raises:
        BadInput: this is ``prod`` and no place is configured.
    """
    if settings.registry is None:
        raise BadInput(
            "prod has no registry: set 'registry' in [tool.lynx_pipeline] of "
            f"{settings.root / 'pyproject.toml'}. The environment can't name one in prod."
        )
    if isinstance(settings.registry, GitRemote):
        from lynx_pipeline.adapters.ledgers.git import GitLedger

        return GitLedger(settings.registry, settings.model, pinned=settings.env is Env.PROD)
    from lynx_pipeline.adapters.ledgers.directory import DirectoryLedger

    return DirectoryLedger(settings.registry)


def _actor(settings: Settings) -> dict[str, str] | None:
    """Who changes prod: the verified claims. None in dev, where anybody may."""
    if settings.env is Env.DEV:
        return None
    from lynx_pipeline.adapters.git_files import head
    from lynx_pipeline.adapters.oidc import verified_claims
    from lynx_pipeline.domain.release.identity import check_identity, check_policy

    policy = check_policy(settings.identity)
    claims = verified_claims(policy)
    actor = check_identity(policy, claims, head(settings.root))
    _check_rightful(settings, actor)
    return actor


def _check_rightful(
    settings: Settings, actor: dict[str, str] | None, fact: Fact | None = None
) -> None:
    """That what counts in prod is committed, still current, and what ``fact`` was judged by.

    Asked early, to refuse before anything is fetched, and again where the ledger changes.
    """
    if actor is None:
        return
    from lynx_pipeline.registry.gate_inputs import check_committed, check_current, check_judged

    commit = actor["sha"]
    check_committed(settings, commit)
    if fact is not None:
        check_judged(settings, commit, fact)
    check_current(settings, commit, actor["ref"])


def _only_dev(settings: Settings, what: str) -> None:
    if settings.env is Env.PROD:
        raise Refused(
            "prod is changed only by the CI workflow's verified identity, with evidence: "
            f"{what} is for dev. Nothing was changed."
        )


def _now() -> str:
    return datetime.now(UTC).strftime(TIME)
