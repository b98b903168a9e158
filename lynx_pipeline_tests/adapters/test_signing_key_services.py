"""Signing with each key management service that the settings take, by its own client library."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import ModuleType

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from lynx_pipeline.adapters.signing import SCHEMES, VARIABLE, open_signer
from lynx_pipeline.domain.ledger.signatures import is_signed, load_key
from lynx_pipeline.domain.release.signing import SigningPolicy, TrustedKey
from lynx_pipeline.errors import Refused, SystemFailed
from lynx_pipeline_tests.support.key_services import aws, azure, google, vault
from lynx_pipeline_tests.support.key_services.service import SECRET, KeyService
from lynx_pipeline_tests.support.signing import public_key

pytestmark = pytest.mark.slow
PAYLOAD = b'{"_type": "something"}'
# Variables with which a client would find another service, or other credentials.
OUTSIDE = (
    *("AWS_", "AZURE_", "GOOGLE_", "CLOUDSDK_", "VAULT_", "IDENTITY_", "MSI_", "GRPC_"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "REQUESTS_CA_BUNDLE"),
)
P_256, P_384, ED25519 = ec.SECP256R1(), ec.SECP384R1(), None


def module(it: ModuleType) -> str:
    """A name for the tests of a service."""
    return it.__name__.rpartition(".")[2]


@pytest.fixture
def service(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[KeyService]:
    """The service that the test names, and its credentials in the environment."""
    monkeypatch.setattr("boto3.DEFAULT_SESSION", None)  # it remembers credentials
    for name in os.environ:
        if name.upper().startswith(OUTSIDE):
            monkeypatch.delenv(name)
    for name in ("AWS_EC2_METADATA_DISABLED", "NO_GCE_CHECK"):
        monkeypatch.setenv(name, "true")
    running: AbstractContextManager[KeyService] = request.param.running(tmp_path)
    with running as it:
        for name, value in it.environ.items():
            monkeypatch.setenv(name, value)
        yield it


SERVICES = (aws, azure, google, vault)
services = pytest.mark.parametrize("service", SERVICES, ids=module, indirect=True)


def policy(*keys: str) -> SigningPolicy:
    """A policy that trusts these public keys."""
    return SigningPolicy(tuple(TrustedKey(key) for key in keys))


@pytest.mark.parametrize(
    ("service", "kind"),
    [
        pytest.param(aws, P_256, id="aws, P-256"),
        pytest.param(aws, P_384, id="aws, P-384"),
        pytest.param(azure, P_256, id="azure, P-256"),
        pytest.param(azure, P_384, id="azure, P-384"),
        pytest.param(google, P_256, id="google, P-256"),
        pytest.param(google, P_384, id="google, P-384"),
        pytest.param(vault, P_256, id="vault, P-256"),
        pytest.param(vault, ED25519, id="vault, Ed25519"),
    ],
    indirect=["service"],
)
def test_a_key_service_signs(
    service: KeyService, kind: ec.EllipticCurve | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The private key never leaves it. The first key in the settings that fits is used."""
    public = service.create("ours", kind)
    monkeypatch.setenv(VARIABLE, service.uri.format("ours"))
    trusted = policy(public_key(), public)
    envelope = open_signer(trusted).sign(PAYLOAD)
    assert is_signed(envelope, load_key(trusted.keys[1]))
    # Vault's client does not compare the kinds of keys, and signs for the first one, too.
    assert service.signed == (2 if service.uri.startswith("hv:") else 1)


def test_each_service_that_the_settings_take_is_here(tmp_path: Path) -> None:
    """The library may learn others, which the settings don't take."""
    found = set()
    for it in SERVICES:
        with it.running(tmp_path) as service:
            found.add(service.uri.partition(":")[0])
    assert found == {*SCHEMES}


@services
def test_another_key_of_the_service_is_refused(
    service: KeyService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its signatures would not count."""
    public = service.create("ours", P_256)
    service.create("another", P_256)
    monkeypatch.setenv(VARIABLE, service.uri.format("another"))
    with pytest.raises(Refused, match=f"the key in {VARIABLE} is none of"):
        open_signer(policy(public_key(), public)).sign(PAYLOAD)


@services
def test_an_unknown_key_is_named(
    service: KeyService, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """One paragraph says which service, and what it answered."""
    public = service.create("ours", P_256)
    monkeypatch.setenv(VARIABLE, service.uri.format("nothing"))
    text = failure(policy(public))
    assert service.denied in text
    assert capfd.readouterr().err == ""


# Google's client tries again for a minute, which no setting changes.
@pytest.mark.parametrize("service", [aws, azure, vault], ids=module, indirect=True)
def test_a_service_that_is_down_is_a_failed_system(
    service: KeyService, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """One paragraph says which service, and that nothing answers there."""
    public = service.create("ours", P_256)
    for name, value in service.nowhere.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv(VARIABLE, service.uri.format("ours"))
    text = failure(policy(public))
    assert service.unreachable in text
    assert capfd.readouterr().err == ""


@services
def test_missing_credentials_are_a_failed_system(
    service: KeyService, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As in a job that did not log in to the cloud."""
    public = service.create("ours", P_256)
    monkeypatch.setenv(VARIABLE, service.uri.format("ours"))
    for name in service.credentials:
        monkeypatch.delenv(name)
    failure(policy(public))


def failure(trusted: SigningPolicy) -> str:
    """The error of a signature that fails, without a secret, in one line."""
    with pytest.raises(SystemFailed) as caught:
        open_signer(trusted).sign(PAYLOAD)
    text = str(caught.value)
    assert text.startswith("the entry could not be signed with ")
    assert SECRET not in text
    assert "\n" not in text
    return text
