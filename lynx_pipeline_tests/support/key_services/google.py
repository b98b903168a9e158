"""Google Cloud KMS: ``AsymmetricSign`` of a digest, over gRPC with TLS, with a service account."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import grpc
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from google.cloud.kms_v1.types import AsymmetricSignRequest, AsymmetricSignResponse

from lynx_pipeline_tests.support.certificates import certificate
from lynx_pipeline_tests.support.key_services import proxy
from lynx_pipeline_tests.support.key_services.service import KeyService

HOST = "cloudkms.googleapis.com"
_PLACE = "projects/team/locations/europe/keyRings/ring/cryptoKeys/{}/cryptoKeyVersions/1"
_HASHES = {"sha256": hashes.SHA256(), "sha384": hashes.SHA384()}


@contextmanager
def running(folder: Path) -> Iterator[KeyService]:
    """The service, for as long as the block runs."""
    it = KeyService(
        uri=f"gcpkms:{_PLACE}",
        denied="NotFound",
        credentials=("GOOGLE_APPLICATION_CREDENTIALS",),
    )

    def sign(raw: bytes, context: grpc.ServicerContext) -> bytes:
        metadata = dict(context.invocation_metadata())
        if not str(metadata.get("authorization", "")).startswith("Bearer "):
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "no token")
        asked = AsymmetricSignRequest.deserialize(raw)
        head, _, _ = asked.name.rpartition("/cryptoKeyVersions/")
        key = it.curve_key(head.rpartition("/")[2])
        if key is None:
            return bytes(context.abort(grpc.StatusCode.NOT_FOUND, f"no such key {asked.name}"))
        kind = asked.digest._pb.WhichOneof("digest")
        algorithm = ec.ECDSA(Prehashed(_HASHES[kind]))
        it.signed += 1
        made = AsymmetricSignResponse(signature=key.sign(getattr(asked.digest, kind), algorithm))
        return bytes(AsymmetricSignResponse.serialize(made))

    method = grpc.unary_unary_rpc_method_handler(sign)
    name = "google.cloud.kms.v1.KeyManagementService"
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(name, {"AsymmetricSign": method}),)
    )
    key, marker, public = _pem().partition(b"-----BEGIN CERTIFICATE")
    roots, account = folder / "google.pem", folder / "account.json"
    roots.write_bytes(marker + public)
    account.write_text(json.dumps(_account()))
    port = server.add_secure_port(
        "127.0.0.1:0", grpc.ssl_server_credentials([(key, marker + public)])
    )
    server.start()
    try:
        with proxy.running(port) as through:
            it.environ = {
                "GOOGLE_APPLICATION_CREDENTIALS": str(account),
                "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(roots),
                "https_proxy": through,
                "no_proxy": "iamcredentials.googleapis.com",  # asked in the background, not needed
                "HOME": str(folder),
            }
            yield it
    finally:
        server.stop(1).wait()  # otherwise clients print that calls were cancelled


@cache
def _pem() -> bytes:
    """One for the whole process, since the client reads its roots only once."""
    return certificate(HOST)


def _account() -> dict[str, str]:
    """A service account, which makes its tokens itself."""
    key = rsa.generate_private_key(65537, 2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return {
        "type": "service_account",
        "project_id": "team",
        "private_key_id": "1",
        "private_key": pem.decode(),
        "client_email": "deploy@team.iam.gserviceaccount.com",
        "client_id": "1",
        "token_uri": "http://127.0.0.1:9/token",
    }
