"""Azure Key Vault: ``sign`` of a digest, over HTTPS, with the token of a managed identity."""

import base64
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature

from lynx_pipeline_tests.support.certificates import certificate, server_context
from lynx_pipeline_tests.support.http_server import Answer, Request, json_answer, serving
from lynx_pipeline_tests.support.key_services import proxy
from lynx_pipeline_tests.support.key_services.service import SECRET, KeyService

HOST = "team-vault.vault.azure.net"
_RESOURCE = "https://vault.azure.net"
_HASHES = {"ES256": hashes.SHA256(), "ES384": hashes.SHA384()}
_VERSION = "0123456789abcdef0123456789abcdef"


@contextmanager
def running(folder: Path) -> Iterator[KeyService]:
    """The service, for as long as the block runs."""
    it = KeyService(
        uri=f"azurekms://{HOST}/keys/{{}}/{_VERSION}",
        denied="KeyNotFound",
        unreachable="Connection refused",
        credentials=("IDENTITY_ENDPOINT",),
    )

    def token(request: Request) -> Answer:
        if request.headers["X-IDENTITY-HEADER"] != SECRET:
            return json_answer({"error": "denied"}, 401)
        return json_answer(
            {
                "access_token": f"token-{SECRET}",
                "expires_on": str(int(time.time()) + 3600),
                "resource": _RESOURCE,
                "token_type": "Bearer",
            }
        )

    def answer(request: Request) -> Answer:
        if request.authorization != f"Bearer token-{SECRET}":
            wanted = f'Bearer authorization="https://127.0.0.1/tenant", resource="{_RESOURCE}"'
            return Answer(b"", 401, {"WWW-Authenticate": wanted})
        _, keys, name, version, *operation = urlsplit(request.target).path.split("/")
        assert (keys, version) == ("keys", _VERSION)
        key = it.curve_key(name)
        if key is None:
            return json_answer({"error": {"code": "KeyNotFound", "message": "no such key"}}, 404)
        kid = f"https://{HOST}/keys/{name}/{version}"
        if not operation:  # the job may sign, and not read keys
            return json_answer({"error": {"code": "Forbidden", "message": "not allowed"}}, 403)
        assert operation == ["sign"]
        asked = json.loads(request.body)
        algorithm = ec.ECDSA(Prehashed(_HASHES[asked["alg"]]))
        size = (key.key_size + 7) // 8
        pair = decode_dss_signature(key.sign(_decoded(asked["value"]), algorithm))
        it.signed += 1
        raw = b"".join(number.to_bytes(size, "big") for number in pair)
        value = base64.urlsafe_b64encode(raw).decode().rstrip("=")
        return json_answer({"kid": kid, "value": value})

    pem = folder / "azure.pem"
    pem.write_bytes(certificate(HOST))
    with (
        serving(token) as identity,
        serving(answer, server_context(pem)) as url,
        proxy.running(urlsplit(url).port or 0) as through,
    ):
        it.environ = {
            "IDENTITY_ENDPOINT": f"{identity}/token",
            "IDENTITY_HEADER": SECRET,
            "HTTPS_PROXY": through,
            "NO_PROXY": "127.0.0.1",
            "REQUESTS_CA_BUNDLE": str(pem),
            "HOME": str(folder),
        }
        it.nowhere = {"HTTPS_PROXY": "http://127.0.0.1:9"}
        yield it


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
