"""The latest promotion in MLflow's model registry: a mirror, never a source."""

from collections.abc import Callable

from lynx_pipeline.adapters.mlflow_tracking import mirror_alias
from lynx_pipeline.config import Settings
from lynx_pipeline.domain.ledger.facts import Promoted
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.evaluation.candidate import SEMVER_TAG

ALIASES = {Env.DEV: "dev", Env.PROD: "production"}


def mirror(settings: Settings, latest: Callable[[], Promoted]) -> dict[str, str]:
    """Point the environment's alias at the ``latest`` promotion. Repeating it changes nothing.

    The ledger is read again after the alias moved: if two mirrors run at once, the last one to
    write sees what the other promoted.

    Raises:
        SystemFailed: MLflow failed. The promotion is not affected.
    """
    alias = ALIASES[settings.env]
    while True:
        fact = latest()
        version = mirror_alias(
            settings.tracking_uri,
            model=fact.model,
            alias=alias,
            uri=fact.artifact_uri,
            run_id=fact.mlflow_run_id,
            tags={SEMVER_TAG: fact.semver, "lynx.canonical_sha": fact.canonical_sha},
        )
        if latest() == fact:
            return {
                "alias": alias,
                "mlflow_version": version,
                "semver": fact.semver,
                "canonical_sha": fact.canonical_sha,
            }
