"""The issuer over HTTP: its keys and its failures. The environment can't replace it."""

import json
import ssl
import time
import urllib.request
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import certifi
import pytest
from jwt.algorithms import RSAAlgorithm

from lynx_pipeline.adapters import oidc
from lynx_pipeline.adapters.oidc import verify
from lynx_pipeline_tests.adapters.tokens import failure, refusal
from lynx_pipeline_tests.support import certificates, fake_issuer
from lynx_pipeline_tests.support.builders import JsonObject
from lynx_pipeline_tests.support.fake_issuer import (
    CONFIGURATION,
    KEYS,
    KID,
    REMOVED,
    FakeIssuer,
    jwk,
    key,
    number,
    public_pem,
    rs,
    running,
)
from lynx_pipeline_tests.support.http_server import Answer

pytestmark = pytest.mark.usefixtures("fresh")


class Clock(SimpleNamespace):
    """The adapter's clock. A test moves its monotonic time by hand."""

    now = 1000.0

    def monotonic(self) -> float:
        """Seconds since some start."""
        return self.now

    def time(self) -> float:
        """Seconds since 1970."""
        return time.time()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock that moves only when a test moves it."""
    clock = Clock()
    monkeypatch.setattr(oidc, "time", clock)
    return clock


# ----- the issuer's keys ----------------------------------------------------------------------


def test_keys_are_read_once_an_hour(issuer: FakeIssuer, clock: Clock) -> None:
    """All tokens within an hour share one read. After that, keys may have been withdrawn."""
    for _ in range(3):
        verify(issuer.token(), issuer.policy())
        clock.now += 1_199
    assert issuer.requested_paths == [CONFIGURATION, KEYS]
    clock.now += 3
    verify(issuer.token(), issuer.policy())
    assert issuer.requested_paths == [CONFIGURATION, KEYS] * 2


def test_unknown_key_ids_cause_at_most_one_read_a_minute(issuer: FakeIssuer, clock: Clock) -> None:
    """Invented ids can't make us flood the issuer with requests."""
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


def test_rotated_keys_are_picked_up(issuer: FakeIssuer, clock: Clock) -> None:
    """For up to a minute the new key is unknown. Then it is valid, and the old one is not."""
    verify(issuer.token(), issuer.policy())
    issuer.keys = [jwk("second", kid="key-2")]
    fresh = issuer.token({"kid": "key-2"}, rs("second"))
    clock.now += 59
    assert f"keys: {KID}." in refusal(fresh, issuer.policy())
    clock.now += 2
    verify(fresh, issuer.policy())
    assert "keys: key-2." in refusal(issuer.token(), issuer.policy())


def test_a_failed_read_is_retried_at_once(issuer: FakeIssuer, clock: Clock) -> None:
    """The minute starts only with a successful read."""
    issuer.answers[KEYS] = Answer(status=500)
    failure(issuer.token(), issuer.policy())
    del issuer.answers[KEYS]
    verify(issuer.token(), issuer.policy())


NOT_SIGNING_KEYS: dict[str, Any] = {
    "private key": jwk(d=number(key().private_numbers().d)),
    "whole private key": {**RSAAlgorithm.to_jwk(key(), as_dict=True), "kid": KID},
    "for encryption": jwk(use="enc"),
    "null use": jwk(use=None),
    "different alg": jwk(alg="RS512"),
    "PSS": jwk(alg="PS256"),
    "null alg": jwk(alg=None),
    "shared secret": {"kid": KID, "kty": "oct", "k": fake_issuer.base64url(public_pem())},
    "RSA declared as EC": jwk(kty="EC"),
    "no kty": jwk(kty=REMOVED),
    "no kid": jwk(kid=REMOVED),
    "number for a kid": jwk(kid=1),
    "no modulus": jwk(n=REMOVED),
    "number for a modulus": jwk(n=12345),
    "null modulus": jwk(n=None),
    "modulus that is not a number": jwk(n="!"),
    "empty modulus": jwk(n=""),
    "exponent 1": jwk(e=number(1)),
    "even exponent": jwk(e=number(65536)),
    "text": "key",
    "null": None,
    "list": [jwk()],
}


@pytest.mark.parametrize("entry", NOT_SIGNING_KEYS)
def test_an_entry_that_is_not_a_signing_key_is_ignored(issuer: FakeIssuer, entry: str) -> None:
    """The entry verifies no token, and a valid key beside it still works."""
    issuer.keys = [NOT_SIGNING_KEYS[entry]]
    assert "it has none" in refusal(issuer.token(), issuer.policy())
    oidc._known.clear()
    issuer.keys = [NOT_SIGNING_KEYS[entry], jwk()]
    verify(issuer.token(), issuer.policy())


@pytest.mark.parametrize("missing", ["use", "alg"])
def test_use_and_alg_of_a_key_are_optional(issuer: FakeIssuer, missing: str) -> None:
    """The format allows keys without them."""
    changes: JsonObject = {missing: REMOVED}
    issuer.keys = [jwk(**changes)]
    verify(issuer.token(), issuer.policy())


def test_a_weak_key_is_refused(issuer: FakeIssuer) -> None:
    """An RSA key of 1024 bits that the issuer lists. Warnings are not errors here."""
    issuer.keys = [jwk("weak", 1024)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        refusal(issuer.token(sign=rs("weak", 1024)), issuer.policy())


def test_without_keys_every_token_is_refused(issuer: FakeIssuer) -> None:
    """The issuer's key list is missing, empty or malformed."""
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
        pytest.param(Answer(b"<html>", 200), id="not JSON"),
        pytest.param(Answer(b""), id="empty body"),
        pytest.param(Answer(b"\xff\xfe"), id="not text"),
        pytest.param(Answer(b"[]"), id="a list"),
        pytest.param(Answer(b"null"), id="null"),
        pytest.param(Answer(b'"keys"'), id="text"),
        pytest.param(Answer(b"[" * 99_999), id="deep"),
        pytest.param(Answer(b'{"x": "' + b"x" * (1 << 20) + b'"}'), id="too large"),
    ],
)
def test_an_invalid_response_is_a_system_failure(
    issuer: FakeIssuer, place: str, answer: Answer
) -> None:
    """The token is not refused, since a retry may help. The message names the address."""
    issuer.answers[place] = answer
    assert f"{issuer.url}{place}" in failure(issuer.token(), issuer.policy())


def test_an_issuer_that_is_down_is_a_system_failure() -> None:
    """No server listens at its address."""
    with running() as stopped:
        pass
    assert "could not be read" in failure(stopped.token(), stopped.policy())


def test_an_issuer_that_does_not_respond_times_out(
    issuer: FakeIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A timeout is a system failure."""

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
    """The other server would return a key that matches the token."""
    about = {"issuer": issuer.url, "jwks_uri": f"{evil.url}{KEYS}"}
    evil.answers[CONFIGURATION] = Answer(json.dumps(about).encode())
    issuer.answers[place] = Answer(status=status, headers={"Location": f"{evil.url}{place}"})
    failure(issuer.token(sign=rs("evil")), issuer.policy())
    assert evil.requested_paths == []


def test_a_configuration_of_a_different_issuer_is_rejected(
    issuer: FakeIssuer, evil: FakeIssuer
) -> None:
    """The configuration must name the issuer exactly."""
    for name in (evil.url, f"{issuer.url}/", issuer.url.upper(), "", None, [issuer.url], 7):
        about = {"issuer": name, "jwks_uri": f"{issuer.url}{KEYS}"}
        issuer.answers[CONFIGURATION] = Answer(json.dumps(about).encode())
        message = failure(issuer.token(), issuer.policy())
        assert f"got the issuer {name!r}, expected {issuer.url!r}" in message
    assert issuer.key_reads == 0


def test_keys_from_a_different_server_are_not_read(issuer: FakeIssuer, evil: FakeIssuer) -> None:
    """An address that only starts like the issuer's is rejected too."""
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
        message = failure(issuer.token(), issuer.policy())
        assert f"got the jwks_uri {place!r}, expected an address under {issuer.url}/" in message
    assert (issuer.key_reads, evil.requested_paths) == (0, [])


def test_duplicate_key_ids_are_a_system_failure(issuer: FakeIssuer) -> None:
    """It is ambiguous which key is meant."""
    for second in (jwk("evil"), jwk()):
        issuer.keys = [jwk(), second]
        assert f"duplicate key id '{KID}'" in failure(issuer.token(), issuer.policy())


# ----- the environment is ignored -------------------------------------------------------------

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
ISSUERS = (
    *("LYNX_ISSUER", "LYNX_IDENTITY_ISSUER", "LYNX_AUDIENCE", "LYNX_JWKS_URI", "LYNX_KEYS"),
    *("ACTIONS_ID_TOKEN_ISSUER", "GITHUB_SERVER_URL", "OIDC_ISSUER", "JWKS_URI"),
)


def test_no_variable_can_replace_the_issuer(
    issuer: FakeIssuer, evil: FakeIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No proxy or other server is used, even while the issuer is down."""
    for name in (*PROXIES, *ISSUERS):
        monkeypatch.setenv(name, evil.url)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "")
    verify(issuer.token(), issuer.policy())
    refusal(issuer.token(sign=rs("evil")), issuer.policy())
    refusal(evil.token(sign=rs("evil")), issuer.policy())
    with running() as stopped:
        pass
    failure(stopped.token(sign=rs("evil")), stopped.policy())
    assert evil.requested_paths == []


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate and its key."""
    file = tmp_path_factory.mktemp("tls") / "both.pem"
    file.write_bytes(certificates.certificate())
    return file


@pytest.fixture
def over_tls(certificate: Path) -> Iterator[FakeIssuer]:
    """An issuer with that certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with running(context) as it:
        yield it


def test_no_variable_can_add_a_certificate_authority(
    over_tls: FakeIssuer, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A certificate that only the environment trusts is rejected."""
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "CERTIFI_CA_BUNDLE"):
        monkeypatch.setenv(name, str(certificate))
    monkeypatch.setenv("SSL_CERT_DIR", str(certificate.parent))
    for name in (*PROXIES, "PYTHONHTTPSVERIFY"):
        monkeypatch.delenv(name, raising=False)
    # Python's default context follows the variable.
    with urllib.request.urlopen(f"{over_tls.url}{KEYS}", timeout=5) as answer:
        assert answer.status == 200
    over_tls.requested_paths.clear()
    assert "CERTIFICATE_VERIFY_FAILED" in failure(over_tls.token(), over_tls.policy())
    assert over_tls.requested_paths == []


def test_an_issuer_with_a_trusted_certificate_is_accepted(
    over_tls: FakeIssuer, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The authorities that certifi lists are trusted."""
    monkeypatch.setattr(certifi, "where", lambda: str(certificate))
    verify(over_tls.token(), over_tls.policy())
