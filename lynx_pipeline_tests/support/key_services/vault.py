"""HashiCorp Vault: ``sign`` of the transit secrets engine, over HTTP."""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from lynx_pipeline_tests.support.http_server import Answer, Request, json_answer, serving
from lynx_pipeline_tests.support.key_services.service import SECRET, KeyService, PrivateKey

_PLACE = "/v1/transit/sign/"


@contextmanager
def running(folder: Path) -> Iterator[KeyService]:
    """The service, for as long as the block runs."""
    it = KeyService(
        uri="hv:{}/1",
        denied="signing key not found",
        unreachable="Connection refused",
        credentials=("VAULT_TOKEN",),
    )

    def answer(request: Request) -> Answer:
        if request.headers["X-Vault-Token"] != SECRET:
            return _refused(403, "permission denied")
        assert request.method in ("POST", "PUT")
        assert request.target.startswith(_PLACE)
        asked = json.loads(request.body)
        key = it.keys.get(request.target.removeprefix(_PLACE))
        if key is None:
            return _refused(400, "signing key not found")
        assert asked.get("key_version") == 1
        made = _signature(key, base64.b64decode(asked["input"]))
        it.signed += 1
        text = base64.b64encode(made).decode()
        return json_answer({"data": {"key_version": 1, "signature": f"vault:v1:{text}"}})

    with serving(answer) as url:
        it.environ = {"VAULT_ADDR": url, "VAULT_TOKEN": SECRET, "HOME": str(folder)}
        it.nowhere = {"VAULT_ADDR": "http://127.0.0.1:9"}
        yield it


def _signature(key: PrivateKey, message: bytes) -> bytes:
    """As Vault signs by default: with SHA-256, whatever the curve is."""
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(message, ec.ECDSA(hashes.SHA256()))
    return key.sign(message)


def _refused(status: int, error: str) -> Answer:
    return json_answer({"errors": [error]}, status)
