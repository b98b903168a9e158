"""The latest promotion in MLflow's model registry, and as a stage of GTO: only mirrors."""

from lynx_pipeline.adapters.mlflow_tracking import alias_target, mirror_alias
from lynx_pipeline.config import GitRemote
from lynx_pipeline.domain.candidate_eval import parse_candidate_eval
from lynx_pipeline.domain.ledger.chain import Entry
from lynx_pipeline.domain.ledger.facts import Evidence, Promoted
from lynx_pipeline.domain.text import printable
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.evaluation.candidate import SEMVER_TAG
from lynx_pipeline.registry.registry import Registry


def mirror(registry: Registry) -> dict[str, str]:
    """Point the environment's alias at the latest promotion, whose version in MLflow gets the
    verdict and the accuracies as tags; and put it into the stage of the setting ``gto_stage``. If
    one of them fails, the other is updated nevertheless. Repeating it changes nothing.

    The ledger is read again after each update: if two mirrors run at once, the last one to
    write sees what the other promoted.

    Raises:
        BadInput: the promotion's evidence or tag is missing or damaged.
        SystemFailed: MLflow, git or the remote failed. The promotion is not affected.
    """
    try:
        alias = _mirror_alias(registry)
    finally:
        stage = _mirror_stage(registry)
    return {**alias, **stage}


def _mirror_stage(registry: Registry) -> dict[str, str]:
    settings = registry.settings
    if not settings.gto_stage or not isinstance(settings.registry, GitRemote):
        return {}
    from lynx_pipeline.adapters.ledgers.gto_stage import assign_stage

    while True:
        entry = registry.promoted()
        tag = assign_stage(
            settings.registry,
            settings.model,
            settings.gto_stage,
            entry.fact.semver,
            pinned=settings.env is Env.PROD,
        )
        if registry.promoted() == entry:
            return {"gto_stage": tag}


def _mirror_alias(registry: Registry) -> dict[str, str]:
    settings = registry.settings
    while True:
        entry = registry.promoted()
        fact = entry.fact
        accuracies = _accuracies(registry, entry)
        version = mirror_alias(
            settings.tracking_uri,
            model=fact.model,
            alias=settings.alias,
            uri=fact.artifact_uri,
            run_id=fact.mlflow_run_id,
            tags={SEMVER_TAG: fact.semver, "lynx.canonical_sha": fact.canonical_sha},
            about={"lynx.ledger_hash": entry.hash, **_verdict(fact), **_as_tags(accuracies)},
            metrics={f"lynx/{name}": accuracy for name, accuracy in accuracies.items()},
        )
        if registry.promoted() == entry:
            return {
                "alias": settings.alias,
                "mlflow_version": version,
                "semver": fact.semver,
                "canonical_sha": fact.canonical_sha,
            }


def alias_problem(registry: Registry) -> str | None:
    """What is wrong with MLflow's alias: it names another version than the latest promotion. None
    if it names that or nothing, or if nothing was promoted yet.

    Raises:
        SystemFailed: MLflow failed.
    """
    if not registry.promotions():
        return None
    settings, fact = registry.settings, registry.promoted().fact
    found = alias_target(settings.tracking_uri, fact.model, settings.alias)
    place = (fact.mlflow_run_id, fact.artifact_uri)
    if found is None or (found.run_id, found.source) == place:
        return None
    return (
        f"MLflow's alias {settings.alias!r} of {fact.model} names version {found.version}, of run "
        f"{printable(found.run_id)[:80]}. The latest promotion is {fact.semver}, of run "
        f"{fact.mlflow_run_id}. Find out who moved the alias. To move it back, run: dagster asset "
        "materialize -m "
        "lynx_pipeline.definitions --select production_alias"
    )


def _accuracies(registry: Registry, entry: Entry[Promoted]) -> dict[str, float]:
    """The accuracy of each bucket; none if it was promoted without evidence."""
    evidence = entry.fact.evidence
    if not isinstance(evidence, Evidence):
        return {}
    where = f"the stored evaluation of {entry.fact.semver}"
    raw = registry.store.evidence(evidence.candidate_eval_sha256)
    buckets = parse_candidate_eval(raw, where).counts.buckets
    return {name: float(score.accuracy) for name, score in buckets.items()}


def _verdict(fact: Promoted) -> dict[str, str]:
    if not isinstance(fact.evidence, Evidence):
        return {}
    return {"lynx.verdict": "passed", "lynx.worst_bucket": fact.evidence.worst_bucket}


def _as_tags(accuracies: dict[str, float]) -> dict[str, str]:
    return {f"lynx.accuracy.{name}": f"{value:.4f}" for name, value in accuracies.items()}
