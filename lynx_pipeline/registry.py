"""The registry: what may change production, and what production is.

Every change goes through :func:`promote`, which takes evidence and judges it itself, here,
where the ledger changes; a verdict from elsewhere counts for nothing. In ``dev`` a registered
bundle can be promoted under a dev version without evidence, loudly; its entry says so with
``"evidence": null``. In ``prod`` a promotion needs the verified identity of the CI workflow,
which this version cannot verify yet: it refuses.

Reading (:func:`resolve`, :func:`history`, :func:`verify`) imports neither Dagster nor MLflow.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from lynx_pipeline.adapters.directory_ledger import DirectoryLedger
from lynx_pipeline.config import Settings, load_settings
from lynx_pipeline.domain.ledger import (
    PROMOTED,
    REGISTERED,
    ROLLED_BACK,
    Entry,
    Fact,
    Ledger,
    State,
    check_promotion,
    fold,
)
from lynx_pipeline.domain.versioning import Env, check_semver
from lynx_pipeline.errors import BadInput, Refused

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
    from lynx_pipeline.flow.candidate import fresh_bundle

    settings = settings or load_settings()
    store = _writable(settings)
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
        known = fold(ledger, settings.env).registered.get(fact.canonical_sha)
        return known if known and known.fact.mlflow_run_id == run_id else fact

    return store.append(decide)


def promote(
    canonical_sha: str,
    semver: str,
    *,
    evidence: Path | None = None,
    settings: Settings | None = None,
) -> Entry:
    """Make ``semver`` name the bundle, if the evidence passes the gate now.

    With ``evidence`` (an evidence folder) the stored predictions are scored again, the bundle
    is downloaded and hashed again, eval set and baseline are read again, and the rule is
    applied. Without, see the module's docstring. Repeating a promotion changes nothing.

    Raises:
        Refused: the gate or a policy says no.
        BadInput: evidence, eval set, baseline, bundle or semver is not what it has to be.
        SystemFailed: MLflow, DVC or the disk failed. The ledger is the old one.
    """
    settings = settings or load_settings()
    check_semver(semver, settings.env)
    store = _writable(settings)
    if evidence is not None:
        from lynx_pipeline.flow.promotion import judged_fact

        fact = judged_fact(settings, evidence, canonical_sha, semver, _now())
        return store.append(
            lambda ledger: check_promotion(ledger, settings.env, canonical_sha, semver) or fact
        )

    warnings.warn(NOT_THE_CI_PATH, NotTheCIPath, stacklevel=2)

    def decide(ledger: Ledger) -> Fact | Entry:
        known = fold(ledger, settings.env).registered.get(canonical_sha)
        if known is None:
            raise Refused(
                f"the bundle {canonical_sha!r} is not registered. Register its run first "
                "(registry register RUN_ID), or promote with evidence."
            )
        done = check_promotion(ledger, settings.env, canonical_sha, semver)
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
        Refused: this is ``prod``, or ``semver`` was never promoted here.
    """
    settings = settings or load_settings()
    check_semver(semver, settings.env)

    def decide(ledger: Ledger) -> Fact | Entry:
        state = fold(ledger, settings.env)
        target = _promoted(state, semver, settings)
        if state.latest is target:
            return target
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
        )

    return _writable(settings).append(decide)


def resolve(version: str = "latest", *, settings: Settings | None = None) -> Resolved:
    """The bundle that ``version`` names in this environment.

    Raises:
        Refused: nothing was promoted, or not this version.
        BadInput: the registry is damaged.
    """
    settings = settings or load_settings()
    state = fold(verify(settings=settings), settings.env)
    if version == "latest":
        if state.latest is None:
            raise Refused(f"nothing was promoted in {settings.env} yet, so there is no latest.")
        entry = state.latest
    else:
        entry = _promoted(state, version, settings)
    fact = entry.fact
    assert fact.semver is not None
    return Resolved(
        fact.model, fact.semver, fact.canonical_sha, fact.mlflow_run_id, fact.artifact_uri
    )


def latest_if_promoted(canonical_sha: str, *, settings: Settings | None = None) -> Entry:
    """The latest promotion of this environment, asked for in the name of a promoted bundle.

    Raises:
        Refused: the bundle was never promoted here.
    """
    settings = settings or load_settings()
    state = fold(verify(settings=settings), settings.env)
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
    return _store(settings or load_settings()).read()


def _promoted(state: State, semver: str, settings: Settings) -> Entry:
    entry = state.promoted.get(semver)
    if entry is None:
        known = ", ".join(state.promoted) or "none"
        raise Refused(f"{semver!r} was never promoted in {settings.env}. Promoted: {known}.")
    return entry


def _store(settings: Settings) -> DirectoryLedger:
    if settings.registry is None:
        raise BadInput(
            "prod has no registry: set 'registry' in [tool.lynx_pipeline] of "
            f"{settings.root / 'pyproject.toml'}. The environment can't name one in prod."
        )
    return DirectoryLedger(settings.registry)


def _writable(settings: Settings) -> DirectoryLedger:
    if settings.env is Env.PROD:
        raise Refused(
            "prod is changed only by the CI workflow's verified identity, and no identity was "
            "verified. Nothing was changed."
        )
    return _store(settings)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
