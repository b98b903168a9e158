"""Which entries are signed: a signature proves that an entry was made with one of the keys that the
*reader's* settings name.

In ``prod``, every promotion and rollback needs one. Exempt are entries up to the one that
``unsigned_until`` names, from before there were signatures. A retired key counts up to the entry
that its ``until`` names. Both are places in the chain and not times: an entry's time is whatever
its writer says, and its place is fixed by the hashes of all entries before it.

The registry keeps the signatures beside the ledger, a line for each. Whatever else is in that file
is ignored, because it changes nothing.
"""

import base64
import re
from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from lynx_pipeline.domain.ledger.chain import Entry, Ledger
from lynx_pipeline.domain.ledger.facts import Actor, Registered
from lynx_pipeline.domain.ledger.statements import (
    PREDICATES,
    Claim,
    Envelope,
    read_claims,
    read_envelope,
)
from lynx_pipeline.domain.release.signing import SigningPolicy, TrustedKey
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.errors import BadInput

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    PublicKey = Ed25519PublicKey | EllipticCurvePublicKey

LONGEST_FILE = 256 << 20  # bytes
_OBJECT_LINE = re.compile(rb"^\{.*$", re.MULTILINE)
NOT_SIGNED = "it is not signed"
TABLE = "[tool.lynx_pipeline.signatures]"
NO_KEY = f"its signature can't be checked, because {TABLE} names no key that may have signed"
OTHER_KEY = f"no key in {TABLE} has made its signature"
KEY_FORM = (
    "expected an Ed25519, ECDSA P-256 or ECDSA P-384 key, as 'openssl pkey -pubout' prints it "
    "between the lines BEGIN PUBLIC KEY and END PUBLIC KEY, on one line"
)


def load_key(key: TrustedKey) -> "PublicKey":
    """The key, ready to verify with.

    Raises:
        BadInput: it is not a key, or of another kind.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    try:
        found = load_der_public_key(base64.b64decode(key.public_key, validate=True))
    except (ValueError, UnsupportedAlgorithm):
        found = None
    if isinstance(found, ed25519.Ed25519PublicKey) or (
        isinstance(found, ec.EllipticCurvePublicKey)
        and isinstance(found.curve, ec.SECP256R1 | ec.SECP384R1)
    ):
        return found
    raise BadInput(f"{TABLE}: the public key {key.public_key[:20]}... is invalid: {KEY_FORM}.")


def is_signed(envelope: Envelope, key: "PublicKey") -> bool:
    """Whether one of the envelope's signatures is by ``key``."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

    signed = envelope.signed
    for _, sig in envelope.signatures:
        try:
            if isinstance(key, ed25519.Ed25519PublicKey):
                key.verify(sig, signed)
            elif isinstance(key.curve, ec.SECP256R1):
                key.verify(sig, signed, ec.ECDSA(hashes.SHA256()))
            else:
                key.verify(sig, signed, ec.ECDSA(hashes.SHA384()))
        except InvalidSignature:
            continue
        return True
    return False


class Verified(NamedTuple):
    """How far signatures were verified before: the entries up to ``seq``, except those with the
    hashes ``unsigned``. They count if they are signed with a key in use by now. A retired key can't
    sign any more: whoever has it would make an old entry count."""

    seq: int = 0
    unsigned: frozenset[str] = frozenset()


def unsigned_entries(
    ledger: Ledger, policy: SigningPolicy, verified: Verified | None = None
) -> Mapping[str, str]:
    """The entries in ``prod`` that don't count for want of a valid signature: their hashes, each
    with the reason. Those that were ``verified`` with this policy are not verified again.

    Raises:
        BadInput: the policy has an invalid key, or names an entry that the ledger does not have.
    """
    in_prod = [
        entry
        for entry in ledger.entries
        if entry.fact.env is Env.PROD and not isinstance(entry.fact, Registered)
    ]
    if not in_prod:
        return {}
    exempt = _place(ledger, policy.unsigned_until, "unsigned_until")
    places = [_last_place(ledger, key) for key in policy.keys]
    seq, unsigned = verified or Verified()
    needed = [entry for entry in in_prod if entry.seq > seq or entry.hash in unsigned]
    if not needed:
        return {}
    keys = list(zip(places, map(load_key, policy.keys), strict=True))
    found = _by_claim(ledger.signatures)
    return {
        entry.hash: reason
        for entry in needed
        if entry.seq > exempt
        and (reason := _problem(entry, found, keys, policy, late=entry.hash in unsigned))
    }


def counting_signature(ledger: Ledger, policy: SigningPolicy, entry: Entry) -> Envelope | None:
    """The entry's first signature that counts, whatever the entry says; None if it has none.

    Raises:
        BadInput: as :func:`unsigned_entries`.
    """
    predicate = PREDICATES.get(type(entry.fact))
    if entry.fact.env is not Env.PROD or predicate is None:
        return None
    found = _by_claim(ledger.signatures).get(Claim(entry.hash, predicate), [])
    return next((it for it in found if key_of(it, ledger, policy, entry.seq)), None)


def signed_hashes(raw: bytes, policy: SigningPolicy) -> frozenset[str]:
    """The hashes of the entries that one of the policy's keys has signed, whenever, if the lines in
    ``raw`` have the signatures.

    Raises:
        BadInput: the policy has an invalid key.
    """
    keys = [load_key(key) for key in policy.keys]
    return frozenset(
        claim.entry
        for claim, envelopes in _by_claim(raw).items()
        if claim.predicate in PREDICATES.values()
        and any(is_signed(envelope, key) for envelope in envelopes for key in keys)
    )


def key_of(
    envelope: Envelope, ledger: Ledger, policy: SigningPolicy, seq: int
) -> "PublicKey | None":
    """The first of the policy's keys that signed the envelope and may sign at the place ``seq``;
    None if there is none.

    Raises:
        BadInput: as :func:`unsigned_entries`.
    """
    places = ((_last_place(ledger, key), load_key(key)) for key in policy.keys)
    return next(
        (
            key
            for place, key in places
            if (place is None or seq <= place) and is_signed(envelope, key)
        ),
        None,
    )


def is_elliptic(key: "PublicKey") -> bool:
    """Whether the key is ECDSA, which ``model_signing`` verifies, and not Ed25519."""
    from cryptography.hazmat.primitives.asymmetric import ec

    return isinstance(key, ec.EllipticCurvePublicKey)


def _by_claim(raw: bytes) -> Mapping[Claim, list[Envelope]]:
    if len(raw) > LONGEST_FILE:
        raise BadInput(
            f"the signatures have {len(raw)} bytes, expected at most {LONGEST_FILE}. Something "
            "else wrote there: restore them."
        )
    found = defaultdict(list)
    for line in _OBJECT_LINE.finditer(raw):
        try:
            envelope = read_envelope(line[0])
        except BadInput:
            continue
        for claim in read_claims(envelope.payload):
            found[claim].append(envelope)
    return found


def _problem(
    entry: Entry,
    found: Mapping[Claim, list[Envelope]],
    keys: list[tuple[int | None, "PublicKey"]],
    policy: SigningPolicy,
    *,
    late: bool,
) -> str | None:
    """Why the entry does not count as signed; None if it does. ``late``: it did not count when it
    was seen first."""
    if not keys:
        return NO_KEY
    envelopes = found.get(Claim(entry.hash, PREDICATES[type(entry.fact)]), [])
    if not envelopes:
        return NOT_SIGNED
    signers = [
        until for until, key in keys if any(is_signed(envelope, key) for envelope in envelopes)
    ]
    if not signers:
        return OTHER_KEY
    if all(until is not None and entry.seq > until for until in signers):
        return "it is signed with a retired key, after the last entry that may be signed with it"
    if late and None not in signers:
        return (
            "it is signed with a retired key, and was not when this reader saw it first. If you "
            "know that it is right, delete the reader's memory in LYNX_HOME/verified"
        )
    actor, expected = getattr(entry.fact, "actor", None), policy.repository_id
    if expected is not None and isinstance(actor, Actor) and actor.repository_id != expected:
        return (
            f"it is signed for the repository with the id {actor.repository_id!r:.40}, expected "
            f"{expected!r}"
        )
    return None


def _last_place(ledger: Ledger, key: TrustedKey) -> int | None:
    return None if key.until is None else _place(ledger, key.until, "until")


def _place(ledger: Ledger, hashed: str | None, name: str) -> int:
    """The place of the entry with this hash; 0 for None."""
    if hashed is None:
        return 0
    for entry in ledger.entries:
        if entry.hash == hashed:
            return entry.seq
    raise BadInput(
        f"{TABLE}: {name!r}: the ledger has no entry with the hash {hashed}. Either the setting is "
        "of another registry, or entries were removed from this one."
    )
