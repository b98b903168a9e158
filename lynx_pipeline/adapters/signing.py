"""Signs statements with the key that ``LYNX_SIGNING_KEY`` gives: a private key in PEM, or the URI
of one in a key management service.

Only the environment gives it, so it is in no file, argument or log. The library that signs knows
the services. What it signed is verified here, as readers will verify it, before anything is kept.
"""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lynx_pipeline.domain.ledger.signatures import TABLE, is_signed, load_key
from lynx_pipeline.domain.ledger.statements import Envelope, Signature, to_sign
from lynx_pipeline.domain.release.signing import SigningPolicy, TrustedKey
from lynx_pipeline.domain.text import one_line
from lynx_pipeline.errors import BadInput, NotInstalled, Refused, SystemFailed

if TYPE_CHECKING:
    from securesystemslib.signer import Signer as LibrarySigner
    from securesystemslib.signer import SSlibKey

    from lynx_pipeline.domain.ledger.signatures import PublicKey

VARIABLE = "LYNX_SIGNING_KEY"
# The schemes of the library that have a key management service or a device behind them, and the
# package that each needs.
SCHEMES = {
    "awskms": "securesystemslib[awskms]",
    "azurekms": "securesystemslib[azurekms]",
    "gcpkms": "securesystemslib[gcpkms]",
    "hv": "securesystemslib[vault]",
}
_EXPECTED = (
    "a private key in PEM without a passphrase ('openssl genpkey -algorithm ed25519'), or a URI "
    f"that starts with {', '.join(f'{it}:' for it in SCHEMES)}"
)

# What the library raises, beside other mistakes, if the private key and a public key can't belong
# together.
_OTHER_KINDS = (KeyError, ValueError)


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs with one of the ``keys`` that the settings trust. ``open_with`` gives the library's
    signer for one of them, and raises if the private key belongs to another."""

    keys: tuple[TrustedKey, ...]
    open_with: "Callable[[SSlibKey], LibrarySigner]"

    def sign(self, payload: bytes) -> Envelope:
        """``payload`` in a signed envelope.

        Raises:
            Refused: the private key belongs to none of the settings' keys.
            NotInstalled: the package for this service is missing.
            SystemFailed: the service failed.
        """
        from securesystemslib.exceptions import UnsupportedLibraryError
        from securesystemslib.signer import SSlibKey

        signed, works = to_sign(payload), False
        problems = list[Exception]()
        for trusted in self.keys:
            public = load_key(trusted)
            try:
                known = SSlibKey.from_crypto(public)
                made = self.open_with(known).sign(signed)
            except UnsupportedLibraryError:
                raise _missing_package() from None
            except Exception as error:  # each service's library raises its own
                problems.append(error)
                continue
            works = True
            signature = Signature(known.keyid, bytes.fromhex(made.signature))
            envelope = Envelope(payload, (signature,))
            if is_signed(envelope, public):
                return envelope
        if _scheme() in SCHEMES and not works:
            # What the service says rather than that another kind of key does not fit.
            problems.sort(key=lambda error: isinstance(error, _OTHER_KINDS))
            raise _failed(problems[0])
        raise Refused(
            f"the key in {VARIABLE} is none of those that {TABLE} names and does not retire, so "
            "its signatures would not count. Commit its public key there, or use another key."
        )

    def key_of(self, envelope: Envelope) -> "PublicKey":
        """The key that signed an envelope of this signer."""
        return next(it for it in map(load_key, self.keys) if is_signed(envelope, it))


def open_signer(policy: SigningPolicy) -> Signer:
    """The signer of this process.

    Raises:
        Refused: the settings name no key that may sign, or the environment gives none, or a private
            key that belongs to none of them.
        BadInput: the key is invalid.
    """
    if not policy.current:
        raise Refused(
            f"prod takes signed entries only, and {TABLE} names no key that may sign: expected its "
            "public key in 'keys'. See docs/signatures.md."
        )
    given = os.environ.get(VARIABLE, "").strip()
    if not given:
        raise Refused(
            f"prod takes signed entries only, and {VARIABLE} is not set: expected {_EXPECTED}. "
            "Promote through the deploy workflow, which has it."
        )
    # It logs what fails, besides raising it.
    logging.getLogger("securesystemslib").setLevel(logging.CRITICAL)
    if given.startswith("-----BEGIN "):
        signer = Signer(policy.current, _from_pem(given))
        signer.sign(b"")  # a key that nobody trusts is refused before any work
        return signer
    scheme = given.partition(":")[0]
    if scheme not in SCHEMES:
        raise BadInput(f"{VARIABLE}: expected {_EXPECTED}. Its value is not shown.")
    return Signer(policy.current, lambda key: _library().from_priv_key_uri(given, key))


def _from_pem(text: str) -> "Callable[[SSlibKey], LibrarySigner]":
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from securesystemslib.signer import CryptoSigner

    try:
        private = load_pem_private_key(text.encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise BadInput(f"{VARIABLE}: expected {_EXPECTED}. Its value is not shown.") from None
    return lambda key: CryptoSigner(private, key)


def _library() -> "type[LibrarySigner]":
    from securesystemslib.signer import Signer as LibrarySigner

    return LibrarySigner


def _scheme() -> str:
    """The service that the variable names; never a part of a key."""
    scheme = os.environ.get(VARIABLE, "").strip().partition(":")[0]
    return scheme if scheme in SCHEMES else "the private key"


def _missing_package() -> NotInstalled:
    package = SCHEMES.get(_scheme(), "cryptography")
    return NotInstalled(
        f"signing with {_scheme()} needs a package that is not installed. Install it: pip install "
        f"'{package}'."
    )


def _failed(error: Exception) -> SystemFailed:
    return SystemFailed(
        f"the entry could not be signed with {_scheme()}: {type(error).__name__}: "
        f"{one_line(error) or 'no details'}. Nothing was changed. Check the key's name in "
        f"{VARIABLE}, the service and the job's permission to use it, then run this again."
    )
