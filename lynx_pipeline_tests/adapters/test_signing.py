"""Signing with a key from the environment."""

import base64
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from securesystemslib.exceptions import UnsupportedLibraryError

from lynx_pipeline.adapters.git import run
from lynx_pipeline.adapters.signing import VARIABLE, open_signer
from lynx_pipeline.domain.ledger.signatures import is_signed, load_key
from lynx_pipeline.domain.ledger.statements import read_envelope
from lynx_pipeline.domain.release.signing import SigningPolicy, TrustedKey
from lynx_pipeline.errors import BadInput, LynxError, NotInstalled, Refused
from lynx_pipeline_tests.support.signing import RELEASE, private_key, private_pem, public_key

PAYLOAD = b'{"_type": "something"}'


def policy(*keys: str) -> SigningPolicy:
    """A policy that trusts these public keys."""
    return SigningPolicy(tuple(TrustedKey(key) for key in keys))


def test_a_private_key_in_the_environment_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the key in the settings that it belongs to, whatever else is there."""
    p256 = ec.generate_private_key(ec.SECP256R1()).public_key()
    other = base64.b64encode(
        p256.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    ).decode()
    monkeypatch.setenv(VARIABLE, f"\n{private_pem()}\n")
    trusted = policy(other, public_key("other"), public_key())
    envelope = open_signer(trusted).sign(PAYLOAD)
    assert read_envelope(envelope.to_line()) == envelope
    assert [is_signed(envelope, load_key(key)) for key in trusted.keys] == [False, False, True]


def encrypted() -> str:
    """A private key with a passphrase."""
    return (
        private_key()
        .private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"hunter2"),
        )
        .decode()
    )


@pytest.mark.parametrize(
    ("value", "trusted", "error", "message"),
    [
        (None, policy(public_key()), Refused, f"{VARIABLE} is not set: expected a private key"),
        (" ", policy(public_key()), Refused, f"{VARIABLE} is not set"),
        (private_pem(), policy(), Refused, "names no key that may sign"),
        (
            private_pem(),
            SigningPolicy((TrustedKey(public_key(), until="a" * 64),)),
            Refused,
            "names no key that may sign",
        ),
        (private_pem("other"), policy(public_key()), Refused, f"the key in {VARIABLE} is none of"),
        (private_pem()[:-40], policy(public_key()), BadInput, "Its value is not shown"),
        (encrypted(), policy(public_key()), BadInput, "in PEM without a passphrase"),
        ("file2:/etc/key.pem", policy(public_key()), BadInput, "starts with awskms:, azurekms:"),
        ("hunter2", policy(public_key()), BadInput, "Its value is not shown"),
        (private_pem(), policy("AAAA" * 9), BadInput, "expected an Ed25519"),
    ],
    ids=[
        "unset",
        "blank",
        "no keys",
        "only retired keys",
        "another key",
        "damaged",
        "with a passphrase",
        "a file",
        "nonsense",
        "an invalid public key",
    ],
)
def test_an_unusable_key_is_refused(
    monkeypatch: pytest.MonkeyPatch,
    value: str | None,
    trusted: SigningPolicy,
    error: type[LynxError],
    message: str,
) -> None:
    """No message contains it."""
    monkeypatch.delenv(VARIABLE, raising=False)
    if value is not None:
        monkeypatch.setenv(VARIABLE, value)
    with pytest.raises(error) as caught:
        open_signer(trusted).sign(PAYLOAD)
    assert message in str(caught.value)
    secret = private_pem().splitlines()[1]
    for text in (secret, secret[:20], "hunter2"):
        assert text not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each service needs one more."""
    monkeypatch.setattr("securesystemslib.signer._vault_signer.VAULT_IMPORT_ERROR", "no hvac")
    monkeypatch.setenv(VARIABLE, "hv:key/1")
    with pytest.raises(NotInstalled, match=r"pip install 'securesystemslib\[vault\]'"):
        open_signer(policy(public_key(RELEASE))).sign(PAYLOAD)


def test_no_message_contains_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even if the library fails in a way that nobody expects."""
    monkeypatch.setenv(VARIABLE, private_pem())
    signer = open_signer(policy(public_key()))
    for error in (UnsupportedAlgorithm("x"), UnsupportedLibraryError("x"), RuntimeError("x")):

        def fail(_: object, error: Exception = error) -> Any:
            raise error

        with pytest.raises(LynxError) as caught:
            replace(signer, open_with=fail).sign(PAYLOAD)
        assert private_pem().splitlines()[1][:20] not in str(caught.value)
        assert "BEGIN" not in str(caught.value)


def test_git_does_not_get_the_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nor do its hooks and helpers."""
    monkeypatch.setenv(VARIABLE, private_pem())
    monkeypatch.setenv("SOMETHING", "else")
    done = run(tmp_path, "-c", "alias.variables=!env", "variables")
    assert b"SOMETHING=else" in done.stdout
    assert VARIABLE.encode() not in done.stdout
