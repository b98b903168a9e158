"""Keys that sign entries, the same in every run of the tests."""

import base64
import hashlib
import json
from collections.abc import Mapping

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    derive_private_key,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from lynx_pipeline.domain.ledger.chain import Entry
from lynx_pipeline.domain.ledger.statements import PREDICATES, Envelope, Signature, to_sign
from lynx_pipeline.domain.ledger.tree_head import TreeHead, note, to_cosign
from lynx_pipeline.domain.release.witnesses import WitnessKey
from lynx_pipeline.domain.strict_json import canonical

RELEASE = "release"


def private_key(name: str = RELEASE) -> Ed25519PrivateKey:
    """The private key with this name."""
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())


def elliptic_key(name: str = RELEASE) -> EllipticCurvePrivateKey:
    """The ECDSA P-256 key with this name."""
    return derive_private_key(int(hashlib.sha256(name.encode()).hexdigest(), 16), SECP256R1())


def private_pem(key: str | EllipticCurvePrivateKey = RELEASE) -> str:
    """The private key as ``LYNX_SIGNING_KEY`` takes it."""
    pem = (private_key(key) if isinstance(key, str) else key).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return pem.decode()


def public_key(key: str | EllipticCurvePrivateKey = RELEASE) -> str:
    """The public key as the settings take it."""
    der = (
        (private_key(key) if isinstance(key, str) else key)
        .public_key()
        .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return base64.b64encode(der).decode()


def signatures_table(
    *names: str, retired: Mapping[str, str] | None = None, unsigned_until: str | None = None
) -> str:
    """The table of a ``pyproject.toml`` that trusts the keys with these names; ``retired`` up to
    the entries with these hashes."""
    keys = [{"public_key": public_key(name)} for name in names]
    keys += [{"public_key": public_key(n), "until": it} for n, it in (retired or {}).items()]
    tables = (f"{{{', '.join(f'{k} = {json.dumps(v)}' for k, v in key.items())}}}" for key in keys)
    lines = [f"keys = [{', '.join(tables)}]"]
    if unsigned_until is not None:
        lines.append(f"unsigned_until = {json.dumps(unsigned_until)}")
    return "\n".join(["[tool.lynx_pipeline.signatures]", *lines, ""])


def statement(entry_hash: str, predicate: str = "") -> bytes:
    """A statement about the entry with this hash that says nothing else."""
    return canonical(
        {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": "entry", "digest": {"sha256": entry_hash}}],
            "predicateType": predicate,
            "predicate": {},
        }
    )


def signed(payload: bytes, *names: str) -> bytes:
    """The line of an envelope that the keys with these names sign."""
    found = (private_key(name).sign(to_sign(payload)) for name in names)
    return Envelope(payload, tuple(Signature("", it) for it in found)).to_line()


def sign(entry: Entry, name: str = RELEASE) -> bytes:
    """The line of a valid signature of any entry, also of one that breaks a rule."""
    return signed(statement(entry.hash, PREDICATES.get(type(entry.fact), "")), name)


def witness_key(name: str) -> WitnessKey:
    """The key of the witness with this name."""
    return WitnessKey(name, private_key(name).public_key().public_bytes_raw())


def witnesses_table(*names: str, required: int, **settings: float) -> str:
    """The table of a ``pyproject.toml`` that requires some of these witnesses."""
    keys = json.dumps([str(witness_key(name)) for name in names])
    lines = [f"keys = {keys}", f"required = {required}"]
    lines += [f"{name} = {value}" for name, value in settings.items()]
    return "\n".join(["[tool.lynx_pipeline.witnesses]", *lines, ""])


def cosign(head: TreeHead, name: str, time: float) -> bytes:
    """The checkpoint that the witness with this name would have published at this time."""
    signature = private_key(name).sign(to_cosign(head.body, int(time)))
    return note(head.body, witness_key(name), int(time), signature)
