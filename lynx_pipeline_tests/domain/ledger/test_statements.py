"""What is signed, byte for byte: audits compare it, also with other versions of this package."""

from fractions import Fraction

from lynx_pipeline.domain.gate.rule import BucketVerdict, Verdict
from lynx_pipeline.domain.ledger.statements import (
    entry_statement,
    read_claims,
    read_envelope,
    results_statement,
)
from lynx_pipeline.domain.scores import Score
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline_tests.support.builders import actor, chain, promoted, rolled_back, sha256
from lynx_pipeline_tests.support.signing import RELEASE, signed

WORKFLOW = "o/r/.github/workflows/d.yml@refs/heads/main"
BY = actor(jti="t1", iss="https://issuer", job_workflow_ref=WORKFLOW)
PROMOTION = promoted(
    "v0.1.0", env=Env.PROD, canonical_sha="a" * 64, bundle_digest="b" * 64, actor=BY
)
ROLLBACK = rolled_back(PROMOTION, actor=actor(jti="t2"))
ENTRIES = chain(PROMOTION, ROLLBACK).entries
HASH = "a81d449df8403ac6c59bfdc1eeaea3ace0ca1244d8c2668b6b09d1e24bc59660"
BASELINE = "8ba8496a2525ae171ffd104d632dede6ef418d9b95962a9d88e2fcdbc8d48d24"
OF_PROMOTION = (
    '{"_type":"https://in-toto.io/Statement/v1","predicate":{"inputAttestations":[{"digest":'
    f'{{"sha256":"{"c" * 64}"}},"uri":"evidence/cc/{"c" * 64}"}}],"policy":{{"digest":'
    f'{{"sha256":"{BASELINE}"}},"uri":"evidence/8b/{BASELINE}"}},'
    '"resourceUri":"runs:/0123456789abcdef0123456789abcdef/model",'
    '"timeVerified":"2025-01-02T03:04:05Z","verificationResult":"PASSED",'
    '"verifiedLevels":["NO_BUCKET_REGRESSION"],"verifier":{"id":"https://issuer#'
    f'{WORKFLOW}"}}}},"predicateType":"https://slsa.dev/verification_summary/v1","subject":'
    f'[{{"digest":{{"sha256":"{HASH}"}},"name":"entry 1"}},'
    f'{{"digest":{{"sha256":"{"b" * 64}"}},"name":"tiny@v0.1.0"}}]}}'
)
LINE = "556648cf7c6be95b44a669ba70b205c0b6b8906808a19f66f6a204293107219a"


def test_a_promotions_statement() -> None:
    """And its envelope: Ed25519 signs the same bytes in the same way."""
    payload = entry_statement(ENTRIES[0], "c" * 64)
    assert payload.decode() == OF_PROMOTION
    line = signed(payload, RELEASE)
    assert sha256(line) == LINE
    assert read_envelope(line).payload == payload
    assert [claim.entry for claim in read_claims(payload)] == [ENTRIES[0].hash, "b" * 64]


def test_a_rollbacks_statement() -> None:
    """It releases the version again."""
    hashed = ENTRIES[1].hash
    assert entry_statement(ENTRIES[1]).decode() == (
        '{"_type":"https://in-toto.io/Statement/v1","predicate":{"purl":"pkg:mlflow/tiny@v0.1.0",'
        f'"releaseId":"{hashed}"}},"predicateType":"https://in-toto.io/attestation/release/v0.1",'
        f'"subject":[{{"digest":{{"sha256":"{hashed}"}},"name":"entry 2"}},'
        f'{{"digest":{{"sha256":"{"b" * 64}"}},"name":"tiny@v0.1.0"}}]}}'
    )


def test_the_gates_result() -> None:
    """A bucket is a test. One without a floor is a warning."""
    half, all_ = Score.counted(10, 10), Score.counted(5, 10)
    buckets = (
        BucketVerdict("half.a", half, half, Fraction(9, 10)),
        BucketVerdict("all.x", half, all_, Fraction(9, 10)),
    )
    verdict = Verdict(buckets, ("new.b",), Fraction(1, 10))
    text = results_statement(PROMOTION, verdict).decode()
    assert text.endswith(
        '"failedTests":["all.x"],"passedTests":["half.a"],"result":"FAILED","warnedTests":'
        '["new.b"]},"predicateType":"https://in-toto.io/attestation/test-result/v0.1","subject":'
        f'[{{"digest":{{"sha256":"{"b" * 64}"}},"name":"tiny@v0.1.0"}}]}}'
    )
    assert '"name":"eval set"' in text
    assert f'{{"digest":{{"sha256":"{BASELINE}"}},"name":"baseline"}}' in text
