"""The signature of a promoted bundle's files in the format of OpenSSF Model Signing, whose tool
``model_signing`` verifies a fetched bundle with it.

It signs an in-toto statement that lists each file with its SHA-256. The statement follows from the
entry and the bundle's manifest, so the registry keeps only the signature, on a line of its own
beside the entry's. That line has no payload, so it is not an envelope, and nobody can take it for
the signature of an entry.

- Statement and predicate: https://github.com/sigstore/model-transparency
- File: a Sigstore bundle 0.3, https://docs.sigstore.dev/about/bundle/

Leaves verifying to :mod:`lynx_pipeline.domain.ledger.signatures`. The format has no empty folders
and no executable bits; the bundle digest has both.
"""

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from lynx_pipeline.domain.ledger.facts import Promoted
from lynx_pipeline.domain.ledger.statements import (
    PAYLOAD_TYPE,
    Envelope,
    Signature,
    read_signatures,
    statement,
)
from lynx_pipeline.domain.manifest import Manifest
from lynx_pipeline.domain.strict_json import canonical, parse_object
from lynx_pipeline.errors import BadInput

if TYPE_CHECKING:
    from lynx_pipeline.domain.ledger.signatures import PublicKey

PREDICATE = "https://model_signing/signature/v1.0"
_SIGSTORE_BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_LONGEST_LINE = 4 << 10  # bytes; ours has 400


def model_statement(fact: Promoted, manifest: Manifest) -> bytes:
    """The statement about the files of the promoted bundle, whose manifest this is. The subject's
    digest is the SHA-256 of the files' digests, in the order of their paths' parts."""
    files = sorted(manifest.files, key=lambda it: it.path.split("/"))
    root = hashlib.sha256(b"".join(bytes.fromhex(it.sha256) for it in files)).hexdigest()
    return statement(
        [{"name": f"{fact.model}@{fact.semver}", "digest": {"sha256": root}}],
        PREDICATE,
        {
            "serialization": {"method": "files", "hash_type": "sha256", "allow_symlinks": False},
            "resources": [
                {"name": it.path, "algorithm": "sha256", "digest": it.sha256} for it in files
            ],
        },
    )


def model_line(entry_hash: str, signature: Signature) -> bytes:
    """The line that the registry keeps of a signature of the entry's bundle."""
    values = {
        "entry": entry_hash,
        "payloadType": PAYLOAD_TYPE,
        "predicateType": PREDICATE,
        "signatures": [signature.to_json()],
    }
    return canonical(values) + b"\n"


def model_signatures(raw: bytes, entry_hash: str) -> Iterator[Signature]:
    """The signatures of the entry's bundle among the registry's lines. Nothing is verified, and
    other lines are ignored."""
    for line in raw.splitlines():
        if entry_hash.encode() not in line or len(line) > _LONGEST_LINE:
            continue
        try:
            values = parse_object(line, "the model's signature")
            found = read_signatures(values)
        except BadInput:
            continue
        if "payload" not in values and values.get("predicateType") == PREDICATE:
            yield from found


def sigstore_bundle(signed: Envelope, key: "PublicKey") -> bytes:
    """The file that ``model_signing verify key`` reads. It has the key's digest as a hint, not the
    key: the verifier has to have it."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    values = {
        "mediaType": _SIGSTORE_BUNDLE,
        "verificationMaterial": {
            "publicKey": {"hint": hashlib.sha256(pem).hexdigest()},
            "tlogEntries": [],
        },
        "dsseEnvelope": signed.to_json(),
    }
    return canonical(values) + b"\n"
