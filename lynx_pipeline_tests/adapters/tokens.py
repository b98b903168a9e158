"""How a token is refused and how an issuer fails us, with nothing of the token in the message."""

import pytest

from lynx_pipeline.adapters.oidc import RawToken, verify
from lynx_pipeline.domain.release.identity import Policy
from lynx_pipeline.errors import Refused, SystemFailed


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
