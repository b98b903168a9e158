"""What is signed: in-toto statements about an entry and about the gate's result, in envelopes.

An entry's statement names the entry by its hash, which covers everything that it records, its place
in the chain and the hash of the entry before. A promotion's is a SLSA verification summary, a
rollback's is a release. The gate's result is a test result with a test per bucket; a promotion
names it as the attestation that it is based on. A third one, about the bundle's files, is in
:mod:`lynx_pipeline.domain.ledger.model_signature`.

- Statement: https://in-toto.io/Statement/v1
- Envelope (DSSE 1.0): https://github.com/secure-systems-lab/dsse/blob/master/envelope.md
- Predicates: https://slsa.dev/spec/v1.1/verification_summary and, for the other two,
  https://github.com/in-toto/attestation/tree/main/spec/predicates

Which signatures count is decided in :mod:`lynx_pipeline.domain.ledger.signatures`.
"""

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from lynx_pipeline.domain.ledger.chain import Entry, evidence_path
from lynx_pipeline.domain.ledger.facts import Actor, Evidence, Promoted, RolledBack
from lynx_pipeline.domain.strict_json import JsonObject, canonical, parse_object
from lynx_pipeline.errors import BadInput

if TYPE_CHECKING:
    from lynx_pipeline.domain.gate.rule import Verdict

# Of an envelope's line, and what it may contain. Ours has 1,500 bytes, two subjects, one signature.
LONGEST_LINE = 64 << 10
_MOST_SUBJECTS = _MOST_SIGNATURES = 8
PAYLOAD_TYPE = "application/vnd.in-toto+json"
_NO_ENVELOPE = f"the envelope: expected DSSE with the type {PAYLOAD_TYPE}."
_STATEMENT = "https://in-toto.io/Statement/v1"
_SUMMARY = "https://slsa.dev/verification_summary/v1"
_RELEASE = "https://in-toto.io/attestation/release/v0.1"
_TEST_RESULT = "https://in-toto.io/attestation/test-result/v0.1"
# The predicate of the statement that an entry needs, by the entry's kind.
PREDICATES: dict[type, str] = {Promoted: _SUMMARY, RolledBack: _RELEASE}


class Signature(NamedTuple):
    """A signature, and a hint at its key, which nobody has to trust."""

    keyid: str
    sig: bytes

    def to_json(self) -> JsonObject:
        """As an envelope contains it."""
        return {"keyid": self.keyid, "sig": base64.b64encode(self.sig).decode()}


@dataclass(frozen=True, slots=True)
class Envelope:
    """A DSSE envelope: a payload of type :data:`PAYLOAD_TYPE`, and signatures of it."""

    payload: bytes
    signatures: tuple[Signature, ...]

    @property
    def signed(self) -> bytes:
        """What is signed: the payload and its type (DSSE's pre-authentication encoding)."""
        return to_sign(self.payload)

    def to_line(self) -> bytes:
        """Its canonical JSON, newline included."""
        return canonical(self.to_json()) + b"\n"

    def to_json(self) -> JsonObject:
        """As DSSE writes it."""
        return {
            "payload": base64.b64encode(self.payload).decode(),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [it.to_json() for it in self.signatures],
        }


def to_sign(payload: bytes) -> bytes:
    """The bytes that a signature of ``payload`` covers."""
    return b"DSSEv1 %d %b %d %b" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)


def read_envelope(line: bytes) -> Envelope:
    """The envelope in ``line``. Nothing is verified.

    Raises:
        BadInput: it is not an envelope of a statement, or longer than any.
    """
    if len(line) > LONGEST_LINE:
        raise BadInput(f"the envelope: has {len(line)} bytes, expected at most {LONGEST_LINE}.")
    values = parse_object(line, "the envelope")
    signatures = read_signatures(values)
    try:
        return Envelope(base64.b64decode(values["payload"], validate=True), signatures)
    except (KeyError, TypeError, ValueError):
        raise BadInput(_NO_ENVELOPE) from None


def read_signatures(values: JsonObject) -> tuple[Signature, ...]:
    """The signatures in what may be an envelope, with a payload or without.

    Raises:
        BadInput: they are malformed, or sign another type of payload.
    """
    try:
        if values["payloadType"] != PAYLOAD_TYPE:
            raise ValueError
        return tuple(
            Signature(str(it.get("keyid", "")), base64.b64decode(it["sig"], validate=True))
            for it in values["signatures"][:_MOST_SIGNATURES]
        )
    except (KeyError, TypeError, AttributeError, ValueError):
        raise BadInput(_NO_ENVELOPE) from None


class Claim(NamedTuple):
    """Which entry a statement is about, by hash, and the type of what it says."""

    entry: str
    predicate: str


def read_claims(payload: bytes) -> tuple[Claim, ...]:
    """Which entries the statement in ``payload`` may be about: its subjects. Empty if it is no
    statement."""
    try:
        values = parse_object(payload, "the statement")
        if values["_type"] != _STATEMENT:
            return ()
        predicate = str(values["predicateType"])
        subjects = values["subject"][:_MOST_SUBJECTS]
        return tuple(Claim(str(it["digest"]["sha256"]), predicate) for it in subjects)
    except (BadInput, KeyError, TypeError):
        return ()


def entry_statement(entry: Entry, results_sha256: str | None = None) -> bytes:
    """The statement about a promotion or rollback in prod. ``results_sha256`` is the digest of the
    gate's result in its envelope, which a promotion names."""
    fact = entry.fact
    subject = [_named(f"entry {entry.seq}", entry.hash)]
    if fact.bundle_digest is not None:
        subject.append(_named(f"{fact.model}@{fact.semver}", fact.bundle_digest))
    if isinstance(fact, RolledBack):
        purl = f"pkg:mlflow/{fact.model}@{fact.semver}"
        return statement(subject, _RELEASE, {"purl": purl, "releaseId": entry.hash})
    assert isinstance(fact, Promoted)
    assert isinstance(fact.evidence, Evidence)
    assert isinstance(fact.actor, Actor)
    assert results_sha256 is not None
    return statement(
        subject,
        _SUMMARY,
        {
            "verifier": {"id": f"{fact.actor.iss}#{fact.actor.job_workflow_ref}"},
            "timeVerified": fact.time,
            "resourceUri": fact.artifact_uri,
            "policy": _kept(fact.evidence.baseline_sha256),
            "inputAttestations": [_kept(results_sha256)],
            "verificationResult": "PASSED",
            "verifiedLevels": ["NO_BUCKET_REGRESSION"],
        },
    )


def results_statement(fact: Promoted, verdict: "Verdict") -> bytes:
    """The statement about the gate's result for a promotion: which buckets passed and failed. A
    bucket without a floor is a warning."""
    evidence = fact.evidence
    assert isinstance(evidence, Evidence)
    assert fact.bundle_digest is not None
    configuration = {
        "eval set": evidence.eval_set_sha256,
        "baseline": evidence.baseline_sha256,
        "candidate evaluation": evidence.candidate_eval_sha256,
        "predictions": evidence.predictions_sha256,
    }
    return statement(
        [_named(f"{fact.model}@{fact.semver}", fact.bundle_digest)],
        _TEST_RESULT,
        {
            "result": "PASSED" if verdict.passed else "FAILED",
            "configuration": [_named(name, sha256) for name, sha256 in configuration.items()],
            "passedTests": [it.name for it in verdict.buckets if it.passed],
            "warnedTests": list(verdict.ungated),
            "failedTests": [it.name for it in verdict.failed],
        },
    )


def statement(subject: list[JsonObject], predicate: str, values: JsonObject) -> bytes:
    """An in-toto statement: what the ``predicate`` says about the subjects."""
    return canonical(
        {
            "_type": _STATEMENT,
            "subject": subject,
            "predicateType": predicate,
            "predicate": values,
        }
    )


def _named(name: str, sha256: str) -> dict[str, Any]:
    return {"name": name, "digest": {"sha256": sha256}}


def _kept(sha256: str) -> dict[str, Any]:
    """Evidence that the registry keeps."""
    return {"uri": evidence_path(sha256), "digest": {"sha256": sha256}}
