"""AWS KMS: ``Sign`` of a digest, over HTTP."""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from lynx_pipeline_tests.support.http_server import Answer, Request, json_answer, serving
from lynx_pipeline_tests.support.key_services.service import SECRET, KeyService

_HASHES = {"ECDSA_SHA_256": hashes.SHA256(), "ECDSA_SHA_384": hashes.SHA384()}


@contextmanager
def running(folder: Path) -> Iterator[KeyService]:
    """The service, for as long as the block runs."""
    it = KeyService(
        uri="awskms:{}",
        denied="NotFoundException",
        unreachable="EndpointConnectionError",
        credentials=("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
    )

    def answer(request: Request) -> Answer:
        asked = json.loads(request.body)
        key = it.curve_key(asked["KeyId"])
        if key is None or request.headers["X-Amz-Target"] != "TrentService.Sign":
            return json_answer({"__type": "NotFoundException", "message": "no such key"}, 400)
        assert asked["MessageType"] == "DIGEST"
        algorithm = ec.ECDSA(Prehashed(_HASHES[asked["SigningAlgorithm"]]))
        made = key.sign(base64.b64decode(asked["Message"]), algorithm)
        it.signed += 1
        return json_answer({**asked, "Signature": base64.b64encode(made).decode()})

    with serving(answer) as url:
        it.environ = {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "somebody",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "eu-west-1",
            "AWS_MAX_ATTEMPTS": "1",
            "HOME": str(folder),
        }
        it.nowhere = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}
        yield it
