"""Which witnesses a reader requires, from its own settings.

A witness is another machine that signs how far it has seen the ledger. Its key has the form of a
verifier key of https://c2sp.org/signed-note: ``<name>+<key id>+<base64 of the type and the key>``,
where the type of an Ed25519 cosignature is 4. How its checkpoints are checked is in
:mod:`lynx_pipeline.domain.ledger.witnesses`.
"""

import base64
import hashlib
import re
from dataclasses import dataclass

_TYPE = b"\x04"
_BYTES = 32
# Part of a git ref and of a file's name, as the model's name is.
NAME = re.compile(r"[A-Za-z0-9](?!.*(?:\.\.|\.lock\b))(?:[A-Za-z0-9._-]*[A-Za-z0-9_-])?")
NAME_FORM = "letters, digits, '.', '_' and '-', starting with a letter or digit"


@dataclass(frozen=True, slots=True)
class WitnessKey:
    """A witness's name, and the 32 bytes of its public Ed25519 key. Its text is a verifier key."""

    name: str
    public: bytes

    @property
    def key_id(self) -> bytes:
        """Four bytes that tell keys apart. They prove nothing."""
        return hashlib.sha256(self.name.encode() + b"\n" + _TYPE + self.public).digest()[:4]

    def __str__(self) -> str:
        material = base64.b64encode(_TYPE + self.public).decode()
        return f"{self.name}+{self.key_id.hex()}+{material}"


@dataclass(frozen=True, slots=True)
class WitnessPolicy:
    """``[tool.lynx_pipeline.witnesses]``: ``required`` of the witnesses with these ``keys`` must
    have signed the ledger at most ``max_age_hours`` ago. Without keys, none is required."""

    keys: tuple[WitnessKey, ...] = ()
    required: int = 0
    max_age_hours: float = 0.0


def parse_key(text: str) -> WitnessKey:
    """The key that the verifier key ``text`` contains.

    Raises:
        ValueError: it is not one of an Ed25519 cosignature.
    """
    name, _, rest = text.partition("+")
    _, _, material = rest.partition("+")
    if not NAME.fullmatch(name):
        raise ValueError(f"its name is not one: {NAME_FORM}")
    try:
        raw = base64.b64decode(material, validate=True)
    except ValueError:
        raise ValueError("its last part is not base64") from None
    if len(raw) != 1 + _BYTES or not raw.startswith(_TYPE):
        raise ValueError("its last part is not the type 4 and a key of 32 bytes")
    key = WitnessKey(name, raw[1:])
    if str(key) != text:
        raise ValueError(f"its key id is not {key.key_id.hex()}, that of this name and key")
    return key
