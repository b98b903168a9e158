"""The promotion as MLflow's model registry shows it: a mirror, never asked for the truth."""

from collections.abc import Callable

from lynx_pipeline.adapters.mlflow_tracking import mirror_alias
from lynx_pipeline.config import Settings
from lynx_pipeline.domain.ledger.chain import Fact
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.evaluation.candidate import SEMVER_TAG

ALIASES = {Env.DEV: "dev", Env.PROD: "production"}


def mirror(settings: Settings, latest: Callable[[], Fact]) -> dict[str, str]:
    """Point the environment's alias at what is ``latest``. Running it again changes nothing.

    The ledger is asked again after the alias moved: of two mirrors that overtake each other,
    the last to write sees what the other one promoted.

    Raises:
        SystemFailed: MLflow failed; the promotion stands all the same.
    """
    alias = ALIASES[settings.env]
    while True:
        fact = latest()
        version = mirror_alias(
            settings.tracking_uri,
            model=fact.model,
            alias=alias,
            uri=fact.artifact_uri or "",
            run_id=fact.mlflow_run_id or "",
            tags={SEMVER_TAG: fact.semver or "", "lynx.canonical_sha": fact.canonical_sha},
        )
        if latest() == fact:
            return {
                "alias": alias,
                "mlflow_version": version,
                "semver": fact.semver or "",
                "canonical_sha": fact.canonical_sha,
            }
