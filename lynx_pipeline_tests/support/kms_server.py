"""A server that speaks the part of AWS KMS's protocol that signs: real keys, real HTTP."""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from lynx_pipeline_tests.support.http_server import Answer, Request, serving

_HASHES = {"ECDSA_SHA_256": hashes.SHA256(), "ECDSA_SHA_384": hashes.SHA384()}


@dataclass
class Kms:
    """A running service, with keys by their ids. ``requests`` counts the signatures."""

    url: str = ""
    keys: dict[str, ec.EllipticCurvePrivateKey] = field(default_factory=dict)
    requests: int = 0

    def create(self, name: str, curve: ec.EllipticCurve) -> str:
        """Create a key. Returns its public half, as the settings take it."""
        self.keys[name] = ec.generate_private_key(curve)
        der = (
            self.keys[name]
            .public_key()
            .public_bytes(
                serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )
        return base64.b64encode(der).decode()

    def answer(self, request: Request) -> Answer:
        """Sign a digest. Any other request fails."""
        self.requests += 1
        asked = json.loads(request.body)
        key = self.keys.get(asked["KeyId"])
        if key is None or request.headers["X-Amz-Target"] != "TrentService.Sign":
            return _json({"__type": "NotFoundException", "message": "no such key"}, 400)
        assert asked["MessageType"] == "DIGEST"
        algorithm = ec.ECDSA(Prehashed(_HASHES[asked["SigningAlgorithm"]]))
        made = key.sign(base64.b64decode(asked["Message"]), algorithm)
        return _json({**asked, "Signature": base64.b64encode(made).decode()})


def _json(value: object, status: int = 200) -> Answer:
    headers = {"Content-Type": "application/x-amz-json-1.1"}
    return Answer(json.dumps(value).encode(), status, headers)


@contextmanager
def running() -> Iterator[Kms]:
    """A service, for as long as the block runs."""
    it = Kms()
    with serving(it.answer) as it.url:
        yield it
