"""A promoted version for people and programs that know nothing of this project: its signed
statements, its evidence, a bill of materials, and a model card.

- The bill of materials is CycloneDX 1.6: https://cyclonedx.org/docs/1.6/json/
- The statements, and the signature of the bundle's files, are described in docs/signatures.md.
"""

import os
import shutil
import uuid
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lynx_pipeline.adapters.files import make_folder
from lynx_pipeline.adapters.ledgers.store import Store
from lynx_pipeline.domain.gate.rule import BucketVerdict, Verdict
from lynx_pipeline.domain.ledger.chain import Entry, hashed_bytes
from lynx_pipeline.domain.ledger.facts import Evidence, Promoted
from lynx_pipeline.domain.manifest import Manifest, read_manifest
from lynx_pipeline.domain.strict_json import JsonObject, canonical
from lynx_pipeline.errors import BadInput, Refused, from_os_error
from lynx_pipeline.registry import Registry
from lynx_pipeline.registry.audit import Audit
from lynx_pipeline.reports.markdown import escaped, markdown
from lynx_pipeline.reports.report import Report, interval

ENTRY, STATEMENTS, MODEL_SIGNATURE = "entry.json", "attestations.intoto.jsonl", "model.sig"
BOM, CARD = "bom.cdx.json", "MODEL_CARD.md"
MANIFEST, BASELINE = "bundle_manifest.json", "eval_baseline.json"
_CARD = """\
# {title}

A model that passed its deploy gate: no bucket of the eval set is more than the tolerance below its
baseline.

{facts}

## Evaluation

{evaluation}

## Limits

The numbers are about the questions of this eval set. The intervals are 95 % Wilson score intervals,
which treat the questions as a random sample of what the model will be asked. Latency, safety and
fairness were not part of the gate.
"""


def export(registry: Registry, audit: Audit, folder: Path) -> list[str]:
    """Write everything about an audited version into the new ``folder``, completely or not at all.
    Returns the files' names.

    Raises:
        Refused: the audit has findings.
        BadInput: the folder exists, or evidence is missing.
        SystemFailed: the registry or the disk failed.
    """
    if audit.findings or audit.promotion is None or audit.verdict is None:
        raise Refused("the audit has findings, so nothing is exported.")
    if folder.exists():
        raise BadInput(f"{folder} exists already: expected the name of a folder to create.")
    files = _files(registry.store, audit, audit.promotion, audit.verdict)
    new = folder.with_name(f".{folder.name}.{os.urandom(8).hex()}")
    try:
        make_folder(new)
        for name, raw in files.items():
            (new / name).write_bytes(raw)
        new.rename(folder)
    except OSError as error:
        shutil.rmtree(new, ignore_errors=True)
        raise from_os_error(error) from None
    return [*files]


def _files(
    store: Store, audit: Audit, promotion: Entry[Promoted], verdict: Verdict
) -> dict[str, bytes]:
    evidence = promotion.fact.evidence
    assert isinstance(evidence, Evidence)  # the audit has replayed it
    manifest = (
        store.evidence(promotion.fact.bundle_digest) if promotion.fact.bundle_digest else None
    )
    bom = _bill_of_materials(promotion, verdict, read_manifest(manifest) if manifest else None)
    envelopes, signature, _ = audit.attestations
    return {
        ENTRY: hashed_bytes(promotion),
        **({STATEMENTS: b"".join(it.to_line() for it in envelopes)} if envelopes else {}),
        **({MODEL_SIGNATURE: signature.file} if signature.file else {}),
        BASELINE: store.evidence(evidence.baseline_sha256),
        "candidate_eval.json": store.evidence(evidence.candidate_eval_sha256),
        "predictions.parquet": store.evidence(evidence.predictions_sha256),
        **({MANIFEST: manifest} if manifest else {}),
        BOM: canonical(bom) + b"\n",
        CARD: _model_card(promotion, evidence, verdict).encode(),
    }


def _bill_of_materials(
    promotion: Entry[Promoted], verdict: Verdict, manifest: Manifest | None
) -> JsonObject:
    fact = promotion.fact
    model: JsonObject = {
        "type": "machine-learning-model",
        "bom-ref": f"{fact.model}@{fact.semver}",
        "name": fact.model,
        "version": fact.semver,
        "purl": f"pkg:mlflow/{fact.model}@{fact.semver}",
        "modelCard": {
            "quantitativeAnalysis": {
                "performanceMetrics": [_metric(it) for it in verdict.buckets if it.candidate]
            }
        },
        "properties": [
            {"name": f"lynx-pipeline:{name}", "value": value}
            for name, value in (
                ("ledger_entry", promotion.hash),
                ("bundle_digest", fact.bundle_digest),
                ("canonical_sha", fact.canonical_sha),
                ("artifact_uri", fact.artifact_uri),
                ("mlflow_run_id", fact.mlflow_run_id),
            )
            if value is not None
        ],
        "components": [
            {
                "type": "file",
                "bom-ref": it.path,
                "name": it.path,
                "hashes": [{"alg": "SHA-256", "content": it.sha256}],
            }
            for it in (manifest.files if manifest else ())
        ],
    }
    tool = {"type": "application", "name": "lynx-pipeline", "version": version("lynx-pipeline")}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.UUID(promotion.hash[:32], version=4)}",
        "version": 1,
        "metadata": {
            "timestamp": fact.time,
            "tools": {"components": [tool]},
            "component": model,
        },
    }


def _metric(bucket: BucketVerdict) -> JsonObject:
    """A bucket's accuracy as CycloneDX has it: all values are texts."""
    assert bucket.candidate is not None
    span = interval(bucket)
    bounds: dict[str, Any] = {}
    if span is not None:
        bounds["confidenceInterval"] = {
            "lowerBound": f"{span[0]:.6f}",
            "upperBound": f"{span[1]:.6f}",
        }
    return {
        "type": "accuracy",
        "value": f"{float(bucket.candidate.accuracy):.6f}",
        "slice": bucket.name,
        **bounds,
    }


def _model_card(promotion: Entry[Promoted], evidence: Evidence, verdict: Verdict) -> str:
    fact = promotion.fact
    facts = {
        "promoted": f"{fact.time} in {fact.env}, ledger entry {promotion.seq}",
        "model": fact.artifact_uri,
        "bundle digest": fact.bundle_digest or "not recorded",
        "parent": fact.parent_sha or "none",
        "eval set": f"sha256 {evidence.eval_set_sha256}",
        "scorer": evidence.scorer,
        "tolerance": f"{evidence.tolerance * 100:g} percentage points in each bucket",
        "isolation": evidence.isolation,
    }
    return _CARD.format(
        title=f"{escaped(fact.model)} {escaped(fact.semver)}",
        facts="\n".join(f"- {name}: {escaped(value)}" for name, value in facts.items()),
        evaluation=markdown(Report(verdict), folded=False),
    )
