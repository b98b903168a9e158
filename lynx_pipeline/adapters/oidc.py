"""OIDC: requests this job's token, and proves its signature, lifetime, issuer and audience.

Whatever the environment says, the keys come from the issuer that the policy names: no proxy,
certificate file or redirect from elsewhere is followed. The token is asked for where the
runner says; that needs no trust, as it is verified all the same. No message holds it.
"""

import json
import os
import re
import time
from typing import TYPE_CHECKING, Any, NewType

from lynx_pipeline.domain.release.identity import Claims, Policy
from lynx_pipeline.errors import LynxError, Refused, SystemFailed

if TYPE_CHECKING:
    from jwt import InvalidTokenError, PyJWK

# Nothing is known of it yet but that it is text.
RawToken = NewType("RawToken", str)

LEEWAY_SECONDS = 30
LONGEST_LIFE_SECONDS = 3600
REFRESH_SECONDS = 60.0
KEPT_SECONDS = 3600.0
_FETCH_SECONDS = 10.0
_LONGEST = 1 << 20  # bytes of an issuer's answer
_HEADER = frozenset(("alg", "kid", "typ", "x5t"))
_REFUSAL = (
    "prod is changed only by the CI workflow's verified identity, and no identity was verified: "
)


def verified_claims(policy: Policy) -> Claims:
    """The claims of the token that this job can get.

    Raises:
        Refused: this is no job that gets one, or the token is not what the policy's issuer
            signs for the policy's audience.
        SystemFailed: the issuer could not be asked.
    """
    return verify(request_token(policy.audience), policy)


def request_token(audience: str) -> RawToken:
    """The token of the CI job that this process is part of.

    Raises:
        Refused: it is part of none, or the job may not have one.
    """
    from id import IdentityError, detect_credential

    if not os.environ.get("GITHUB_ACTIONS"):  # the library would go and look for other clouds
        raise _refused("this is no CI job. Promote through the deploy workflow.")
    try:
        token = detect_credential(audience)
    except IdentityError as error:
        secret = os.environ.get("ACTIONS_ID_TOKEN_REQUEST_TOKEN") or "eyJ"
        said = re.sub(r"eyJ[\w.-]*", "...", str(error).replace(secret, "..."))[:300]
        raise _refused(f"{said}. The job needs 'permissions: id-token: write'.") from None
    except Exception as error:  # its HTTP library raises what it likes, with the URL in it
        raise _refused(f"asking for it failed: {type(error).__name__}.") from None
    if token is None:
        raise _refused("this is no CI job. Promote through the deploy workflow.")
    return RawToken(token)


def verify(token: RawToken, policy: Policy) -> Claims:
    """What ``token`` claims, once it is proven to be the issuer's, for us, and for now.

    Raises:
        Refused: it is not.
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
        raise _refused(f"the issuer signs with a key that is no good: {error}") from None
    except jwt.InvalidTokenError as error:
        raise _refused(_explained(error, token, policy)) from None
    except Exception as error:  # whatever a hostile token makes a parser raise
        raise _refused(f"the token can't be read: {type(error).__name__}.") from None
    for name in ("exp", "iat", "nbf"):
        if type(claims[name]) is not int:
            raise _refused(f"claim {name!r}: got {claims[name]!r:.40}, expected whole seconds.")
    life = claims["exp"] - claims["iat"]
    if life > LONGEST_LIFE_SECONDS:
        raise _refused(
            f"claim 'exp': got a life of {life} seconds, expected {LONGEST_LIFE_SECONDS} at most."
        )
    return Claims(claims)


def _check_header(header: dict[str, Any]) -> None:
    if header.get("alg") != "RS256":
        raise _refused(f"header 'alg': got {header.get('alg')!r:.40}, expected 'RS256'.")
    for name in header:
        if name not in _HEADER:  # jwk, jku, x5c, x5u: keys of its own; crit: rules of its own
            raise _refused(f"header {name!r:.40}: expected none but alg, kid, typ and x5t.")
    if not isinstance(header.get("kid"), str) or not header["kid"]:
        raise _refused("header 'kid': expected the id of one of the issuer's keys.")


def _explained(error: "InvalidTokenError", token: RawToken, policy: Policy) -> str:
    """Claim, got and expected. The claims are read unverified, only to be shown."""
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
    """An issuer's signing keys, read when first needed and again after :data:`KEPT_SECONDS`: keys
    are withdrawn. An unknown key id makes them be read again too, at most once in
    :data:`REFRESH_SECONDS`: ids are invented."""

    def __init__(self, issuer: str) -> None:
        self.issuer = issuer
        self.keys: dict[str, PyJWK] = {}
        self.read_at: float | None = None

    def get(self, kid: str) -> "PyJWK":
        """The key with this id.

        Raises:
            Refused: the issuer has none.
            SystemFailed: it could not be asked.
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

        about = _fetch(f"{self.issuer}/.well-known/openid-configuration")
        place = about.get("jwks_uri")
        if about.get("issuer") != self.issuer:
            raise SystemFailed(f"{self.issuer} says that it is {about.get('issuer')!r:.100}.")
        if not isinstance(place, str) or not place.startswith(f"{self.issuer}/"):
            raise SystemFailed(f"{self.issuer} has its keys elsewhere, at {place!r:.100}.")
        listed = _fetch(place).get("keys")
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
                raise SystemFailed(f"{place}: two keys have the id {values['kid']!r:.60}.")
        return keys


_known: dict[str, _Keys] = {}


def _keys(issuer: str) -> _Keys:
    return _known.setdefault(issuer, _Keys(issuer))


def _fetch(url: str) -> dict[str, Any]:
    """A JSON object from exactly this address."""
    import ssl
    import urllib.request
    from http.client import HTTPException

    import certifi

    class NoRedirect(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: Any) -> None:
            """An answer from elsewhere is none."""

    # Not the default context: SSL_CERT_FILE could name another authority for it.
    context = ssl.create_default_context(cafile=certifi.where())
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context), NoRedirect()
    )
    try:
        with opener.open(url, timeout=_FETCH_SECONDS) as answer:
            value = json.loads(answer.read(_LONGEST))
    except (OSError, ValueError, RecursionError, HTTPException) as error:
        raise SystemFailed(
            f"the issuer's keys could not be read from {url}: {' '.join(str(error).split())[:200]}."
        ) from None
    if not isinstance(value, dict):
        raise SystemFailed(f"{url}: expected a JSON object.")
    return value


def _refused(why: str) -> Refused:
    """A refusal on one line: a hostile token's words could be commands to a CI log."""
    line = "".join(c if c.isprintable() else " " for c in why)[:600]
    return Refused(f"{_REFUSAL}{line} Nothing was changed.")
