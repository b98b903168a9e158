"""Versions: which semver a promotion may use in which environment.

In ``prod`` only ``vX.Y.Z``, in ``dev`` only ``vX.Y.Z-dev`` or ``vX.Y.Z-dev.N``. Build metadata and
other pre-releases are refused in both. Leaves to the registry: that a version in prod is greater
than all promoted before it, and that no version is used twice.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from lynx_pipeline.errors import BadInput

_NUMBER = r"(0|[1-9][0-9]{0,8})"
_SEMVER = re.compile(rf"v{_NUMBER}\.{_NUMBER}\.{_NUMBER}(?:-dev(?:\.{_NUMBER})?)?")


class Env(StrEnum):
    """``LYNX_ENV``: the environment a promotion belongs to."""

    DEV = "dev"
    PROD = "prod"


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """``vX.Y.Z``, as numbers that compare in semver order."""

    major: int
    minor: int
    patch: int

    def __str__(self) -> str:
        return f"v{self.major}.{self.minor}.{self.patch}"


def check_semver(text: str, env: Env) -> Version:
    """The version that ``text`` names.

    Raises:
        BadInput: a promotion in ``env`` can't have this version; the message gives the right form.
    """
    expected = "vX.Y.Z" if env is Env.PROD else "vX.Y.Z-dev or vX.Y.Z-dev.N"
    match = _SEMVER.fullmatch(text)
    if match is None or ("-" in text) is (env is Env.PROD):
        raise BadInput(
            f"the semver {text!r} can't name a promotion in {env}: expected {expected}, "
            "without build metadata."
        )
    return Version(int(match[1]), int(match[2]), int(match[3]))
