"""What people know a candidate by: its key is 32 hex digits.

The step that downloads the bundle records it in its metadata; everything else reads it there. It is
only shown: anybody who can write to MLflow controls it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dagster import AssetRecordsFilter, DagsterInstance

from lynx_pipeline.config import Settings
from lynx_pipeline.defs.gate import CANDIDATE_BUNDLE, Gate
from lynx_pipeline.errors import LynxError
from lynx_pipeline.evaluation.candidate import SEMVER_TAG, about, described

_RUN_NAME, _AUTHOR, _VERSION = "run_name", "author", "requested_version"


@dataclass(frozen=True, slots=True)
class Known:
    """The name and the user of the candidate's MLflow run, and the version that its tag requests;
    "" for what is unknown."""

    run_name: str = ""
    author: str = ""
    semver: str = ""

    @property
    def metadata(self) -> Mapping[str, str]:
        """As metadata, without what is unknown."""
        all_of_it = {_RUN_NAME: self.run_name, _AUTHOR: self.author, _VERSION: self.semver}
        return {key: value for key, value in all_of_it.items() if value}

    def describe(self, key: str) -> str:
        """The candidate's key with what is known."""
        return described(key, self.run_name, self.author)


def look_up(settings: Settings, key: str) -> Known:
    """What MLflow says. Nothing depends on it, so a failure only leaves it unknown."""
    try:
        run = about(settings, key)
    except LynxError:
        return Known()
    return Known(run.name, run.author, run.tags.get(SEMVER_TAG, "")[:80])


def recall(gate: Gate, instance: DagsterInstance, key: str) -> Known:
    """What the last download of the candidate recorded. Nothing depends on it, so a failure only
    leaves it unknown."""
    wanted = AssetRecordsFilter(gate.key(CANDIDATE_BUNDLE), asset_partitions=[key])
    try:
        records = instance.fetch_materializations(wanted, limit=1).records
    except Exception:  # of any storage's library
        return Known()
    made = records[0].asset_materialization if records else None
    found: Mapping[str, Any] = made.metadata if made else {}
    names = (_RUN_NAME, _AUTHOR, _VERSION)
    return Known(*(str(found[name].value) if name in found else "" for name in names))
