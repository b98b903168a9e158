"""The signed statements of a promotion, compared with the entry and with the replayed verdict."""

import json
from collections.abc import Sequence
from typing import NamedTuple

from lynx_pipeline.adapters.ledgers.store import Store
from lynx_pipeline.domain.gate.rule import Verdict
from lynx_pipeline.domain.ledger.chain import Entry, Ledger
from lynx_pipeline.domain.ledger.facts import Promoted
from lynx_pipeline.domain.ledger.signatures import counting_signature, is_by_a_key
from lynx_pipeline.domain.ledger.statements import (
    Envelope,
    entry_statement,
    read_envelope,
    results_statement,
)
from lynx_pipeline.domain.release.signing import SigningPolicy


class Attestations(NamedTuple):
    """The envelopes of the entry and of the gate's result; none if the entry is not signed, as in
    ``dev``. ``findings`` say where they contradict the entry."""

    envelopes: Sequence[Envelope]
    findings: Sequence[str]


def attestations(
    store: Store,
    ledger: Ledger,
    policy: SigningPolicy,
    promotion: Entry[Promoted],
    verdict: Verdict,
) -> Attestations:
    """The statements of a valid promotion, whose verdict was computed again.

    Raises:
        BadInput: the policy is invalid, or the gate's result is missing or damaged.
    """
    of_entry = counting_signature(ledger, policy, promotion)
    if of_entry is None:
        return Attestations((), ())
    results_sha256 = _named_results(of_entry)
    if results_sha256 is None or of_entry.payload != entry_statement(promotion, results_sha256):
        return Attestations(
            (of_entry,), ["the entry's signed statement is not what a promotion writes"]
        )
    results = read_envelope(store.evidence(results_sha256))
    findings = []
    if not is_by_a_key(results, ledger, policy, promotion.seq):
        findings.append("the gate's result that the entry's statement names has no valid signature")
    if results.payload != results_statement(promotion.fact, verdict):
        findings.append("the gate's signed result differs from the replayed verdict")
    return Attestations((of_entry, results), findings)


def _named_results(envelope: Envelope) -> str | None:
    """The digest of the gate's result that the entry's statement names."""
    try:
        (named,) = json.loads(envelope.payload)["predicate"]["inputAttestations"]
        return str(named["digest"]["sha256"])
    except (KeyError, TypeError, ValueError):
        return None
