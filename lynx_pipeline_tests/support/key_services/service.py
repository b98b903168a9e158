"""What the services have in common: their keys, and how a job reaches them."""

import base64
from dataclasses import dataclass, field

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
# The credentials of the job. No message may contain them.
SECRET = "precious-secret-key"


@dataclass
class KeyService:
    """A running service. ``uri`` is the form of a key's URI, with ``{}`` for its name. ``denied``:
    what the client's error says about a key that does not exist, and ``unreachable`` if the service
    is down. ``environ`` is what a job needs to reach it, of which ``credentials`` are the secrets,
    and ``nowhere`` what changes while the service is down. ``signed`` counts the signatures."""

    uri: str
    denied: str
    credentials: tuple[str, ...]
    unreachable: str = ""
    environ: dict[str, str] = field(default_factory=dict)
    nowhere: dict[str, str] = field(default_factory=dict)
    keys: dict[str, PrivateKey] = field(default_factory=dict)
    signed: int = 0

    def create(self, name: str, kind: ec.EllipticCurve | None) -> str:
        """Create a key on this curve, or an Ed25519 key. Returns its public half, as the settings
        take it."""
        key: PrivateKey = (
            ed25519.Ed25519PrivateKey.generate() if kind is None else ec.generate_private_key(kind)
        )
        self.keys[name] = key
        der = key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return base64.b64encode(der).decode()

    def curve_key(self, name: str) -> ec.EllipticCurvePrivateKey | None:
        """The key with this name, if it is one on a curve."""
        key = self.keys.get(name)
        return key if isinstance(key, ec.EllipticCurvePrivateKey) else None
