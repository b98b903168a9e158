"""Authorization: who may change the registry, decided in one place.

In ``dev`` anyone may. In ``prod`` only the CI workflow's verified identity may, with a key to sign
with, and the gate inputs must be committed and current. This is checked before any work, and again
right before an entry is written, because a download takes minutes and the branch may change
meanwhile.
"""

import hashlib
from dataclasses import dataclass
from typing import NamedTuple

from lynx_pipeline.adapters import git_files, oidc
from lynx_pipeline.adapters.signing import Signer, open_signer
from lynx_pipeline.config import Settings
from lynx_pipeline.domain.gate.rule import Verdict
from lynx_pipeline.domain.ledger.chain import Entry, Ledger
from lynx_pipeline.domain.ledger.facts import Actor, Promoted
from lynx_pipeline.domain.ledger.model_signature import model_line, model_statement
from lynx_pipeline.domain.ledger.signatures import is_elliptic
from lynx_pipeline.domain.ledger.state import check_unused
from lynx_pipeline.domain.ledger.statements import (
    Signature,
    entry_statement,
    read_envelope,
    results_statement,
)
from lynx_pipeline.domain.manifest import read_manifest
from lynx_pipeline.domain.release.identity import check_identity, check_policy
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.errors import Refused
from lynx_pipeline.registry import gate_inputs
from lynx_pipeline.registry.judges import check_judges


class SignedPromotion(NamedTuple):
    """What is signed about a promotion besides its entry: the gate's result as an envelope's line,
    and the bundle's files if the key is one that ``model_signing`` verifies."""

    results: bytes
    model: Signature | None


@dataclass(frozen=True, slots=True)
class AnyoneInDev:
    """In ``dev`` everybody may write, without a verified identity."""

    actor: None = None

    def recheck(self, ledger: Ledger, promotion: Promoted | None = None) -> None:
        """Nothing to check."""

    def sign_promotion(self, promotion: Promoted, verdict: Verdict, manifest: bytes) -> None:
        """dev's entries are not signed."""

    def sign(self, entry: Entry, signed: SignedPromotion | None = None) -> None:
        """dev's entries are not signed."""


@dataclass(frozen=True, slots=True)
class VerifiedWorkflow:
    """A workflow run whose identity the policy accepts. Its token can be used for one entry, which
    ``signer`` signs."""

    settings: Settings
    actor: Actor
    signer: Signer

    def recheck(self, ledger: Ledger, promotion: Promoted | None = None) -> None:
        """Check that the token is unused and the gate inputs are committed, current, and those
        that ``promotion`` was judged by. Call it right before the ledger changes.

        Raises:
            Refused: one of these is no longer true.
            SystemFailed: git or the remote failed.
        """
        check_unused(ledger, self.actor)
        _check_gate_inputs(self.settings, self.actor, promotion)

    def sign_promotion(
        self, promotion: Promoted, verdict: Verdict, manifest: bytes
    ) -> SignedPromotion:
        """The gate's signed result, which the registry keeps as evidence, and the signature of the
        bundle with this ``manifest``. Raises like
        :meth:`~lynx_pipeline.adapters.signing.Signer.sign`."""
        results = self.signer.sign(results_statement(promotion, verdict))
        model = None
        if is_elliptic(self.signer.key_of(results)):
            statement = model_statement(promotion, read_manifest(manifest))
            (model,) = self.signer.sign(statement).signatures
        return SignedPromotion(results.to_line(), model)

    def sign(self, entry: Entry, signed: SignedPromotion | None = None) -> bytes:
        """The lines of the entry's signatures, its own last. ``signed`` is what a promotion needs.

        Raises:
            BadInput: readers would not read it, because the entry has texts that are too long.
            LynxError: as :meth:`~lynx_pipeline.adapters.signing.Signer.sign`.
        """
        digest = None if signed is None else hashlib.sha256(signed.results).hexdigest()
        line = self.signer.sign(entry_statement(entry, digest)).to_line()
        read_envelope(line)
        if signed is None or signed.model is None:
            return line
        return model_line(entry.hash, signed.model) + line


Authorization = AnyoneInDev | VerifiedWorkflow


def authorize(settings: Settings) -> Authorization:
    """The authorization of this process to change the registry.

    Raises:
        Refused: this is ``prod``, and the process is not the workflow that the policy names, has
            no key to sign with, or the gate inputs are not the committed, current ones.
        BadInput: the key to sign with is invalid.
        SystemFailed: the issuer or git failed.
    """
    if settings.env is Env.DEV:
        return AnyoneInDev()
    policy = check_policy(settings.identity)
    claims = oidc.verified_claims(policy)
    actor = check_identity(policy, claims, git_files.head(settings.root))
    check_judges(settings, policy, actor.sha)
    _check_gate_inputs(settings, actor)
    return VerifiedWorkflow(settings, actor, open_signer(settings.signatures))


def require_dev(settings: Settings, action: str) -> None:
    """Check that this is ``dev``, before an ``action`` that only exists there.

    Raises:
        Refused: this is ``prod``.
    """
    if settings.env is Env.PROD:
        raise Refused(
            "prod is changed only by the CI workflow's verified identity, with evidence: "
            f"{action} is for dev. Request a release on a pull request, or unset LYNX_ENV to work "
            "in dev."
        )


def _check_gate_inputs(settings: Settings, actor: Actor, promotion: Promoted | None = None) -> None:
    gate_inputs.check_committed(settings, actor.sha)
    if promotion is not None:
        gate_inputs.check_judged(settings, actor.sha, promotion)
    gate_inputs.check_current(settings, actor.sha, actor.ref)
