"""Whose signatures make an entry count in prod, from the reader's own settings.

How they are checked is in :mod:`lynx_pipeline.domain.ledger.signatures`.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A public key: a SubjectPublicKeyInfo in base64. ``until`` is the hash of the last entry that
    it may have signed; None while it is in use."""

    public_key: str
    until: str | None = None


@dataclass(frozen=True, slots=True)
class SigningPolicy:
    """Whose signatures count: ``[tool.lynx_pipeline.signatures]``.

    Entries up to the one with the hash ``unsigned_until`` need none. ``repository_id`` is the id
    of the repository whose entries count, if the settings name one: a copy of another repository's
    entry is signed too.
    """

    keys: tuple[TrustedKey, ...] = ()
    unsigned_until: str | None = None
    repository_id: str | None = None

    @property
    def current(self) -> tuple[TrustedKey, ...]:
        """The keys that may sign the next entry."""
        return tuple(key for key in self.keys if key.until is None)
