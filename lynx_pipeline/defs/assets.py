"""The assets, in flow order. Values pass through files in each candidate's folder, not through
Dagster: a step reads what it needs and verifies it, however it was launched.

A tag says what an asset changes outside Dagster.
"""

from collections.abc import Iterator
from typing import Any

from dagster import (
    AssetDep,
    AssetExecutionContext,
    AssetMaterialization,
    AssetsDefinition,
    Config,
    DataVersion,
    MaterializeResult,
    MetadataValue,
    SpecificPartitionsPartitionMapping,
    asset,
)

from lynx_pipeline.defs.failures import failures
from lynx_pipeline.defs.gate import (
    CANDIDATE_BUNDLE,
    CANDIDATE_EVAL,
    EVAL_BASELINE,
    EVAL_SET,
    PRODUCTION_ALIAS,
    PROMOTION_DECISION,
    Gate,
)
from lynx_pipeline.defs.known import Known, look_up, recall
from lynx_pipeline.defs.metadata import (
    IS_NEW,
    baseline_metadata,
    buckets_metadata,
    candidate_metadata,
    corpus_metadata,
    entry_metadata,
    evaluation_metadata,
    file_metadata,
    margin_metadata,
)
from lynx_pipeline.domain.eval_set import bucket_sizes
from lynx_pipeline.domain.ledger.facts import Evidence, Promoted
from lynx_pipeline.errors import BadInput
from lynx_pipeline.evaluation import inputs
from lynx_pipeline.evaluation.candidate import candidate, downloaded, fetch, tagged_semver
from lynx_pipeline.evaluation.corpus import read_corpus
from lynx_pipeline.evaluation.evidence import changes_since
from lynx_pipeline.evaluation.run import evaluate_candidate
from lynx_pipeline.registry import Registry
from lynx_pipeline.registry.mirror import mirror
from lynx_pipeline.reports.progress import lines
from lynx_pipeline.reports.report import build_report, write_report

Result = MaterializeResult[Any]


class BundleConfig(Config):
    """``fetched: true`` uses the bundle in the candidate's folder, which an earlier job with access
    to MLflow has put there. ``bundle_digest`` is the digest that the bundle must have, as it was
    requested; empty: any."""

    fetched: bool = False
    bundle_digest: str = ""


class EvaluationConfig(Config):
    """``again: true`` evaluates the candidate again, even if its stored evaluation is valid."""

    again: bool = False


class PromotionConfig(Config):
    """The version to promote under. Empty: the run's tag ``lynx.semver``. ``bundle_digest`` as for
    the bundle."""

    semver: str = ""
    bundle_digest: str = ""


def build_assets(gate: Gate) -> list[AssetsDefinition]:
    """The assets of a gate."""
    flow = (_eval_set, _eval_baseline, _candidate_bundle, _candidate_eval, _promotion_decision,
            _production_alias)  # fmt: skip
    return [build(gate) for build in flow]


def _eval_set(gate: Gate) -> AssetsDefinition:
    @asset(key=gate.key(EVAL_SET), group_name=gate.group("inputs"), kinds={"dvc"}, code_version="1")
    def eval_set(context: AssetExecutionContext) -> Result:
        """The questions with their correct answers, versioned by DVC.

        Pulled if it is not on disk; its bytes are hashed and compared with what DVC recorded. So is
        the corpus, if the project has one.
        """
        with failures():
            settings = gate.settings()
            items = inputs.read_eval_set(settings)
            corpus = read_corpus(settings)
        buckets = len(bucket_sizes(items))
        context.log.info(f"Eval set: {len(items):,} items in {buckets:,} buckets.")
        return MaterializeResult(
            data_version=DataVersion(items.dvc_hash),
            metadata={
                "dagster/row_count": len(items),
                "buckets": buckets,
                "dvc_md5": items.dvc_hash,
                "sha256": items.sha256,
                "scorer": items.scorer.name,
                "path": MetadataValue.path(str(settings.eval_set)),
                **corpus_metadata(settings, corpus),
            },
        )

    return eval_set


def _eval_baseline(gate: Gate) -> AssetsDefinition:
    @asset(
        key=gate.key(EVAL_BASELINE),
        group_name=gate.group("inputs"),
        kinds={"git"},
        code_version="1",
    )
    def eval_baseline() -> Result:
        """The committed baseline: the reference model's accuracy in every bucket, and the
        tolerance."""
        with failures():
            settings = gate.settings()
            baseline = inputs.read_baseline(settings.baseline)
        return MaterializeResult(
            data_version=DataVersion(baseline.sha256),
            metadata={
                **baseline_metadata(baseline),
                "path": MetadataValue.path(str(settings.baseline)),
            },
        )

    return eval_baseline


def _candidate_bundle(gate: Gate) -> AssetsDefinition:
    @asset(
        key=gate.key(CANDIDATE_BUNDLE),
        group_name=gate.group("candidate"),
        kinds={"mlflow"},
        partitions_def=gate.partitions,
        code_version="1",
    )
    def candidate_bundle(context: AssetExecutionContext, config: BundleConfig) -> Result:
        """The candidate's model directory, downloaded from MLflow, and its content identity."""
        with failures():
            settings, key = gate.settings(), context.partition_key
            if config.fetched:
                bundle = downloaded(settings, key)
            else:
                bundle = fetch(settings, key, context.log.info)
            if config.bundle_digest not in ("", bundle.digest):
                folder = candidate(settings, key).folder
                raise BadInput(
                    f"candidate {key} changed in MLflow after it was requested: "
                    f"{changes_since(folder, config.bundle_digest, bundle)}. Its bundle digest is "
                    f"{bundle.digest}, expected {config.bundle_digest}. Request it again."
                )
        # Where an earlier job has fetched the bundle, this one has no access to MLflow.
        known = Known() if config.fetched else look_up(settings, key)
        context.log.info(
            f"Candidate {known.describe(key)}: {bundle.files:,} files, {bundle.size:,} bytes, "
            f"canonical sha {bundle.canonical_sha}."
        )
        return MaterializeResult(
            data_version=DataVersion(bundle.canonical_sha),
            metadata={
                **candidate_metadata(settings, key, known),
                "canonical_sha": bundle.canonical_sha,
                "bundle_digest": bundle.digest,
                "parent_sha": bundle.parent_sha,
                "files": bundle.files,
                "bytes": bundle.size,
            },
        )

    return candidate_bundle


def _candidate_eval(gate: Gate) -> AssetsDefinition:
    @asset(
        key=gate.key(CANDIDATE_EVAL),
        group_name=gate.group("candidate"),
        kinds={"python"},
        partitions_def=gate.partitions,
        deps=[gate.key(EVAL_SET), gate.key(EVAL_BASELINE), gate.key(CANDIDATE_BUNDLE)],
        tags={"runs": "candidate-code"},
        code_version="1",
    )
    def candidate_eval(context: AssetExecutionContext, config: EvaluationConfig) -> Result:
        """The candidate's answers to every question, counted per bucket, and the report.

        The candidate runs in its own process, which sees nothing but prompts. A stored evaluation
        is reused if bundle, eval set, scorer, ``answer_column`` and ``env_manager`` are the same,
        unless the run config sets ``again: true``.
        """
        with failures():
            settings = gate.settings()
            evaluated = candidate(settings, context.partition_key)
            judged, reused = evaluate_candidate(
                settings,
                evaluated,
                again=config.again,
                warn=context.log.warning,
                say=context.log.info,
                progress=lines(context.log.info),
            )
            write_report(build_report(settings, judged), evaluated.folder)
        evaluation = judged.evidence.evaluation
        counts = evaluation.counts
        context.log.info(
            f"{'Reused the stored evaluation' if reused else 'Evaluated'}: {counts.correct:,} of "
            f"{counts.n:,} answers are right."
        )
        return MaterializeResult(
            data_version=DataVersion(evaluation.predictions_sha256),
            metadata={
                **candidate_metadata(
                    settings, evaluated.key, recall(gate, context.instance, evaluated.key)
                ),
                **margin_metadata(judged.verdict),
                **evaluation_metadata(evaluation),
                "kept_from_before": reused,
                "evidence": file_metadata(settings, evaluated.evidence),
                **buckets_metadata(judged.verdict),
            },
        )

    return candidate_eval


def _promotion_decision(gate: Gate) -> AssetsDefinition:
    @asset(
        key=gate.key(PROMOTION_DECISION),
        group_name=gate.group("promotion"),
        kinds={"jsonl"},
        partitions_def=gate.partitions,
        # It uses eval set and baseline itself, so a change of either makes a promotion stale.
        deps=[gate.key(EVAL_SET), gate.key(EVAL_BASELINE), gate.key(CANDIDATE_EVAL)],
        tags={"writes": "registry"},
        code_version="1",
        # One promotion at a time where the instance limits pools, as a team's server does. This
        # only keeps the order: the ledger has its own lock.
        pool=gate.prefixed("promotion"),
    )
    def promotion_decision(
        context: AssetExecutionContext, config: PromotionConfig
    ) -> Iterator[Result]:
        """The one step that changes production: an entry in the registry's ledger, or a refusal.

        The verdict is computed here, from the stored predictions, however the step was launched.
        After a promotion it also updates `production_alias`.
        """
        with failures():
            settings = gate.settings()
            key = context.partition_key
            semver = config.semver or tagged_semver(settings, key)
            evidence = candidate(settings, key).evidence
            sha = downloaded(settings, key).canonical_sha
            registry = Registry.open(settings)
            entry, is_new = registry.promote(
                sha,
                semver,
                evidence=evidence,
                candidate=key,
                bundle_digest=config.bundle_digest or None,
                say=context.log.info,
            )
        done = "Promoted" if is_new else "Promoted by an earlier run"
        context.log.info(
            f"{done}: {entry.fact.model} {semver}, ledger entry {entry.seq}.{_worst(entry.fact)}"
        )
        yield MaterializeResult(
            data_version=DataVersion(entry.hash),
            metadata={
                **candidate_metadata(settings, key, recall(gate, context.instance, key)),
                **entry_metadata(entry, settings.identity),
                IS_NEW: is_new,
            },
        )
        # Not a step of its own: Dagster would show the alias as failed after each refusal, although
        # production has not changed.
        with failures():
            mirrored = mirror(registry)
        context.log_event(AssetMaterialization(gate.key(PRODUCTION_ALIAS), metadata=mirrored))

    return promotion_decision


def _production_alias(gate: Gate) -> AssetsDefinition:
    @asset(
        key=gate.key(PRODUCTION_ALIAS),
        group_name=gate.group("promotion"),
        kinds={"mlflow"},
        # It mirrors the registry. Dagster would call it out of date because of candidates that were
        # not promoted, so it depends on the asset and on no candidate's partition.
        deps=[
            AssetDep(
                gate.key(PROMOTION_DECISION),
                partition_mapping=SpecificPartitionsPartitionMapping([]),
            )
        ],
        tags={"writes": "mlflow-alias"},
    )
    def production_alias() -> Result:
        """The latest promotion, mirrored as an alias in MLflow's model registry.

        The alias is only a mirror: the registry decides what is in production. There is one for all
        candidates, and each promotion updates it. Materialize it only if it differs from the
        registry.
        """
        with failures():
            settings = gate.settings()
            registry = Registry.open(settings)
            mirrored = mirror(registry)
        return MaterializeResult(metadata=mirrored)

    return production_alias


def _worst(fact: Promoted) -> str:
    """The worst bucket of a promotion, for the log."""
    if not isinstance(fact.evidence, Evidence):
        return ""
    margin = fact.evidence.worst_margin * 100
    return f" Worst bucket: {fact.evidence.worst_bucket}, {margin:.2f} points above its floor."
