"""The signature of a bundle's files, byte for byte, and that it signs nothing else."""

import json
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from lynx_pipeline.domain.bundle import BundleFile
from lynx_pipeline.domain.ledger.model_signature import (
    PREDICATE,
    model_line,
    model_signatures,
    model_statement,
    sigstore_bundle,
)
from lynx_pipeline.domain.ledger.signatures import unsigned_entries
from lynx_pipeline.domain.ledger.statements import Envelope, Signature, read_envelope, to_sign
from lynx_pipeline.domain.manifest import Manifest
from lynx_pipeline.domain.release.signing import SigningPolicy, TrustedKey
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.errors import BadInput
from lynx_pipeline_tests.support.builders import chain, promoted, sha256
from lynx_pipeline_tests.support.signing import elliptic_key, public_key, sign, signed, statement

A, B, C = (digit * 64 for digit in "abc")
FACT = promoted("v0.1.0", env=Env.PROD, canonical_sha=A, bundle_digest=B)
LEDGER = chain(FACT)
ENTRY = LEDGER.entries[0]
# In the manifest's order, which differs from that of the paths' parts.
MANIFEST = Manifest(
    (BundleFile("MLmodel", 1, A), BundleFile("code.txt", 2, B), BundleFile("code/x", 3, C)),
    ("code", "empty"),
)
KEY = elliptic_key()
POLICY = SigningPolicy((TrustedKey(public_key(KEY)),))


def signature(payload: bytes) -> Signature:
    """The key's signature of a statement."""
    return Signature("", KEY.sign(to_sign(payload), ec.ECDSA(hashes.SHA256())))


def test_the_statement_lists_each_file() -> None:
    """Sorted by the parts of its path, as ``model_signing`` does. It has no empty folders."""
    root = sha256(bytes.fromhex(A + C + B))
    assert model_statement(FACT, MANIFEST).decode() == (
        '{"_type":"https://in-toto.io/Statement/v1","predicate":{"resources":['
        f'{{"algorithm":"sha256","digest":"{A}","name":"MLmodel"}},'
        f'{{"algorithm":"sha256","digest":"{C}","name":"code/x"}},'
        f'{{"algorithm":"sha256","digest":"{B}","name":"code.txt"}}],'
        '"serialization":{"allow_symlinks":false,"hash_type":"sha256","method":"files"}},'
        '"predicateType":"https://model_signing/signature/v1.0",'
        f'"subject":[{{"digest":{{"sha256":"{root}"}},"name":"tiny@v0.1.0"}}]}}'
    )


def test_the_registry_keeps_only_the_signature() -> None:
    """It is found by the entry's hash. The whole file is made from it."""
    line = model_line(ENTRY.hash, Signature("k", b"s"))
    assert line.decode() == (
        f'{{"entry":"{ENTRY.hash}","payloadType":"application/vnd.in-toto+json",'
        '"predicateType":"https://model_signing/signature/v1.0",'
        '"signatures":[{"keyid":"k","sig":"cw=="}]}\n'
    )
    others = b"".join((b"\n\xff{}\n{\n", sign(ENTRY), model_line(B, Signature("other", b"s"))))
    assert [*model_signatures(others + line, ENTRY.hash)] == [Signature("k", b"s")]
    assert [*model_signatures(others, ENTRY.hash)] == []
    payload = model_statement(FACT, MANIFEST)
    bundle = sigstore_bundle(Envelope(payload, (signature(payload),)), KEY.public_key())
    values = json.loads(bundle)
    assert values["mediaType"] == "application/vnd.dev.sigstore.bundle.v0.3+json"
    assert set(values["verificationMaterial"]["publicKey"]) == {"hint"}
    assert read_envelope(json.dumps(values["dsseEnvelope"]).encode()).payload == payload


def test_no_entry_counts_by_the_signature_of_its_bundle() -> None:
    """Nor if somebody makes an envelope of it, or a subject were the entry. The key is a trusted
    one each time."""
    payload = model_statement(FACT, MANIFEST)
    of_entry = statement(ENTRY.hash, PREDICATE)
    lines = [
        model_line(ENTRY.hash, signature(payload)),
        Envelope(payload, (signature(payload),)).to_line(),
        Envelope(of_entry, (signature(of_entry),)).to_line(),
    ]
    with pytest.raises(BadInput, match="expected DSSE"):
        read_envelope(lines[0])
    ledger = replace(LEDGER, signatures=b"".join(lines))
    assert unsigned_entries(ledger, POLICY) == {ENTRY.hash: "it is not signed"}
    ledger = replace(ledger, signatures=ledger.signatures + sign(ENTRY))
    assert unsigned_entries(ledger, SigningPolicy((TrustedKey(public_key()),))) == {}


def test_an_envelope_is_not_the_signature_of_a_bundle() -> None:
    """An entry's signature names the entry too, and a payload of its own."""
    for line in (sign(ENTRY), signed(statement(ENTRY.hash, PREDICATE), "release")):
        assert [*model_signatures(line, ENTRY.hash)] == []
        values = {**json.loads(line), "predicateType": PREDICATE, "entry": ENTRY.hash}
        assert [*model_signatures(json.dumps(values).encode(), ENTRY.hash)] == []
