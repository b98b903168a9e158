"""The key of this machine as a witness: a private Ed25519 key in PEM, in ``LYNX_WITNESS_KEY``.

Only the environment gives it, so it is in no file, argument or log, and git does not get it.
"""

import os
from typing import TYPE_CHECKING

from lynx_pipeline.domain.ledger.tree_head import Cosigned, TreeHead, note, read_note, to_cosign
from lynx_pipeline.domain.ledger.witnesses import TABLE
from lynx_pipeline.domain.release.witnesses import NAME, NAME_FORM, WitnessKey, WitnessPolicy
from lynx_pipeline.errors import BadInput

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

VARIABLE = "LYNX_WITNESS_KEY"
_EXPECTED = (
    "a private Ed25519 key in PEM without a passphrase ('openssl genpkey -algorithm ed25519')"
)


def verifier_key(name: str) -> WitnessKey:
    """The public half of this machine's key, under this name.

    Raises:
        BadInput: the variable is not set, or its value is not such a key; or the name is not one.
    """
    if not NAME.fullmatch(name):
        raise BadInput(f"the name of a witness: expected {NAME_FORM}, found {name!r:.80}.")
    return WitnessKey(name, _private().public_key().public_bytes_raw())


def choose_key(policy: WitnessPolicy) -> WitnessKey:
    """The key in the settings that is this machine's.

    Raises:
        BadInput: likewise, or it is none of them.
    """
    public = _private().public_key().public_bytes_raw()
    for key in policy.keys:
        if key.public == public:
            return key
    raise BadInput(
        f"the key in {VARIABLE} is none of those in {TABLE}. Add its line to 'keys' there: "
        "'lynx-pipeline registry witness --show-key NAME' prints it."
    )


def cosign(head: TreeHead, key: WitnessKey, time: int) -> tuple[bytes, Cosigned]:
    """The signed checkpoint, and what readers will find in it."""
    signature = _private().sign(to_cosign(head.body, time))
    made = note(head.body, key, time, signature)
    return made, read_note(made, key)


def _private() -> "Ed25519PrivateKey":
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    given = os.environ.get(VARIABLE, "").strip()
    if not given:
        raise BadInput(f"{VARIABLE} is not set: expected {_EXPECTED}.")
    try:
        private = load_pem_private_key(given.encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        private = None
    if not isinstance(private, Ed25519PrivateKey):
        raise BadInput(f"{VARIABLE}: expected {_EXPECTED}. Its value is not shown.")
    return private
