"""The signed statements of a promotion, compared with the entry, with the replayed verdict and with
the bundle's manifest."""

import json
from collections.abc import Sequence
from typing import NamedTuple

from lynx_pipeline.adapters.ledgers.store import Store
from lynx_pipeline.domain.gate.rule import Verdict
from lynx_pipeline.domain.ledger.chain import Entry, Ledger
from lynx_pipeline.domain.ledger.facts import Promoted
from lynx_pipeline.domain.ledger.model_signature import (
    model_signatures,
    model_statement,
    sigstore_bundle,
)
from lynx_pipeline.domain.ledger.signatures import counting_signature, is_elliptic, key_of
from lynx_pipeline.domain.ledger.statements import (
    Envelope,
    entry_statement,
    read_envelope,
    results_statement,
)
from lynx_pipeline.domain.manifest import read_manifest
from lynx_pipeline.domain.release.signing import SigningPolicy


class ModelSignature(NamedTuple):
    """The signature of the bundle's files, as the file that ``model_signing`` reads; otherwise why
    there is none."""

    file: bytes | None = None
    missing: str = ""


class Attestations(NamedTuple):
    """The envelopes of the entry and of the gate's result, and the signature of the bundle's files;
    none if the entry is not signed, as in ``dev``. ``findings`` say where they contradict the
    entry."""

    envelopes: Sequence[Envelope] = ()
    model_signature: ModelSignature = ModelSignature(missing="the entry is not signed")
    findings: Sequence[str] = ()


def attestations(
    store: Store,
    ledger: Ledger,
    policy: SigningPolicy,
    promotion: Entry[Promoted],
    verdict: Verdict,
) -> Attestations:
    """The statements of a valid promotion, whose verdict was computed again.

    Raises:
        BadInput: the policy is invalid, or the gate's result or the manifest is missing or damaged.
    """
    of_entry = counting_signature(ledger, policy, promotion)
    if of_entry is None:
        return Attestations()
    results_sha256 = _named_results(of_entry)
    if results_sha256 is None or of_entry.payload != entry_statement(promotion, results_sha256):
        return Attestations(
            (of_entry,), findings=["the entry's signed statement is not what a promotion writes"]
        )
    results = read_envelope(store.evidence(results_sha256))
    findings = []
    if key_of(results, ledger, policy, promotion.seq) is None:
        findings.append("the gate's result that the entry's statement names has no valid signature")
    if results.payload != results_statement(promotion.fact, verdict):
        findings.append("the gate's signed result differs from the replayed verdict")
    model_signature = _model_signature(store, ledger, policy, promotion, of_entry)
    if model_signature is None:
        findings.append(
            "the signature of the bundle's files was made with another key, or of other files"
        )
    return Attestations(
        (of_entry, results), model_signature or ModelSignature(missing="it is invalid"), findings
    )


def _model_signature(
    store: Store,
    ledger: Ledger,
    policy: SigningPolicy,
    promotion: Entry[Promoted],
    of_entry: Envelope,
) -> ModelSignature | None:
    """The signature of the promoted bundle's files; None if those that are there are invalid."""
    signatures = [*model_signatures(ledger.signatures, promotion.hash)]
    if not signatures:
        key = key_of(of_entry, ledger, policy, promotion.seq)
        if key is not None and not is_elliptic(key):
            return ModelSignature(
                missing="the entry is signed with an Ed25519 key, which model_signing can't "
                "verify: use an ECDSA key"
            )
        return ModelSignature(
            missing="the registry has none for this entry, which may be from before there was one"
        )
    assert promotion.fact.bundle_digest is not None  # its results name it
    manifest = read_manifest(store.evidence(promotion.fact.bundle_digest))
    payload = model_statement(promotion.fact, manifest)
    for envelope in (Envelope(payload, (it,)) for it in signatures):
        key = key_of(envelope, ledger, policy, promotion.seq)
        if key is not None and is_elliptic(key):
            return ModelSignature(sigstore_bundle(envelope, key))
    return None


def _named_results(envelope: Envelope) -> str | None:
    """The digest of the gate's result that the entry's statement names."""
    try:
        (named,) = json.loads(envelope.payload)["predicate"]["inputAttestations"]
        return str(named["digest"]["sha256"])
    except (KeyError, TypeError, ValueError):
        return None
