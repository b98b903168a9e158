"""OIDC: requests this job's token and verifies its signature, lifetime, issuer and audience.

The keys come from the issuer that the policy names, whatever the environment says: proxy
variables, certificate variables and redirects are not followed. The token comes from the address
that the runner gives; that needs no trust, since the token is verified. No message contains it.
"""

import json
import os
import re
import time
from typing import TYPE_CHECKING, Any, NewType

from lynx_pipeline.domain.release.identity import Claims, Policy
from lynx_pipeline.domain.release.providers import GITLAB
from lynx_pipeline.errors import LynxError, Refused, SystemFailed

if TYPE_CHECKING:
    from jwt import InvalidTokenError, PyJWK

# A token that has not been verified.
RawToken = NewType("RawToken", str)

GITLAB_VARIABLE = "LYNX_ID_TOKEN"
LEEWAY_SECONDS = 30
LONGEST_LIFE_SECONDS = 3600
REFRESH_SECONDS = 60.0
KEPT_SECONDS = 3600.0
_FETCH_SECONDS = 10.0
_MAX_BYTES = 1 << 20  # of an issuer's response
_ALLOWED_HEADERS = frozenset(("alg", "kid", "typ", "x5t"))
_REFUSAL = (
    "prod is changed only by the CI workflow's verified identity, and no identity was verified: "
)


def verified_claims(policy: Policy) -> Claims:
    """The verified claims of this job's token.

    Raises:
        Refused: this job can't get a token, or the token does not verify against the policy.
        SystemFailed: the issuer's keys could not be read.
    """
    return verify(request_token(policy), policy)


def request_token(policy: Policy) -> RawToken:
    """The token of the CI job that this process is part of.

    Raises:
        Refused: this is not a CI job, or the job may not request a token.
    """
    if policy.provider == GITLAB:
        return _given_token(policy.audience)
    from id import IdentityError, detect_credential

    if not os.environ.get("GITHUB_ACTIONS"):  # the library would try other CI systems and clouds
        raise _refused("this is not a CI job. Promote through the deploy workflow.")
    try:
        token = detect_credential(policy.audience)
    except IdentityError as error:
        secret = os.environ.get("ACTIONS_ID_TOKEN_REQUEST_TOKEN") or "eyJ"
        message = re.sub(r"eyJ[\w.-]*", "...", str(error).replace(secret, "..."))[:300]
        raise _refused(f"{message}. The job needs 'permissions: id-token: write'.") from None
    except Exception as error:  # its HTTP library raises other kinds too, with the URL in them
        raise _refused(
            f"requesting the token failed: {type(error).__name__}. Run the job again."
        ) from None
    if token is None:
        raise _refused("this is not a CI job. Promote through the deploy workflow.")
    return RawToken(token)


def _given_token(audience: str) -> RawToken:
    """The token that GitLab puts into a variable of a job with ``id_tokens``."""
    token = os.environ.get(GITLAB_VARIABLE, "")
    if not token:
        raise _refused(
            f"this is not a job with an identity. Promote through the pipeline, whose job needs "
            f"'id_tokens: {{{GITLAB_VARIABLE}: {{aud: {audience}}}}}'."
        )
    return RawToken(token)


def verify(token: RawToken, policy: Policy) -> Claims:
    """The claims of ``token``, after verifying its signature, issuer, audience and lifetime.

    Raises:
        Refused: the token does not verify.
        SystemFailed: the issuer's keys could not be read.
    """
    import jwt

    try:
        header = jwt.get_unverified_header(token)
        _check_header(header)
        key = _keys(policy.issuer).get(header["kid"])
        claims = jwt.decode(
            token,
            key,
            algorithms=["RS256"],
            audience=policy.audience,
            issuer=policy.issuer,
            leeway=LEEWAY_SECONDS,
            options={
                "require": ["iss", "aud", "sub", "jti", "iat", "nbf", "exp"],
                "strict_aud": True,
                "enforce_minimum_key_length": True,
            },
        )
    except LynxError:
        raise
    except jwt.InvalidKeyError as error:
        raise _refused(f"the issuer has an invalid signing key: {error}") from None
    except jwt.InvalidTokenError as error:
        raise _refused(_explain(error, token, policy)) from None
    except Exception as error:  # a hostile token can make a parser raise anything
        raise _refused(f"the token can't be read: {type(error).__name__}.") from None
    for name in ("exp", "iat", "nbf"):
        if type(claims[name]) is not int:
            raise _refused(f"claim {name!r}: got {claims[name]!r:.40}, expected whole seconds.")
    life = claims["exp"] - claims["iat"]
    if life > LONGEST_LIFE_SECONDS:
        raise _refused(
            f"claim 'exp': got a lifetime of {life} seconds, expected at most "
            f"{LONGEST_LIFE_SECONDS}."
        )
    return Claims(claims)


def _check_header(header: dict[str, Any]) -> None:
    if header.get("alg") != "RS256":
        raise _refused(f"header 'alg': got {header.get('alg')!r:.40}, expected 'RS256'.")
    for name in header:
        # jwk, jku, x5c and x5u would bring the token's own keys, crit its own rules.
        if name not in _ALLOWED_HEADERS:
            raise _refused(f"header {name!r:.40}: expected only alg, kid, typ and x5t.")
    if not isinstance(header.get("kid"), str) or not header["kid"]:
        raise _refused("header 'kid': expected the id of one of the issuer's keys.")


def _explain(error: "InvalidTokenError", token: RawToken, policy: Policy) -> str:
    """The claim that failed, got and expected. Reads the unverified claims, only to show them."""
    import jwt

    expected: tuple[str, str] | None = {
        jwt.InvalidIssuerError: ("iss", repr(policy.issuer)),
        jwt.InvalidAudienceError: ("aud", f"exactly {policy.audience!r}"),
        jwt.ExpiredSignatureError: ("exp", f"a time after {int(time.time())}"),
    }.get(type(error))
    if isinstance(error, jwt.ImmatureSignatureError):
        name = "iat" if "iat" in str(error) else "nbf"
        expected = (name, f"a time before {int(time.time())}")
    if isinstance(error, jwt.MissingRequiredClaimError):
        return f"claim {error.claim!r}: got nothing, expected a value."
    if expected is None:
        return f"{error}."
    try:
        values = jwt.decode(token, options={"verify_signature": False})
    except jwt.InvalidTokenError:
        values = {}
    found = repr(values.get(expected[0]))[:100]
    return f"claim {expected[0]!r}: got {found}, expected {expected[1]}."


class _Keys:
    """An issuer's signing keys, read when first needed. They are read again after
    :data:`KEPT_SECONDS`, since an issuer may withdraw keys; and for an unknown key id, but at most
    once in :data:`REFRESH_SECONDS`, since a hostile token may invent ids."""

    def __init__(self, issuer: str) -> None:
        self.issuer = issuer
        self.keys: dict[str, PyJWK] = {}
        self.read_at: float | None = None

    def get(self, kid: str) -> "PyJWK":
        """The key with this id.

        Raises:
            Refused: the issuer has no such key.
            SystemFailed: the issuer's keys could not be read.
        """
        now = time.monotonic()
        age = float("inf") if self.read_at is None else now - self.read_at
        if age >= (KEPT_SECONDS if kid in self.keys else REFRESH_SECONDS):
            self.keys = self._read()
            self.read_at = now
        if kid not in self.keys:
            raise _refused(
                f"header 'kid': got {kid[:60]!r}, expected one of {self.issuer}'s keys: "
                f"{', '.join(sorted(self.keys)) or 'it has none'}."
            )
        return self.keys[kid]

    def _read(self) -> dict[str, "PyJWK"]:
        from jwt import PyJWK, PyJWTError

        address = f"{self.issuer}/.well-known/openid-configuration"
        configuration = _fetch(address)
        if configuration.get("issuer") != self.issuer:
            raise SystemFailed(
                f"{address}: got the issuer {configuration.get('issuer')!r:.100}, expected "
                f"{self.issuer!r}. Check the issuer in pyproject.toml."
            )
        jwks_uri = configuration.get("jwks_uri")
        if not isinstance(jwks_uri, str) or not jwks_uri.startswith(f"{self.issuer}/"):
            raise SystemFailed(
                f"{address}: got the jwks_uri {jwks_uri!r:.100}, expected an address under "
                f"{self.issuer}/. Check the issuer in pyproject.toml."
            )
        listed = _fetch(jwks_uri).get("keys")
        keys: dict[str, PyJWK] = {}
        for values in listed if isinstance(listed, list) else []:
            usable = isinstance(values, dict) and values.get("use", "sig") == "sig"
            if not usable or values.get("kty") != "RSA" or "d" in values:
                continue
            if values.get("alg", "RS256") != "RS256" or not isinstance(values.get("kid"), str):
                continue
            try:
                key = PyJWK.from_dict(values, "RS256")
            except PyJWTError:
                continue
            if keys.setdefault(values["kid"], key) is not key:
                raise SystemFailed(
                    f"{jwks_uri}: duplicate key id {values['kid']!r:.60}, expected unique ids. Run "
                    "the job again; if this persists, contact the issuer."
                )
        return keys


_known: dict[str, _Keys] = {}


def _keys(issuer: str) -> _Keys:
    return _known.setdefault(issuer, _Keys(issuer))


def _fetch(url: str) -> dict[str, Any]:
    """The JSON object at exactly this address."""
    import ssl
    import urllib.request
    from http.client import HTTPException

    import certifi

    class NoRedirect(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: Any) -> None:
            """Redirects are not followed."""

    # The default context would trust the authorities that SSL_CERT_FILE names.
    context = ssl.create_default_context(cafile=certifi.where())
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context), NoRedirect()
    )
    try:
        with opener.open(url, timeout=_FETCH_SECONDS) as response:
            value = json.loads(response.read(_MAX_BYTES))
    except (OSError, ValueError, RecursionError, HTTPException) as error:
        reason = " ".join(str(error).split())[:200]
        raise SystemFailed(
            f"the issuer's keys could not be read from {url}: {reason}. Run the job again."
        ) from None
    if not isinstance(value, dict):
        raise SystemFailed(
            f"the issuer's keys could not be read from {url}: expected a JSON object. Run the job "
            "again."
        )
    return value


def _refused(why: str) -> Refused:
    """A refusal on one line: text from a hostile token could contain commands to the CI runner."""
    line = "".join(c if c.isprintable() else " " for c in why)[:600]
    return Refused(f"{_REFUSAL}{line}")
