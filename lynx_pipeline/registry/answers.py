"""What a reader of the registry gets: the version that is in force, and whether that is certain."""

from dataclasses import dataclass
from typing import NamedTuple

from lynx_pipeline.domain.ledger.chain import Entry
from lynx_pipeline.domain.ledger.facts import Promoted


class Stale(UserWarning):
    """The registry can't be verified, and a version that was verified before is used instead. The
    command line shows this warning too."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a serving process needs: which bundle, and where to load it from. ``bundle_digest`` is
    None for promotions from before it was recorded. ``stale`` is None, or why the registry can't be
    verified now: then this is what was the latest version when it last was."""

    model: str
    semver: str
    canonical_sha: str
    bundle_digest: str | None
    mlflow_run_id: str
    artifact_uri: str
    stale: str | None = None


class Answer(NamedTuple):
    """A promotion, and ``stale`` as in :class:`Resolved`."""

    entry: Entry[Promoted]
    stale: str | None
