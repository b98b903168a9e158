"""The promotion as MLflow's model registry shows it: a mirror, never asked for the truth."""

from lynx_pipeline.adapters.mlflow_tracking import mirror_alias
from lynx_pipeline.config import Settings
from lynx_pipeline.domain.ledger import Fact
from lynx_pipeline.domain.versioning import Env

ALIASES = {Env.DEV: "dev", Env.PROD: "production"}


def mirror(settings: Settings, fact: Fact) -> dict[str, str]:
    """Point the environment's alias at the promoted bundle. Running it again changes nothing.

    Raises:
        SystemFailed: MLflow failed; the promotion stands all the same.
    """
    alias = ALIASES[settings.env]
    version = mirror_alias(
        settings.tracking_uri,
        model=fact.model,
        alias=alias,
        uri=fact.artifact_uri or "",
        run_id=fact.mlflow_run_id or "",
        tags={"lynx.semver": fact.semver or "", "lynx.canonical_sha": fact.canonical_sha},
    )
    return {
        "alias": alias,
        "mlflow_version": version,
        "semver": fact.semver or "",
        "canonical_sha": fact.canonical_sha,
    }
