"""The registry: changes production, and tells which version is in production.

A new version goes through :meth:`Registry.promote`, which takes evidence and judges it itself,
here, where the ledger changes. A verdict from elsewhere is ignored. :meth:`Registry.rollback`
returns to a version that was promoted before. In ``prod`` both need the CI workflow's verified
identity, and gate inputs that are committed and current. In ``dev`` a registered bundle can be
promoted under a dev version without evidence; a warning says so, and so does its entry, with
``"evidence": null``.

What writes needs the extra ``gate`` and is imported when called. Reading needs neither Dagster nor
MLflow, and its import is quick.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from lynx_pipeline.adapters.ledgers import open_store
from lynx_pipeline.adapters.ledgers.store import Recorded, Store
from lynx_pipeline.config import Settings, load_settings
from lynx_pipeline.domain.ledger.chain import Entry, Ledger
from lynx_pipeline.domain.ledger.facts import TIME, Fact, Promoted, Registered, RolledBack
from lynx_pipeline.domain.ledger.signatures import unsigned_entries
from lynx_pipeline.domain.ledger.state import RegistryState, check_promotion, replay
from lynx_pipeline.domain.text import Say, silent
from lynx_pipeline.domain.versioning import Env, check_semver
from lynx_pipeline.errors import BadInput, Refused
from lynx_pipeline.registry.answers import Answer, Resolved, Stale
from lynx_pipeline.registry.ignored import warn_of_ignored
from lynx_pipeline.registry.memory import Memory
from lynx_pipeline.registry.witnesses import require_witnesses, witness_problems

NOT_THE_CI_PATH = (
    "THIS IS NOT THE CI PATH: no evaluation, no gate, no evidence. The entry records that, and "
    "only a dev version can be promoted this way."
)


class NotTheCIPath(UserWarning):
    """Something was recorded by hand. The command line always shows this warning."""


class Registry:
    """The registry of one project, for its model and environment."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @classmethod
    def open(cls, settings: Settings | None = None) -> "Registry":
        """The registry of the project with these settings; by default, of the working directory.

        Raises:
            BadInput: a setting is invalid.
        """
        return cls(settings or load_settings())

    @cached_property
    def store(self) -> Store:
        """The ledger's store, opened on first use: who may not write is refused before.

        Raises:
            BadInput: this is ``prod`` and no registry is configured, or the memory is damaged.
        """
        if self.settings.env is Env.PROD:
            self._memory  # noqa: B018  # it has to be read first
        return open_store(self.settings)

    @cached_property
    def _memory(self) -> Memory:
        """What is remembered of the registry in ``prod``."""
        return Memory(self.settings)

    # ----- changing it ------------------------------------------------------------------------

    def register_pending(self, run_id: str, name: str | None = None) -> Recorded[Registered]:
        """Record the bundle of an MLflow run, so that a dev promotion may name it, with a warning.
        ``run_id`` may be another reference, and ``name`` one of the run's models: see
        :func:`~lynx_pipeline.evaluation.candidate.choose`.

        Raises:
            Refused: this is ``prod``.
            BadInput: the run has no usable model, or several and none is named.
        """
        from lynx_pipeline.evaluation.candidate import choose, fresh_bundle
        from lynx_pipeline.registry import bundles
        from lynx_pipeline.registry.authorization import require_dev

        require_dev(self.settings, "a registration by hand")
        warnings.warn(NOT_THE_CI_PATH, NotTheCIPath, stacklevel=2)
        key = str(choose(self.settings, run_id, name).key)
        with fresh_bundle(self.settings, key) as (folder, bundle, model):
            bundles.keep(self.settings, folder, bundle)
            fact = Registered(
                time=_now(),
                env=self.settings.env,
                model=self.settings.model,
                mlflow_run_id=model.run_id,
                artifact_uri=model.uri,
                canonical_sha=bundle.canonical_sha,
                bundle_digest=bundle.digest,
                parent_sha=bundle.parent_sha,
            )

        def decide(ledger: Ledger) -> Fact | Entry:
            known = self._replay(ledger).registered.get(fact.canonical_sha)
            same = ("mlflow_run_id", "artifact_uri", "bundle_digest")
            if known and all(getattr(known.fact, it) == getattr(fact, it) for it in same):
                return known
            return fact

        return cast("Recorded[Registered]", self.store.append(decide, [bundle.manifest]))

    def promote(
        self,
        canonical_sha: str,
        semver: str,
        *,
        evidence: Path | None = None,
        candidate: str | None = None,
        bundle_digest: str | None = None,
        confirm: Callable[[], object] = lambda: None,
        say: Say = silent,
    ) -> Recorded[Promoted]:
        """Make ``semver`` name the bundle, if its evidence passes the gate now.

        ``evidence`` is an evidence folder. Its predictions are scored again, the bundle is
        downloaded and hashed again, eval set and baseline are read again, and the rule is applied.
        ``candidate`` is the requested candidate's key, and ``bundle_digest`` that of its bundle;
        evidence of another one is an error. ``confirm`` is called last, each time that the ledger
        is about to change; it can raise to stop the promotion. ``say`` reports the download of a
        large model. Without ``evidence``, see the module's docstring. Repeating a promotion changes
        nothing.

        Raises:
            Refused: the gate or a policy refuses.
            BadInput: evidence, eval set, baseline, bundle or semver is invalid.
            SystemFailed: MLflow, DVC, git, the issuer or the disk failed. The ledger is the old
                one or the complete new one; running it again is safe in both cases.
        """
        from lynx_pipeline.registry import promotion
        from lynx_pipeline.registry.authorization import authorize

        check_semver(semver, self.settings.env)
        if evidence is None:
            return self._promote_by_hand(canonical_sha, semver)
        authorization = authorize(self.settings)
        supported = promotion.build_promotion(
            self.settings,
            promotion.PromotionRequest(
                canonical_sha=canonical_sha,
                semver=semver,
                candidate=candidate,
                bundle_digest=bundle_digest,
                evidence=evidence,
            ),
            _now(),
            authorization.actor,
            say,
        )
        signed = authorization.sign_promotion(
            supported.fact, supported.verdict, supported.files.manifest
        )
        files = [*supported.files, *([] if signed is None else [signed.results])]

        def decide(ledger: Ledger) -> Fact | Entry:
            known = self._check_promotion(ledger, semver, supported.fact)
            if known is not None:
                return known
            promotion.unchanged_baseline(self.settings, supported.evidence)
            authorization.recheck(ledger, supported.fact)
            confirm()
            return supported.fact

        recorded = self.store.append(decide, files, lambda new: authorization.sign(new, signed))
        return cast("Recorded[Promoted]", recorded)

    def _promote_by_hand(self, canonical_sha: str, semver: str) -> Recorded[Promoted]:
        from lynx_pipeline.registry.authorization import require_dev

        require_dev(self.settings, "a promotion without evidence")
        warnings.warn(NOT_THE_CI_PATH, NotTheCIPath, stacklevel=3)

        def decide(ledger: Ledger) -> Fact | Entry:
            known = self._replay(ledger).registered.get(canonical_sha)
            if known is None:
                raise Refused(
                    f"the bundle {canonical_sha!r} is not registered. Register its run first "
                    "(registry register RUN_ID), or promote with evidence."
                )
            bundle = known.fact
            return self._check_promotion(ledger, semver, bundle) or Promoted(
                time=_now(),
                env=self.settings.env,
                **_bundle_of(bundle),
                semver=semver,
            )

        return cast("Recorded[Promoted]", self.store.append(decide))

    def rollback(self, semver: str) -> Recorded[Promoted | RolledBack]:
        """Make the earlier promoted ``semver`` the latest version again, as a new entry. Its bundle
        is fetched first, into a temporary folder.

        Raises:
            Refused: ``semver`` was never promoted here, its bundle can't be fetched any more, or
                this is ``prod`` and not the workflow.
            SystemFailed: MLflow or the bundle store failed, so its bundle can't be fetched now.
        """
        from lynx_pipeline.registry import bundles
        from lynx_pipeline.registry.authorization import authorize

        check_semver(semver, self.settings.env)
        authorization = authorize(self.settings)
        before = self._replay(self.verify())
        if before.latest is not (entry := self._promoted(before, semver)):
            bundles.check_fetchable(self.settings, self.store, entry.fact)

        def decide(ledger: Ledger) -> Fact | Entry:
            state = self._replay(ledger)
            target = self._promoted(state, semver)
            if state.latest is target and state.since is not None:
                return state.since
            authorization.recheck(ledger)
            return RolledBack(
                time=_now(),
                env=self.settings.env,
                **_bundle_of(target.fact),
                semver=semver,
                actor=authorization.actor,
            )

        recorded = self.store.append(decide, sign=authorization.sign)
        return cast("Recorded[Promoted | RolledBack]", recorded)

    # ----- reading it -------------------------------------------------------------------------

    def resolve(self, version: str = "latest") -> Resolved:
        """The bundle that ``version`` names in this environment. Raises like :meth:`answer`."""
        entry, stale = self.answer(version)
        fact = entry.fact
        return Resolved(
            model=fact.model,
            semver=fact.semver,
            canonical_sha=fact.canonical_sha,
            bundle_digest=fact.bundle_digest,
            mlflow_run_id=fact.mlflow_run_id,
            artifact_uri=fact.artifact_uri,
            stale=stale,
        )

    def answer(self, version: str = "latest") -> Answer:
        """The promotion of ``version``. In ``prod``, while the registry can't be verified, what is
        remembered of the latest one, for as long as the settings allow. Warns if there are ignored
        entries after those that count.

        Raises:
            Refused: nothing was promoted, or not this version.
            BadInput: the registry is damaged, and nothing else is known.
        """
        try:
            if (entry := self._unchanged(version)) is not None:
                return Answer(entry, None)
            state = self._replay(self.verify(), witnessed=True)
            answer = Answer(self._named(state, version), None)
        except BadInput as error:
            known = self._memory.last_known() if self.settings.env is Env.PROD else None
            if known is None or version not in ("latest", known[0].fact.semver):
                raise
            stale = f"it was verified last at {known[1]}, and can't be verified now: {error}"
            warnings.warn(f"{known[0].fact.semver} may be outdated: {stale}", Stale, stacklevel=2)
            return Answer(known[0], stale)
        warn_of_ignored(state)
        return answer

    def _unchanged(self, version: str) -> Entry[Promoted] | None:
        """See :meth:`~.memory.Memory.unchanged`. Witnesses have to be asked anew each time."""
        if self.settings.env is Env.DEV or self.settings.witnesses.keys:
            return None
        store = self.store  # opening it reads the memory first
        return self._memory.unchanged(version, store.state)

    def promoted(self, version: str = "latest") -> Entry[Promoted]:
        """The promotion of ``version`` in this environment.

        Raises:
            Refused: nothing was promoted, or not this version.
            BadInput: the registry is damaged.
        """
        return self._named(self._replay(self.verify(), witnessed=True), version)

    def promotions(self) -> tuple[Entry[Promoted], ...]:
        """The promotion of each version in this environment, oldest first."""
        return tuple(self._replay(self.verify(), witnessed=True).promoted.values())

    def history(self, env: Env | None = None) -> Iterator[Entry]:
        """All entries, oldest first; only those of ``env`` if given."""
        for entry in self.verify().entries:
            if env is None or entry.fact.env is env:
                yield entry

    def verify(self) -> Ledger:
        """The whole ledger, its chain verified. Signatures are not part of the chain.

        Raises:
            BadInput: a line is damaged, out of place or cut off; the message names it.
        """
        return self.store.read()

    def _replay(self, ledger: Ledger, *, witnessed: bool = False) -> RegistryState:
        """The state. ``witnessed``: enough witnesses must have signed the ledger; otherwise it only
        must not contradict what one has signed."""
        settings = self.settings
        if settings.env is Env.DEV:  # its entries are not signed
            return replay(ledger, settings.env, settings.model, {})
        (require_witnesses if witnessed else witness_problems)(settings, ledger)
        unsigned = self._memory.unsigned(ledger)
        state = replay(ledger, settings.env, settings.model, unsigned)
        if witnessed or not settings.witnesses.keys:  # what is remembered may become an answer
            self._memory.keep(ledger, unsigned, state)
        return state

    def unsigned(self, ledger: Ledger) -> Mapping[str, str]:
        """The entries in ``prod`` without a valid signature: see
        :func:`~lynx_pipeline.domain.ledger.signatures.unsigned_entries`.

        Raises:
            BadInput: the policy is invalid, or the ledger contradicts what was verified before or
                what a witness has signed.
        """
        if self.settings.env is Env.PROD:
            witness_problems(self.settings, ledger)
            return self._memory.unsigned(ledger)
        return unsigned_entries(ledger, self.settings.signatures)

    def _check_promotion(
        self, ledger: Ledger, semver: str, bundle: Promoted | Registered
    ) -> Entry[Promoted] | None:
        return check_promotion(
            ledger,
            self.settings.env,
            self.settings.model,
            bundle.canonical_sha,
            semver,
            bundle.bundle_digest,
            # In dev, entries are not signed.
            self.unsigned(ledger) if self.settings.env is Env.PROD else {},
        )

    def _named(self, state: RegistryState, version: str) -> Entry[Promoted]:
        if version != "latest":
            return self._promoted(state, version)
        if state.latest is None:
            raise Refused(
                f"nothing was promoted in {self.settings.env} yet, so there is no latest version."
            )
        return state.latest

    def _promoted(self, state: RegistryState, semver: str) -> Entry[Promoted]:
        entry = state.promoted.get(semver)
        if entry is None:
            known = ", ".join(state.promoted) or "none"
            raise Refused(
                f"{semver!r} was never promoted in {self.settings.env}. Promoted versions: {known}."
            )
        return entry


def _bundle_of(fact: Promoted | Registered) -> dict[str, Any]:
    """What a fact says of its bundle, for a further fact about the same one."""
    names = ("model", "mlflow_run_id", "artifact_uri")
    return {
        name: getattr(fact, name)
        for name in (*names, "canonical_sha", "bundle_digest", "parent_sha")
    }


def _now() -> str:
    return datetime.now(UTC).strftime(TIME)
