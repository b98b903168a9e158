"""Tokens of a real issuer over HTTP: valid ones verify, and every attack is refused."""

import json
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes

from lynx_pipeline.adapters import oidc
from lynx_pipeline.adapters.oidc import RawToken, verified_claims, verify
from lynx_pipeline.domain.release.identity import Claims, check_identity
from lynx_pipeline.errors import Refused
from lynx_pipeline_tests.adapters.tokens import refusal, without_secrets
from lynx_pipeline_tests.fuzz_faults import mutated
from lynx_pipeline_tests.support import fake_issuer
from lynx_pipeline_tests.support.builders import JsonObject
from lynx_pipeline_tests.support.fake_issuer import (
    AUDIENCE,
    COMMIT,
    CONFIGURATION,
    KEYS,
    KID,
    REMOVED,
    TOKEN,
    FakeIssuer,
    hs256,
    jwk,
    mint,
    ps256,
    public_pem,
    rs,
    running,
    unsigned,
)

pytestmark = pytest.mark.usefixtures("fresh")
HEADER = {"alg": "RS256", "kid": KID, "typ": "JWT"}


# ----- tokens that verify ---------------------------------------------------------------------


def test_a_good_token_verifies(issuer: FakeIssuer) -> None:
    """All its claims are returned, and the policy accepts them."""
    claims = issuer.claims()
    found = verify(mint(HEADER, claims, rs()), issuer.policy())
    assert found == Claims(claims)
    assert check_identity(issuer.policy(), found, COMMIT).jti == claims["jti"]


def test_the_jobs_own_token_is_requested_and_verified(
    issuer: FakeIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is requested once, for the policy's audience, and the keys are read once."""
    for name, value in issuer.job.items():
        monkeypatch.setenv(name, value)
    found = verified_claims(issuer.policy(audience="another audience"))
    assert found.values["aud"] == "another audience"
    assert issuer.requested_paths == [TOKEN, CONFIGURATION, KEYS]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"exp": -25, "iat": -300, "nbf": -300}, id="expired 25 seconds ago"),
        pytest.param({"nbf": 25}, id="valid in 25 seconds"),
        pytest.param({"iat": 25}, id="issued in 25 seconds"),
        pytest.param({"iat": -10, "exp": 3590}, id="lifetime of an hour"),
    ],
)
def test_clocks_may_differ_slightly(issuer: FakeIssuer, changes: dict[str, int]) -> None:
    """A difference of less than half a minute is accepted."""
    verify(issuer.token(**from_now(changes)), issuer.policy())


# ----- tokens that are refused ----------------------------------------------------------------

Attack = Callable[[FakeIssuer], str]


def header(sign: fake_issuer.Signer | None = None, **changes: Any) -> Attack:
    """A good token with these header fields."""
    return lambda issuer: issuer.token(changes, sign)


def claim(**changes: Any) -> Attack:
    """A good token with these claims."""
    return lambda issuer: issuer.token(**changes)


def later(**seconds: float) -> Attack:
    """A good token with these times, in seconds from now."""
    return lambda issuer: issuer.token(**from_now(seconds))


def from_now(seconds: Mapping[str, float]) -> JsonObject:
    """Times in whole seconds, given in seconds from now."""
    return {name: int(time.time() + value) for name, value in seconds.items()}


def as_other(form: type, name: str) -> Attack:
    """A good token with one claim converted to a different type."""
    return lambda issuer: issuer.token(**{name: form(issuer.claims()[name])})


def payload(value: Any) -> Attack:
    """A correctly signed token with any payload."""
    return lambda issuer: mint(HEADER, value, rs())


STRANGE_HEADERS: JsonObject = {
    "jwk": jwk("evil"),
    "jku": "http://127.0.0.1:1/keys",
    "x5c": ["MIIB"],
    "x5u": "http://127.0.0.1:1/cert",
    "x5t#S256": "c29tZQ",
    "b64": True,
    "cty": "JWT",
    "zip": "DEF",
    "enc": "A256GCM",
    "": "x",
    "x" * 9999: "x",
}

ATTACKS: dict[str, tuple[Attack, str]] = {
    "HS256 with the public key": (
        header(hs256(public_pem()), alg="HS256"),
        "header 'alg': got 'HS256', expected 'RS256'",
    ),
    "HS256 with the public key, declared as RS256": (
        header(hs256(public_pem())),
        "Signature verification failed",
    ),
    "HS256 with an empty key": (header(hs256(b""), alg="HS256"), "header 'alg': got 'HS256'"),
    "alg none": (header(unsigned, alg="none"), "header 'alg': got 'none'"),
    "alg None, signed": (header(alg="None"), "header 'alg': got 'None'"),
    "RS256 unsigned": (header(unsigned), "Signature verification failed"),
    "null alg": (header(alg=None), "header 'alg': got None"),
    "no alg": (header(alg=REMOVED), "header 'alg': got None"),
    "alg in lower case": (header(alg="rs256"), "header 'alg': got 'rs256'"),
    "a list of algs": (header(alg=["RS256"]), "header 'alg': got \\['RS256'\\]"),
    "RS384": (header(rs(sha=hashes.SHA384()), alg="RS384"), "header 'alg': got 'RS384'"),
    "RS384 declared as RS256": (header(rs(sha=hashes.SHA384())), "Signature verification failed"),
    "PS256": (header(ps256, alg="PS256"), "header 'alg': got 'PS256'"),
    "PS256 declared as RS256": (header(ps256), "Signature verification failed"),
    "long alg": (header(alg="R" * 9999), "header 'alg': got 'RRR"),
    "different key under our kid": (header(rs("evil")), "Signature verification failed"),
    "unknown kid": (header(rs("evil"), kid="evil"), "header 'kid': got 'evil', expected one of"),
    "long kid": (header(kid="k" * 9999), "header 'kid': got 'k{60}', expected one of"),
    "no kid": (header(kid=REMOVED), "header 'kid': expected the id"),
    "empty kid": (header(kid=""), "header 'kid': expected the id"),
    "our kid in a list": (header(kid=[KID]), "Key ID header parameter must be a string"),
    "number for a kid": (header(kid=1), "Key ID header parameter must be a string"),
    "null kid": (header(kid=None), "Key ID header parameter must be a string"),
    **{
        f"header {name[:9]!r}": (header(rs("evil"), **{name: value}), f"header '{name[:9]}.*only")
        for name, value in STRANGE_HEADERS.items()
    },
    "critical header": (header(crit=["exp"]), "critical extension"),
    "critical header that is missing": (header(crit=["b64"]), "missing from headers"),
    "empty list of critical headers": (header(crit=[]), "'crit' header"),
    "unencoded payload": (header(b64=False, crit=["b64"]), "must be empty when 'b64' is false"),
    "list of our audience": (claim(aud=[AUDIENCE]), "claim 'aud': got .*, expected exactly"),
    "list of audiences": (claim(aud=["x", AUDIENCE]), "claim 'aud': got .*, expected exactly"),
    "different audience": (claim(aud="x"), f"claim 'aud': got 'x', expected exactly '{AUDIENCE}'"),
    "longer audience": (claim(aud=f"{AUDIENCE}2"), "claim 'aud': got 'lynx-pipeline2'"),
    "number for an audience": (claim(aud=7), "claim 'aud': got 7"),
    "empty audience": (claim(aud=""), "claim 'aud': got nothing"),
    **{
        f"{name} {how}": (claim(**{name: value}), f"claim '{name}': got nothing, expected a value")
        for name in ("iss", "aud", "sub", "jti", "iat", "nbf", "exp")
        for how, value in (("missing", REMOVED), ("null", None))
    },
    "number for a jti": (claim(jti=7), "JWT ID must be a string"),
    "number for a subject": (claim(sub=7), "Subject must be a string"),
    "expired": (later(exp=-31, iat=-300, nbf=-300), "claim 'exp': got .*, expected a time after"),
    "expired long ago": (later(exp=-9e8, iat=-9e8, nbf=-9e8), "claim 'exp'"),
    "not yet valid": (later(nbf=35), "claim 'nbf': got .*, expected a time before"),
    "not yet issued": (later(iat=35), "claim 'iat': got .*, expected a time before"),
    "lives longer than an hour": (
        later(iat=0, exp=3601),
        "claim 'exp': got a lifetime of 360[12] seconds, expected at most 3600",
    ),
    "has lived longer than an hour": (later(iat=-3500, nbf=-3500, exp=200), "a lifetime of 370"),
    "never expires": (claim(exp=10**18), "a lifetime of"),
    "infinite exp": (claim(exp=float("inf")), "must be an integer"),
    "exp that is not a number": (claim(exp=float("nan")), "must be an integer"),
    **{
        f"{name} as {form.__name__}": (
            as_other(form, name),
            f"claim '{name}': got .*, expected whole seconds",
        )
        for name in ("iat", "nbf", "exp")
        for form in (str, float)
    },
    "true for iat": (claim(iat=True), "claim 'iat': got True, expected whole seconds"),
    "a list for exp": (claim(exp=[1]), "must be an integer"),
    "different issuer": (claim(iss="https://evil.example"), "claim 'iss': got 'https://evil"),
    "issuer with a slash": (
        lambda issuer: issuer.token(iss=f"{issuer.url}/"),
        "claim 'iss': got 'http://127.0.0.1:\\d+/', expected 'http://127.0.0.1:\\d+'",
    ),
    "list of our issuer": (lambda issuer: issuer.token(iss=[issuer.url]), "claim 'iss': got \\["),
    "long issuer": (claim(iss="i" * 9999), "claim 'iss': got 'iii"),
    "empty": (lambda _: "", "segments"),
    "a dot": (lambda _: ".", "segments"),
    "dots": (lambda _: "..", "header"),
    "many dots": (lambda _: "." * 9999, "Invalid"),
    "letters": (lambda _: "a.b.c", "Invalid header"),
    "a megabyte": (lambda _: "A" * 1_000_000, "segments"),
    "a megabyte of header": (lambda _: f"{'A' * 1_000_000}.e30.AA", "Invalid header"),
    "not ASCII": (lambda _: "é.ü.ß", "Invalid header"),
    "half a character": (lambda _: "\ud800.a.b", "can't be read: UnicodeEncodeError"),
    "NUL": (lambda issuer: f"{issuer.token()}\0", "Invalid crypto"),
    "end of line": (lambda issuer: f"{issuer.token()}\n", "Invalid crypto"),
    "scheme before it": (lambda issuer: f"Bearer {issuer.token()}", "Invalid header"),
    "a fourth part": (lambda issuer: f"{issuer.token()}.AAAA", "Invalid payload"),
    "only two parts": (lambda issuer: issuer.token().rpartition(".")[0], "segments"),
    "header is not JSON": (lambda issuer: mint(b"{", {}, rs()), "Invalid header string"),
    "header is not text": (lambda issuer: mint(b"\xff\xfe{", {}, rs()), "Invalid header string"),
    "header is a list": (lambda issuer: mint([HEADER], {}, rs()), "must be a json object"),
    "header is nested": (lambda issuer: mint(b"[" * 99_999, {}, rs()), "Invalid header string"),
    "payload is not JSON": (payload(b"{"), "Invalid payload string"),
    "payload is not text": (payload(b"\xff\xfe{"), "Invalid payload string"),
    "payload is empty": (payload(b""), "Invalid payload string"),
    "payload is a list": (payload([{"iss": "x"}]), "must be a json object"),
    "payload is null": (payload(None), "must be a json object"),
    "payload is nested": (payload(b"[" * 99_999), "Invalid payload string"),
    "no claims": (payload({}), "got nothing"),
}  # fmt: skip


@pytest.fixture(scope="module")
def cached_issuer() -> Iterator[tuple[FakeIssuer, Any]]:
    """An issuer, and the key cache after one token was verified."""
    with running() as it, pytest.MonkeyPatch.context() as patch:
        patch.setattr(oidc, "_known", {})
        verify(it.token(), it.policy())
        yield it, oidc._known


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_is_refused(
    cached_issuer: tuple[FakeIssuer, Any], monkeypatch: pytest.MonkeyPatch, attack: str
) -> None:
    """The message gives the reason and leaks nothing of the token."""
    (issuer, known), (make, says) = cached_issuer, ATTACKS[attack]
    monkeypatch.setattr(oidc, "_known", known)
    message = refusal(make(issuer), issuer.policy())
    assert re.search(says, message)
    assert len(message) < 700


def test_a_token_of_a_different_issuer_is_refused(issuer: FakeIssuer, evil: FakeIssuer) -> None:
    """Neither its own token verifies, nor one that it signs in our issuer's name."""
    assert "Signature verification failed" in refusal(evil.token(sign=rs("evil")), issuer.policy())
    forged = evil.token(sign=rs("evil"), iss=issuer.url)
    assert "Signature verification failed" in refusal(forged, issuer.policy())
    assert evil.requested_paths == []
    # Our token does not verify against the other issuer either.
    assert "Signature verification failed" in refusal(issuer.token(), evil.policy())


def test_the_signature_covers_every_claim(issuer: FakeIssuer) -> None:
    """A token with a claim changed after signing is refused."""
    head, _, signature = issuer.token().split(".")
    body = fake_issuer.base64url(json.dumps(issuer.claims(sha="d" * 40)).encode())
    assert "Signature verification failed" in refusal(f"{head}.{body}.{signature}", issuer.policy())


def test_random_changes_are_refused(issuer: FakeIssuer) -> None:
    """Five hundred tokens with a few characters changed: each is refused, without a traceback."""
    rng = random.Random(7)
    token, policy = issuer.token(), issuer.policy()
    for _ in range(500):
        changed = mutated(rng, token.encode()).decode("utf-8", "surrogateescape")
        if changed.rstrip("=") != token:  # added padding is not a change
            with pytest.raises(Refused) as caught:
                verify(RawToken(changed), policy)
            without_secrets(str(caught.value), token)


def test_random_claims_are_returned_or_refused(issuer: FakeIssuer) -> None:
    """For any signed payload the result is claims or a refusal."""
    rng = random.Random(8)
    good = json.dumps(issuer.claims()).encode()
    outcomes: set[type] = set()
    for _ in range(200):
        try:
            outcomes.add(type(verify(mint(HEADER, mutated(rng, good), rs()), issuer.policy())))
        except Refused:
            outcomes.add(Refused)
    assert outcomes == {Claims, Refused}
