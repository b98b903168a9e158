"""Versions: which semver may name a promotion, in which environment.

In ``prod`` only ``vX.Y.Z``, greater than every version promoted there before. In ``dev``
only ``vX.Y.Z-dev`` or ``vX.Y.Z-dev.N``. Nowhere build metadata, and no other pre-release.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from lynx_pipeline.errors import BadInput

_NUMBER = r"(0|[1-9][0-9]{0,8})"
_SEMVER = re.compile(rf"v{_NUMBER}\.{_NUMBER}\.{_NUMBER}(?:-dev(?:\.{_NUMBER})?)?")


class Env(StrEnum):
    """``LYNX_ENV``: where a promotion counts."""

    DEV = "dev"
    PROD = "prod"


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """``vX.Y.Z``, as numbers that compare as semver says."""

    major: int
    minor: int
    patch: int

    def __str__(self) -> str:
        return f"v{self.major}.{self.minor}.{self.patch}"


def check_semver(text: str, env: Env) -> Version:
    """The version that ``text`` names, if it may name a promotion in ``env``.

    Raises:
        BadInput: it may not; the message says what would.
    """
    expected = "vX.Y.Z" if env is Env.PROD else "vX.Y.Z-dev or vX.Y.Z-dev.N"
    match = _SEMVER.fullmatch(text)
    if match is None or ("-" in text) is (env is Env.PROD):
        raise BadInput(
            f"the semver {text!r} can't name a promotion in {env}: expected {expected}, "
            "without build metadata."
        )
    return Version(int(match[1]), int(match[2]), int(match[3]))
