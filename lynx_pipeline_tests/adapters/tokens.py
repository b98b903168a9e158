"""The messages of failed verifications, checked to leak no part of the token."""

import pytest

from lynx_pipeline.adapters.oidc import RawToken, verify
from lynx_pipeline.domain.release.identity import Policy
from lynx_pipeline.errors import Refused, SystemFailed


def without_secrets(message: str, *secrets: str) -> str:
    """``message``, after asserting that it contains no 24 characters in a row of any secret."""
    for piece in (message[at : at + 24] for at in range(max(1, len(message) - 23))):
        assert len(piece) < 24 or not any(piece in it for it in secrets), piece
    return message


def refusal(token: str, policy: Policy) -> str:
    """The message with which the token is refused."""
    with pytest.raises(Refused) as caught:
        verify(RawToken(token), policy)
    message = str(caught.value)
    assert message.startswith("prod is changed only by the CI workflow's verified identity")
    assert "Nothing was changed" not in message  # the code that prints a refusal adds it
    assert not any(part in message for part in token.split(".") if len(part) > 8)
    return without_secrets(message, token)


def failure(token: str, policy: Policy) -> str:
    """The message with which verifying fails because of the issuer."""
    with pytest.raises(SystemFailed) as caught:
        verify(RawToken(token), policy)
    return without_secrets(str(caught.value), token)
