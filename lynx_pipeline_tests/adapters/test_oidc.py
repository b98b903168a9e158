"""Tokens against a real issuer over HTTP: what verifies, and every way that must not."""

import json
import random
import re
import ssl
import time
import urllib.request
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import certifi
import pytest
from cryptography.hazmat.primitives import hashes
from jwt.algorithms import RSAAlgorithm

from lynx_pipeline.adapters import oidc
from lynx_pipeline.adapters.oidc import RawToken, request_token, verified_claims, verify
from lynx_pipeline.domain.identity import Claims, Policy, check_identity
from lynx_pipeline.errors import Refused, SystemFailed
from lynx_pipeline_tests import fake_issuer, git_server
from lynx_pipeline_tests.builders import JsonObject
from lynx_pipeline_tests.fake_issuer import (
    AUDIENCE,
    BEARER,
    COMMIT,
    CONFIGURATION,
    KEYS,
    KID,
    REMOVED,
    TOKEN,
    Answer,
    FakeIssuer,
    hs256,
    jwk,
    key,
    mint,
    number,
    ps256,
    public_pem,
    rs,
    running,
    unsigned,
)
from lynx_pipeline_tests.fuzz import mutated

HEADER = {"alg": "RS256", "kid": KID, "typ": "JWT"}
CI = ("GITHUB_ACTIONS", "GITLAB_CI", "BUILDKITE", "CIRCLECI", "GOOGLE_SERVICE_ACCOUNT_NAME")


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """No keys from another test, and no CI job around this one."""
    monkeypatch.setattr(oidc, "_known", {})
    for name in (*CI, "ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    # Where the library would look whether this machine is Google's.
    monkeypatch.setattr("id._internal.oidc.ambient._GCP_PRODUCT_NAME_FILE", "/nonexistent")


@pytest.fixture
def evil() -> Iterator[FakeIssuer]:
    """Another server, whose keys are somebody else's."""
    with running() as it:
        it.keys = [jwk("evil")]
        yield it


class Clock(SimpleNamespace):
    """The time that the adapter sees; its monotonic part is the test's to move."""

    now = 1000.0

    def monotonic(self) -> float:
        """Seconds since some start."""
        return self.now

    def time(self) -> float:
        """Seconds since 1970."""
        return time.time()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock that stands still."""
    it = Clock()
    monkeypatch.setattr(oidc, "time", it)
    return it


def secret(said: str, *secrets: str) -> str:
    """``said``, which holds no longer piece of any of the ``secrets``."""
    for piece in (said[at : at + 24] for at in range(max(1, len(said) - 23))):
        assert len(piece) < 24 or not any(piece in it for it in secrets), piece
    return said


def refusal(token: str, policy: Policy) -> str:
    """How the token is refused."""
    with pytest.raises(Refused) as caught:
        verify(RawToken(token), policy)
    said = str(caught.value)
    assert said.startswith("prod is changed only by the CI workflow's verified identity")
    assert said.endswith("Nothing was changed.")
    assert not any(part in said for part in token.split(".") if len(part) > 8)
    return secret(said, token)


def failure(token: str, policy: Policy) -> str:
    """How the issuer fails us."""
    with pytest.raises(SystemFailed) as caught:
        verify(RawToken(token), policy)
    return secret(str(caught.value), token)


# ----- what verifies --------------------------------------------------------------------------


def test_a_good_token_verifies(issuer: FakeIssuer) -> None:
    """All that it claims comes back, and the policy lets it in."""
    said = issuer.claims()
    found = verify(mint(HEADER, said, rs()), issuer.policy())
    assert found == Claims(said)
    assert check_identity(issuer.policy(), found, COMMIT)["jti"] == said["jti"]


def test_the_jobs_own_token_is_asked_for_and_verified(
    issuer: FakeIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For the policy's audience, once, and with every key read once."""
    for name, value in issuer.job.items():
        monkeypatch.setenv(name, value)
    found = verified_claims(issuer.policy(audience="another audience"))
    assert found.values["aud"] == "another audience"
    assert issuer.asked == [TOKEN, CONFIGURATION, KEYS]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"exp": -25, "iat": -300, "nbf": -300}, id="expired 25 seconds ago"),
        pytest.param({"nbf": 25}, id="valid in 25 seconds"),
        pytest.param({"iat": 25}, id="issued in 25 seconds"),
        pytest.param({"iat": -10, "exp": 3590}, id="an hour's life"),
    ],
)
def test_clocks_may_differ_a_little(issuer: FakeIssuer, changes: dict[str, int]) -> None:
    """By less than half a minute."""
    verify(issuer.token(**from_now(changes)), issuer.policy())


# ----- what is refused ------------------------------------------------------------------------

Attack = Callable[[FakeIssuer], str]


def header(sign: fake_issuer.Signer | None = None, **changes: Any) -> Attack:
    """A good token with this in its header."""
    return lambda issuer: issuer.token(changes, sign)


def claim(**changes: Any) -> Attack:
    """A good token with these claims."""
    return lambda issuer: issuer.token(**changes)


def later(**seconds: float) -> Attack:
    """A good token whose times are so many seconds from now."""
    return lambda issuer: issuer.token(**from_now(seconds))


def from_now(seconds: Mapping[str, float]) -> JsonObject:
    """Times that are so many seconds from now."""
    return {name: int(time.time() + value) for name, value in seconds.items()}


def as_other(form: type, name: str) -> Attack:
    """A good token, one claim of which has another type."""
    return lambda issuer: issuer.token(**{name: form(issuer.claims()[name])})


def payload(value: Any) -> Attack:
    """A rightly signed token of anything."""
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
    "HS256 with the public key, said to be RS256": (
        header(hs256(public_pem())),
        "Signature verification failed",
    ),
    "HS256 with an empty key": (header(hs256(b""), alg="HS256"), "header 'alg': got 'HS256'"),
    "none": (header(unsigned, alg="none"), "header 'alg': got 'none'"),
    "None, signed": (header(alg="None"), "header 'alg': got 'None'"),
    "RS256 unsigned": (header(unsigned), "Signature verification failed"),
    "null alg": (header(alg=None), "header 'alg': got None"),
    "no alg": (header(alg=REMOVED), "header 'alg': got None"),
    "lower case": (header(alg="rs256"), "header 'alg': got 'rs256'"),
    "a list of algs": (header(alg=["RS256"]), "header 'alg': got \\['RS256'\\]"),
    "RS384": (header(rs(sha=hashes.SHA384()), alg="RS384"), "header 'alg': got 'RS384'"),
    "RS384 said to be RS256": (header(rs(sha=hashes.SHA384())), "Signature verification failed"),
    "PS256": (header(ps256, alg="PS256"), "header 'alg': got 'PS256'"),
    "PS256 said to be RS256": (header(ps256), "Signature verification failed"),
    "long alg": (header(alg="R" * 9999), "header 'alg': got 'RRR"),
    "another key under our kid": (header(rs("evil")), "Signature verification failed"),
    "unknown kid": (header(rs("evil"), kid="evil"), "header 'kid': got 'evil', expected one of"),
    "long kid": (header(kid="k" * 9999), "header 'kid': got 'k{60}', expected one of"),
    "no kid": (header(kid=REMOVED), "header 'kid': expected the id"),
    "empty kid": (header(kid=""), "header 'kid': expected the id"),
    "kid of ours in a list": (header(kid=[KID]), "Key ID header parameter must be a string"),
    "number for a kid": (header(kid=1), "Key ID header parameter must be a string"),
    "null kid": (header(kid=None), "Key ID header parameter must be a string"),
    **{
        f"header {name[:9]!r}": (header(rs("evil"), **{name: value}), f"header '{name[:9]}.*none")
        for name, value in STRANGE_HEADERS.items()
    },
    "critical header": (header(crit=["exp"]), "critical extension"),
    "critical header that is none": (header(crit=["b64"]), "missing from headers"),
    "empty list of critical headers": (header(crit=[]), "'crit' header"),
    "unencoded payload": (header(b64=False, crit=["b64"]), "must be empty when 'b64' is false"),
    "list of our audience": (claim(aud=[AUDIENCE]), "claim 'aud': got .*, expected exactly"),
    "list of audiences": (claim(aud=["x", AUDIENCE]), "claim 'aud': got .*, expected exactly"),
    "another audience": (claim(aud="x"), f"claim 'aud': got 'x', expected exactly '{AUDIENCE}'"),
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
        "claim 'exp': got a life of 360[12] seconds, expected 3600 at most",
    ),
    "has lived longer than an hour": (later(iat=-3500, nbf=-3500, exp=200), "a life of 370"),
    "never ends": (claim(exp=10**18), "a life of"),
    "infinite": (claim(exp=float("inf")), "must be an integer"),
    "no number": (claim(exp=float("nan")), "must be an integer"),
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
    "another issuer": (claim(iss="https://evil.example"), "claim 'iss': got 'https://evil"),
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
    "header is no JSON": (lambda issuer: mint(b"{", {}, rs()), "Invalid header string"),
    "header is no text": (lambda issuer: mint(b"\xff\xfe{", {}, rs()), "Invalid header string"),
    "header is a list": (lambda issuer: mint([HEADER], {}, rs()), "must be a json object"),
    "header is deep": (lambda issuer: mint(b"[" * 99_999, {}, rs()), "Invalid header string"),
    "payload is no JSON": (payload(b"{"), "Invalid payload string"),
    "payload is no text": (payload(b"\xff\xfe{"), "Invalid payload string"),
    "payload is empty": (payload(b""), "Invalid payload string"),
    "payload is a list": (payload([{"iss": "x"}]), "must be a json object"),
    "payload is null": (payload(None), "must be a json object"),
    "payload is deep": (payload(b"[" * 99_999), "Invalid payload string"),
    "no claims": (payload({}), "got nothing"),
}  # fmt: skip


@pytest.fixture(scope="module")
def steady() -> Iterator[tuple[FakeIssuer, Any]]:
    """An issuer, and what is known of it once its keys were read."""
    with running() as it, pytest.MonkeyPatch.context() as patch:
        patch.setattr(oidc, "_known", {})
        verify(it.token(), it.policy())
        yield it, oidc._known


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_such_token_verifies(
    steady: tuple[FakeIssuer, Any], monkeypatch: pytest.MonkeyPatch, attack: str
) -> None:
    """It is refused with the reason, and the message gives nothing of the token away."""
    (issuer, known), (make, says) = steady, ATTACKS[attack]
    monkeypatch.setattr(oidc, "_known", known)
    said = refusal(make(issuer), issuer.policy())
    assert re.search(says, said)
    assert len(said) < 700


def test_a_token_of_another_issuer_does_not_verify(issuer: FakeIssuer, evil: FakeIssuer) -> None:
    """Neither theirs as it is, nor one that they sign in our issuer's name."""
    assert "Signature verification failed" in refusal(evil.token(sign=rs("evil")), issuer.policy())
    forged = evil.token(sign=rs("evil"), iss=issuer.url)
    assert "Signature verification failed" in refusal(forged, issuer.policy())
    assert evil.asked == []
    # A token of ours is none of theirs either.
    assert "Signature verification failed" in refusal(issuer.token(), evil.policy())


def test_the_signature_covers_every_claim(issuer: FakeIssuer) -> None:
    """A claim that was changed after signing is refused."""
    head, _, signature = issuer.token().split(".")
    body = fake_issuer.base64url(json.dumps(issuer.claims(sha="d" * 40)).encode())
    assert "Signature verification failed" in refusal(f"{head}.{body}.{signature}", issuer.policy())


def test_random_changes_are_refused(issuer: FakeIssuer) -> None:
    """Five hundred tokens with a few characters changed: each refused, and never a traceback."""
    rng = random.Random(7)
    token, policy = issuer.token(), issuer.policy()
    for _ in range(500):
        changed = mutated(rng, token.encode()).decode("utf-8", "surrogateescape")
        if changed.rstrip("=") != token:  # padding is no change
            with pytest.raises(Refused) as caught:
                verify(RawToken(changed), policy)
            secret(str(caught.value), token)


def test_random_claims_are_read_or_refused(issuer: FakeIssuer) -> None:
    """Whatever the issuer signs, there are claims or a refusal."""
    rng = random.Random(8)
    good = json.dumps(issuer.claims()).encode()
    outcomes: set[type] = set()
    for _ in range(200):
        try:
            outcomes.add(type(verify(mint(HEADER, mutated(rng, good), rs()), issuer.policy())))
        except Refused:
            outcomes.add(Refused)
    assert outcomes == {Claims, Refused}


# ----- the issuer's keys ----------------------------------------------------------------------


def test_keys_are_read_once_an_hour(issuer: FakeIssuer, clock: Clock) -> None:
    """However many tokens; then again, since keys are withdrawn too."""
    for _ in range(3):
        verify(issuer.token(), issuer.policy())
        clock.now += 1_199
    assert issuer.asked == [CONFIGURATION, KEYS]
    clock.now += 3
    verify(issuer.token(), issuer.policy())
    assert issuer.asked == [CONFIGURATION, KEYS] * 2


def test_unknown_keys_are_looked_for_once_a_minute(issuer: FakeIssuer, clock: Clock) -> None:
    """Invented ids do not make us bother the issuer."""
    for number_of in range(20):
        refusal(issuer.token({"kid": f"invented-{number_of}"}), issuer.policy())
        clock.now += 2.9
    assert issuer.key_reads == 1
    clock.now = 1060
    for number_of in range(20):
        refusal(issuer.token({"kid": f"invented-{number_of}"}), issuer.policy())
        clock.now += 2.9
    assert issuer.key_reads == 2
    verify(issuer.token(), issuer.policy())
    assert issuer.key_reads == 2


def test_exchanged_keys_are_picked_up(issuer: FakeIssuer, clock: Clock) -> None:
    """Within the minute the new one is unknown; after it, it counts and the old one is gone."""
    verify(issuer.token(), issuer.policy())
    issuer.keys = [jwk("second", kid="key-2")]
    fresh = issuer.token({"kid": "key-2"}, rs("second"))
    clock.now += 59
    assert f"keys: {KID}." in refusal(fresh, issuer.policy())
    clock.now += 2
    verify(fresh, issuer.policy())
    assert "keys: key-2." in refusal(issuer.token(), issuer.policy())


def test_a_failed_read_is_tried_again_at_once(issuer: FakeIssuer, clock: Clock) -> None:
    """The minute counts from the last answer."""
    issuer.answers[KEYS] = Answer(status=500)
    failure(issuer.token(), issuer.policy())
    del issuer.answers[KEYS]
    verify(issuer.token(), issuer.policy())


USELESS: dict[str, Any] = {
    "private key": jwk(d=number(key().private_numbers().d)),
    "whole private key": {**RSAAlgorithm.to_jwk(key(), as_dict=True), "kid": KID},
    "for encryption": jwk(use="enc"),
    "null use": jwk(use=None),
    "another alg": jwk(alg="RS512"),
    "PSS": jwk(alg="PS256"),
    "null alg": jwk(alg=None),
    "shared secret": {"kid": KID, "kty": "oct", "k": fake_issuer.base64url(public_pem())},
    "RSA that is called EC": jwk(kty="EC"),
    "no kty": jwk(kty=REMOVED),
    "no kid": jwk(kid=REMOVED),
    "number for a kid": jwk(kid=1),
    "no modulus": jwk(n=REMOVED),
    "number for a modulus": jwk(n=12345),
    "null modulus": jwk(n=None),
    "modulus that is no number": jwk(n="!"),
    "empty modulus": jwk(n=""),
    "exponent 1": jwk(e=number(1)),
    "even exponent": jwk(e=number(65536)),
    "text": "key",
    "null": None,
    "list": [jwk()],
}


@pytest.mark.parametrize("entry", USELESS)
def test_an_entry_that_is_no_signing_key_is_passed_over(issuer: FakeIssuer, entry: str) -> None:
    """It verifies nothing, and does not keep a good key from doing so."""
    issuer.keys = [USELESS[entry]]
    assert "it has none" in refusal(issuer.token(), issuer.policy())
    oidc._known.clear()
    issuer.keys = [USELESS[entry], jwk()]
    verify(issuer.token(), issuer.policy())


@pytest.mark.parametrize("missing", ["use", "alg"])
def test_a_key_need_not_say_what_it_is_for(issuer: FakeIssuer, missing: str) -> None:
    """Both are optional in the format."""
    changes: JsonObject = {missing: REMOVED}
    issuer.keys = [jwk(**changes)]
    verify(issuer.token(), issuer.policy())


def test_a_weak_key_is_not_believed(issuer: FakeIssuer) -> None:
    """RSA with 1024 bits, though the issuer lists it; and not only where warnings are errors."""
    issuer.keys = [jwk("weak", 1024)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        refusal(issuer.token(sign=rs("weak", 1024)), issuer.policy())


def test_an_issuer_without_keys_refuses_everybody(issuer: FakeIssuer) -> None:
    """No list, or an empty one."""
    for body in (b"{}", b'{"keys": []}', b'{"keys": null}', b'{"keys": {"kid": "x"}}'):
        oidc._known.clear()
        issuer.answers[KEYS] = Answer(body)
        assert "it has none" in refusal(issuer.token(), issuer.policy())


# ----- issuers that fail ----------------------------------------------------------------------


@pytest.mark.parametrize("place", [CONFIGURATION, KEYS])
@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(Answer(b"{}", 500), id="500"),
        pytest.param(Answer(b"{}", 404), id="404"),
        pytest.param(Answer(b"<html>", 200), id="no JSON"),
        pytest.param(Answer(b""), id="nothing"),
        pytest.param(Answer(b"\xff\xfe"), id="no text"),
        pytest.param(Answer(b"[]"), id="a list"),
        pytest.param(Answer(b"null"), id="null"),
        pytest.param(Answer(b'"keys"'), id="text"),
        pytest.param(Answer(b"[" * 99_999), id="deep"),
        pytest.param(Answer(b'{"x": "' + b"x" * (1 << 20) + b'"}'), id="too large"),
    ],
)
def test_a_useless_answer_is_the_systems_failure(
    issuer: FakeIssuer, place: str, answer: Answer
) -> None:
    """Not a refusal: trying again may help. It says which address it was."""
    issuer.answers[place] = answer
    assert f"{issuer.url}{place}" in failure(issuer.token(), issuer.policy())


def test_an_issuer_that_is_down_is_the_systems_failure() -> None:
    """There is nobody at its address."""
    with running() as gone:
        pass
    assert "could not be read" in failure(gone.token(), gone.policy())


def test_an_issuer_that_says_nothing_is_not_waited_for(
    issuer: FakeIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not longer than the time we have."""

    def slow(*_: str) -> Answer:
        time.sleep(1)
        return Answer()

    monkeypatch.setattr(oidc, "_FETCH_SECONDS", 0.2)
    monkeypatch.setattr(issuer, "answer", slow)
    assert "timed out" in failure(issuer.token(), issuer.policy())


@pytest.mark.parametrize("place", [CONFIGURATION, KEYS])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(
    issuer: FakeIssuer, evil: FakeIssuer, place: str, status: int
) -> None:
    """Though the other server would answer with keys that fit the token."""
    about = {"issuer": issuer.url, "jwks_uri": f"{evil.url}{KEYS}"}
    evil.answers[CONFIGURATION] = Answer(json.dumps(about).encode())
    issuer.answers[place] = Answer(status=status, headers={"Location": f"{evil.url}{place}"})
    failure(issuer.token(sign=rs("evil")), issuer.policy())
    assert evil.asked == []


def test_a_configuration_of_another_issuer_is_not_believed(
    issuer: FakeIssuer, evil: FakeIssuer
) -> None:
    """It has to name itself, exactly."""
    for name in (evil.url, f"{issuer.url}/", issuer.url.upper(), "", None, [issuer.url], 7):
        about = {"issuer": name, "jwks_uri": f"{issuer.url}{KEYS}"}
        issuer.answers[CONFIGURATION] = Answer(json.dumps(about).encode())
        assert "says that it is" in failure(issuer.token(), issuer.policy())
    assert issuer.key_reads == 0


def test_keys_from_elsewhere_are_not_read(issuer: FakeIssuer, evil: FakeIssuer) -> None:
    """Also where the address begins as the issuer's does."""
    port = evil.url.rpartition(":")[2]
    for place in (
        f"{evil.url}{KEYS}",
        f"{issuer.url}@127.0.0.1:{port}{KEYS}",
        f"{issuer.url}.evil.example{KEYS}",
        f"{issuer.url}0{KEYS}",
        "file:///etc/passwd",
        KEYS,
        "",
        None,
        [f"{issuer.url}{KEYS}"],
    ):
        about = {"issuer": issuer.url, "jwks_uri": place}
        issuer.answers[CONFIGURATION] = Answer(json.dumps(about).encode())
        assert "has its keys elsewhere" in failure(issuer.token(), issuer.policy())
    assert (issuer.key_reads, evil.asked) == (0, [])


def test_two_keys_of_one_id_are_the_systems_failure(issuer: FakeIssuer) -> None:
    """Nobody can say which of them it is."""
    for second in (jwk("evil"), jwk()):
        issuer.keys = [jwk(), second]
        assert f"two keys have the id '{KID}'" in failure(issuer.token(), issuer.policy())


# ----- the environment has no say -------------------------------------------------------------

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
ISSUERS = (
    *("LYNX_ISSUER", "LYNX_IDENTITY_ISSUER", "LYNX_AUDIENCE", "LYNX_JWKS_URI", "LYNX_KEYS"),
    *("ACTIONS_ID_TOKEN_ISSUER", "GITHUB_SERVER_URL", "OIDC_ISSUER", "JWKS_URI"),
)


def test_no_variable_names_another_issuer(
    issuer: FakeIssuer, evil: FakeIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No proxy is used and nobody else is asked, also while the issuer is down."""
    for name in (*PROXIES, *ISSUERS):
        monkeypatch.setenv(name, evil.url)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "")
    verify(issuer.token(), issuer.policy())
    refusal(issuer.token(sign=rs("evil")), issuer.policy())
    refusal(evil.token(sign=rs("evil")), issuer.policy())
    with running() as gone:
        pass
    failure(gone.token(sign=rs("evil")), gone.policy())
    assert evil.asked == []


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate that this machine made for itself, and its key."""
    file = tmp_path_factory.mktemp("tls") / "both.pem"
    file.write_bytes(git_server.certificate())
    return file


@pytest.fixture
def over_tls(certificate: Path) -> Iterator[FakeIssuer]:
    """An issuer with that certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with running(context) as it:
        yield it


def test_no_variable_names_another_authority(
    over_tls: FakeIssuer, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A certificate that the environment vouches for is not believed."""
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "CERTIFI_CA_BUNDLE"):
        monkeypatch.setenv(name, str(certificate))
    monkeypatch.setenv("SSL_CERT_DIR", str(certificate.parent))
    for name in (*PROXIES, "PYTHONHTTPSVERIFY"):
        monkeypatch.delenv(name, raising=False)
    # Python itself would follow the variable.
    with urllib.request.urlopen(f"{over_tls.url}{KEYS}", timeout=5) as answer:
        assert answer.status == 200
    over_tls.asked.clear()
    assert "CERTIFICATE_VERIFY_FAILED" in failure(over_tls.token(), over_tls.policy())
    assert over_tls.asked == []


def test_an_issuer_with_a_known_certificate_is_believed(
    over_tls: FakeIssuer, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Known is what certifi lists."""
    monkeypatch.setattr(certifi, "where", lambda: str(certificate))
    verify(over_tls.token(), over_tls.policy())


# ----- asking for the token -------------------------------------------------------------------


def not_given(*secrets: str) -> str:
    """How asking for a token is refused."""
    with pytest.raises(Refused) as caught:
        request_token(AUDIENCE)
    said = str(caught.value)
    assert said.startswith("prod is changed only by the CI workflow's verified identity")
    assert len(said) < 600
    return secret(said, BEARER, *secrets)


def test_without_a_job_there_is_no_token() -> None:
    """It says what to do."""
    assert "this is no CI job. Promote through the deploy workflow." in not_given()


@pytest.mark.parametrize("value", ["true", "1", "false"])
def test_pretending_to_be_a_job_gives_no_token(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """It names the permission that a job would need."""
    monkeypatch.setenv("GITHUB_ACTIONS", value)
    monkeypatch.setenv("CI", "true")
    assert "permissions: id-token: write" in not_given()
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", BEARER)
    assert "permissions: id-token: write" in not_given()


def _said(value: object) -> Answer:
    return Answer(json.dumps(value).encode())


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(lambda t: Answer(f"bearer {BEARER}: {t}".encode(), 403), id="403, echoing"),
        pytest.param(lambda t: Answer(json.dumps({"x": [t, BEARER]}).encode(), 403), id="403"),
        pytest.param(lambda t: Answer(b"\xff\xfe", 403), id="403, no text"),
        pytest.param(lambda t: Answer(b"x" * 99_999, 500), id="500, long"),
        pytest.param(lambda t: Answer(t.encode()), id="the token alone"),
        pytest.param(lambda t: Answer(b"<html>"), id="no JSON"),
        pytest.param(lambda t: Answer(b""), id="nothing"),
        pytest.param(lambda t: _said([t]), id="a list"),
        pytest.param(lambda t: _said({"token": t}), id="another key"),
        pytest.param(lambda t: _said({"value": None}), id="null"),
        pytest.param(lambda t: _said({"value": [t]}), id="a list of tokens"),
        pytest.param(lambda t: _said({"value": ""}), id="empty"),
        pytest.param(lambda t: _said({"value": f"{t}.{t}"}), id="two tokens"),
        pytest.param(lambda t: _said({"value": t.split(".")[0]}), id="a header alone"),
        pytest.param(lambda t: _said({"value": t[:-600]}), id="cut off"),
        pytest.param(lambda t: _said({"value": "é.é.é"}), id="not ASCII"),
    ],
)
def test_a_job_that_is_not_given_a_token_is_refused(
    issuer: FakeIssuer, monkeypatch: pytest.MonkeyPatch, answer: Callable[[str], Answer]
) -> None:
    """Whatever the runner answers, the message holds neither its token nor ours."""
    for name, value in issuer.job.items():
        monkeypatch.setenv(name, value)
    token = issuer.token()
    issuer.answers[TOKEN] = answer(token)
    not_given(token)


def test_a_token_for_somebody_else_is_refused(
    issuer: FakeIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The runner was asked for one for us."""
    for name, value in issuer.job.items():
        monkeypatch.setenv(name, value)
    issuer.token_to_give = issuer.token(aud="somebody else")
    assert "somebody else" in not_given(issuer.token_to_give)


def test_a_runner_that_is_gone_or_does_not_know_us_is_refused(
    issuer: FakeIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bearer of another job, no address, and an address that is none."""
    for name, value in issuer.job.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", f"{BEARER}x")
    assert "401" in not_given()
    with running() as gone:
        pass
    for url in (f"{gone.url}{TOKEN}", "nonsense", "http://[", "ftp://127.0.0.1/token"):
        monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_URL", url)
        not_given()


def test_a_runner_of_anybodys_gives_tokens_that_do_not_verify(
    issuer: FakeIssuer, evil: FakeIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the token comes from needs no trust: the keys are the policy's issuer's."""
    for name, value in evil.job.items():
        monkeypatch.setenv(name, value)
    evil.token_to_give = evil.token(sign=rs("evil"), iss=issuer.url)
    with pytest.raises(Refused, match="Signature verification failed"):
        verified_claims(issuer.policy())
