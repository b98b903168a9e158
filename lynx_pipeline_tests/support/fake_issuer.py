"""A GitHub-like OIDC issuer on this machine: real RSA keys, real tokens, real HTTP.

:func:`claims` and :func:`policy` fit each other: a token with these claims satisfies the policy
for the checked-out commit :data:`COMMIT`. Tests pass changes to both.
"""

import base64
import hashlib
import hmac
import json
import ssl
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from lynx_pipeline.adapters.oidc import RawToken
from lynx_pipeline.domain.release.identity import Policy
from lynx_pipeline_tests.support.builders import JsonObject
from lynx_pipeline_tests.support.http_server import Answer, json_answer, serving
from lynx_pipeline_tests.support.signing import RELEASE, private_pem, signatures_table

Signer = Callable[[bytes], bytes]

ISSUER = "https://token.actions.githubusercontent.com"
GITLAB = "https://gitlab.example.com"
AUDIENCE = "lynx-pipeline"
COMMIT = "c0ffee" + "0" * 34
REPOSITORY = "octo-org/octo-repo"
WORKFLOW = ".github/workflows/deploy.yml"
MAIN = "refs/heads/main"
WORKFLOW_REF = f"{REPOSITORY}/{WORKFLOW}@{MAIN}"
KID = "key-1"
# The new value of a claim or header that is to be removed.
REMOVED = object()
# The token with which a job requests its identity token, and as secret.
BEARER = "eyJhbGciOiJub25lIn0.eyJzY29wZSI6InNlY3JldCJ9.c2VjcmV0LXNlY3JldC1zZWNyZXQ"

CONFIGURATION = "/.well-known/openid-configuration"
KEYS = "/keys"
TOKEN = "/token"


# ----- policy and claims ----------------------------------------------------------------------


def policy(**changes: Any) -> Policy:
    """A policy that pins everything; ``changes`` replace its fields."""
    values: JsonObject = {
        "issuer": ISSUER,
        "audience": AUDIENCE,
        "repository_id": "74",
        "repository_owner_id": "65",
        "workflow": WORKFLOW,
        "environment": "production",
        "events": ("workflow_dispatch", "issue_comment"),
    }
    return Policy(**{**values, **changes})


def policy_table(it: Policy) -> str:
    """The policy as the table of a ``pyproject.toml``, and that of the key of the workflow that it
    names."""
    # A JSON text or list of texts is TOML as well.
    values = {field.name: getattr(it, field.name) for field in fields(Policy)}
    lines = [f"{name} = {json.dumps(value)}\n" for name, value in values.items() if value]
    return f"[tool.lynx_pipeline.identity]\n{''.join(lines)}\n{signatures_table(RELEASE)}"


def claims(**changes: Any) -> JsonObject:
    """Every claim that GitHub documents for a job, valid for five minutes; ``changes`` replace
    claims, or remove them (:data:`REMOVED`)."""
    now = int(time.time())
    values: JsonObject = {
        "jti": str(uuid.uuid4()),
        "sub": f"repo:{REPOSITORY}:environment:production",
        "aud": AUDIENCE,
        "ref": MAIN,
        "sha": COMMIT,
        "repository": REPOSITORY,
        "repository_owner": "octo-org",
        "repository_id": "74",
        "repository_owner_id": "65",
        "actor": "octocat",
        "actor_id": "12",
        "run_id": "9876543210",
        "run_number": "10",
        "run_attempt": "2",
        "event_name": "workflow_dispatch",
        "ref_type": "branch",
        "workflow": "deploy",
        "workflow_ref": WORKFLOW_REF,
        "workflow_sha": COMMIT,
        "job_workflow_ref": WORKFLOW_REF,
        "job_workflow_sha": COMMIT,
        "runner_environment": "github-hosted",
        "environment": "production",
        "iss": ISSUER,
        "iat": now,
        "nbf": now,
        "exp": now + 300,
    }
    return _changed(values, changes)


def gitlab_policy(**changes: Any) -> Policy:
    """Like :func:`policy`, for a project on GitLab."""
    values: JsonObject = {
        "provider": "gitlab",
        "issuer": GITLAB,
        "workflow": ".gitlab-ci.yml",
        "events": ("web", "api"),
        "runner_environment": "self-hosted",
    }
    return policy(**{**values, **changes})


def gitlab_claims(**changes: Any) -> JsonObject:
    """Every claim that GitLab documents for a job with an environment, valid for five minutes."""
    now = int(time.time())
    issuer = changes.get("iss", GITLAB)
    host = issuer.partition("://")[2] if isinstance(issuer, str) else ""
    values: JsonObject = {
        "jti": str(uuid.uuid4()),
        "sub": f"project_path:{REPOSITORY}:ref_type:branch:ref:main",
        "aud": AUDIENCE,
        "iss": GITLAB,
        "iat": now,
        "nbf": now - 5,
        "exp": now + 300,
        "namespace_id": "65",
        "namespace_path": "octo-org",
        "project_id": "74",
        "project_path": REPOSITORY,
        "project_visibility": "private",
        "user_id": "12",
        "user_login": "octocat",
        "user_email": "octocat@example.com",
        "user_access_level": "maintainer",
        "user_identities": [{"provider": "github", "extern_uid": "2435223452345"}],
        "groups_direct": ["octo-org", "octo-org/ml"],
        "pipeline_id": "9876543210",
        "pipeline_source": "web",
        "job_id": "302",
        "ref": "main",
        "ref_type": "branch",
        "ref_path": MAIN,
        "ref_protected": "true",
        "environment": "production",
        "environment_protected": "false",
        "environment_action": "start",
        "deployment_tier": "production",
        "runner_id": 1,
        "runner_environment": "self-hosted",
        "sha": COMMIT,
        "ci_config_ref_uri": f"{host}/{REPOSITORY}//.gitlab-ci.yml@{MAIN}",
        "ci_config_sha": COMMIT,
    }
    return _changed(values, changes)


def _changed(values: JsonObject, changes: Mapping[str, Any]) -> JsonObject:
    return {k: v for k, v in {**values, **changes}.items() if v is not REMOVED}


# ----- keys and signatures --------------------------------------------------------------------


def key(name: str = KID, bits: int = 2048) -> rsa.RSAPrivateKey:
    """The private key of this name; a process always gets the same one."""
    return _made(name, bits)


@cache
def _made(name: str, bits: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def jwk(name: str = KID, bits: int = 2048, **changes: Any) -> JsonObject:
    """The public half of the key ``name``, as an issuer lists it, with ``changes``."""
    numbers = key(name, bits).public_key().public_numbers()
    values = {"kid": KID, "kty": "RSA", "use": "sig", "alg": "RS256"}
    return _changed({**values, "n": number(numbers.n), "e": number(numbers.e)}, changes)


def number(value: int) -> str:
    """A number as a JWK encodes it."""
    return base64url(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def public_pem(name: str = KID) -> bytes:
    """The public half of the key ``name`` as PEM."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key(name).public_key().public_bytes(serialization.Encoding.PEM, form)


def rs(name: str = KID, bits: int = 2048, sha: hashes.HashAlgorithm | None = None) -> Signer:
    """Signs as RS256 does, or with a different hash."""
    return lambda data: key(name, bits).sign(data, padding.PKCS1v15(), sha or hashes.SHA256())


def ps256(data: bytes) -> bytes:
    """Signs as PS256 does, with the issuer's key."""
    return key().sign(data, padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())


def hs256(secret: bytes) -> Signer:
    """Signs as HS256 does."""
    return lambda data: hmac.new(secret, data, hashlib.sha256).digest()


def unsigned(_: bytes) -> bytes:
    """An empty signature."""
    return b""


def base64url(raw: bytes) -> str:
    """Base64url without padding, as tokens use it."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def mint(header: Any, payload: Any, sign: Signer) -> RawToken:
    """A token of two JSON values, or of bytes that need not be JSON."""
    parts = [p if isinstance(p, bytes) else json.dumps(p).encode() for p in (header, payload)]
    signed = ".".join(map(base64url, parts))
    return RawToken(f"{signed}.{base64url(sign(signed.encode()))}")


# ----- the server -----------------------------------------------------------------------------


@dataclass
class FakeIssuer:
    """A running issuer. ``keys`` are the keys that it lists; ``answers`` replace its responses by
    path; ``changes`` go into every token that it issues, unless ``token_to_give`` is set."""

    url: str
    keys: list[JsonObject] = field(default_factory=lambda: [jwk()])
    answers: dict[str, Answer] = field(default_factory=dict)
    changes: JsonObject = field(default_factory=dict)
    token_to_give: str | None = None
    requested_paths: list[str] = field(default_factory=list)

    def token(
        self, header: Mapping[str, Any] | None = None, sign: Signer | None = None, **changes: Any
    ) -> RawToken:
        """A valid token, with ``changes`` to its claims, its header or its signature."""
        values = {"alg": "RS256", "kid": KID, "typ": "JWT", "x5t": "c29tZQ"}
        return mint(_changed(values, header or {}), self.claims(**changes), sign or rs())

    def claims(self, **changes: Any) -> JsonObject:
        """:func:`claims` of this issuer."""
        return claims(**{"iss": self.url, **changes})

    def policy(self, **changes: Any) -> Policy:
        """:func:`policy` that trusts this issuer."""
        return policy(**{"issuer": self.url, **changes})

    def table(self, **changes: Any) -> str:
        """:meth:`policy` as tables of a ``pyproject.toml``: see :func:`policy_table`."""
        return policy_table(self.policy(**changes))

    @property
    def job(self) -> dict[str, str]:
        """The environment variables of a CI job that may request a token, and sign."""
        return {
            "GITHUB_ACTIONS": "true",
            "ACTIONS_ID_TOKEN_REQUEST_URL": f"{self.url}{TOKEN}?api-version=2.0",
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN": BEARER,
            "LYNX_SIGNING_KEY": private_pem(),
        }

    @property
    def key_reads(self) -> int:
        """How often the keys were read."""
        return self.requested_paths.count(KEYS)

    def answer(self, target: str, authorization: str) -> Answer:
        """The response at this path."""
        place = urlsplit(target)
        self.requested_paths.append(place.path)
        if place.path in self.answers:
            return self.answers[place.path]
        match place.path:
            case "/.well-known/openid-configuration":
                return json_answer({"issuer": self.url, "jwks_uri": f"{self.url}{KEYS}"})
            case "/keys":
                return json_answer({"keys": self.keys})
            case "/token" if authorization.lower() == f"bearer {BEARER}".lower():
                (audience,) = parse_qs(place.query)["audience"]
                made = self.token_to_give or self.token(**{"aud": audience, **self.changes})
                return json_answer({"count": 1, "value": made})
            case "/token":
                return Answer(b'{"message": "not authorized"}', 401)
        return Answer(b"nothing here", 404)


@contextmanager
def running(tls: ssl.SSLContext | None = None) -> Iterator[FakeIssuer]:
    """An issuer for as long as the block runs."""
    with serving(lambda it: issuer.answer(it.target, it.authorization), tls) as url:
        issuer = FakeIssuer(url)
        yield issuer
