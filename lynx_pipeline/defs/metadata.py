"""How values of the steps look in Dagster.

Numbers stay numbers, so that the UI can plot them over time. Metadata contains no secrets: the
tracking server's URI appears only as the link to a run, without user and password.
"""

import re
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from socket import gethostname
from typing import Any

from dagster import MetadataValue, TableColumn, TableRecord, TableSchema

from lynx_pipeline.adapters.actions import run_url
from lynx_pipeline.adapters.mlflow_tracking import run_page
from lynx_pipeline.config import Settings
from lynx_pipeline.defs.known import Known
from lynx_pipeline.domain.candidate_eval import CandidateEval, corpus_to_json
from lynx_pipeline.domain.candidate_key import parse_key
from lynx_pipeline.domain.corpus import CorpusDigests, CorpusFindings
from lynx_pipeline.domain.gate.baseline import Baseline
from lynx_pipeline.domain.gate.rule import Verdict
from lynx_pipeline.domain.ledger.chain import Entry
from lynx_pipeline.domain.ledger.facts import Actor, Evidence, Promoted
from lynx_pipeline.domain.release.identity import Policy
from lynx_pipeline.evaluation.candidate import PULL_REQUEST_TAG
from lynx_pipeline.reports.figure import figure_file
from lynx_pipeline.reports.markdown import markdown
from lynx_pipeline.reports.report import Report

Shown = Mapping[str, Any]

# Whether this run made the promotion; otherwise it was made before.
IS_NEW = "is_new"
WORST_BUCKET, WORST_MARGIN = "worst_bucket", "worst_margin_points"

# Every evaluation stores its figure; with more buckets it is only on the report's page.
_DRAWN = 100
_PULL_REQUEST = re.compile(r"https?://[A-Za-z0-9.:-]+/[\w./-]+/pull/[0-9]+", re.ASCII)


def candidate_metadata(settings: Settings, key: str, known: Known) -> Shown:
    """What people know the candidate by, its key, and a link to its MLflow run if the key names one
    and there is a server; without a server, the run's id."""
    run_id = parse_key(key).run_id
    if run_id is None:
        return {**known.metadata, "candidate": key}
    page = run_page(settings.mlflow_ui or settings.tracking_uri, run_id)
    named = {} if run_id == key else {"candidate": key}
    return {
        **known.metadata,
        **named,
        "mlflow_run": MetadataValue.url(page) if page else run_id,
    }


def file_metadata(settings: Settings, path: Path) -> Any:
    """Where a file is. With a tracking server, people use Dagster's UI from other machines, so the
    text names this one: a path alone would look like theirs."""
    if run_page(settings.tracking_uri, "") is None:
        return MetadataValue.path(str(path))
    return f"{path} on {gethostname()}"


def pull_request_metadata(tags: Mapping[str, str]) -> Shown:
    """A link to the requesting pull request, if the run's tag names one."""
    page = tags.get(PULL_REQUEST_TAG, "")
    return {"pull_request": MetadataValue.url(page)} if _PULL_REQUEST.fullmatch(page) else {}


def baseline_metadata(baseline: Baseline) -> Shown:
    """The baseline of every bucket, the model it was measured on, and the justification."""
    floors = [
        {
            "bucket": name,
            "floor %": _points(score.accuracy - baseline.tolerance),
            "baseline %": _points(score.accuracy),
            "n": score.n,
        }
        for name, score in baseline.buckets.items()
    ]
    return {
        "buckets": len(baseline.buckets),
        "tolerance_points": _points(baseline.tolerance),
        "floors": _table(floors),
        "measured_on": baseline.baseline_sha,
        "measured_before_on": baseline.previous_baseline_sha or "none: this is the first baseline",
        "justification": baseline.justification or "none given",
        "sha256": baseline.sha256,
    }


def corpus_metadata(settings: Settings, corpus: CorpusDigests | None) -> Shown:
    """Which corpus the eval set is compared with; nothing if the project has none."""
    if corpus is None:
        return {}
    return {
        **corpus_to_json(corpus),
        "corpus": MetadataValue.path(str(settings.corpus)),
        "corpus_checks": settings.corpus_checks,
    }


def overlap_metadata(findings: CorpusFindings) -> Shown:
    """How many questions are in the corpus, and some of them."""
    found = findings.overlap
    shown: dict[str, Any] = {
        "questions": findings.items,
        "corpus_lines": findings.lines,
        "prompts_found": found.prompts,
        "prompts_found_word_for_word": found.exact_prompts,
        "found_with_answer": found.pairs,
        "found_with_answer_word_for_word": found.exact_pairs,
    }
    if found.examples:
        shown["examples"] = _table([{"id": it, "prompt": prompt} for it, prompt in found.examples])
    return shown


def shift_metadata(findings: CorpusFindings) -> Shown:
    """The population stability index of each dimension."""
    rows = [
        {
            "dimension": shift.dimension,
            "index": round(shift.index, 4),
            "result": shift.result,
            "by chance": round(shift.by_chance, 4),
            "values": shift.values,
            "corpus lines": shift.lines,
        }
        for shift in findings.shifts
    ]
    if not rows:
        return {"corpus_lines": findings.lines}
    largest = {"largest_index": rows[0]["index"], "largest_index_dimension": rows[0]["dimension"]}
    return {**largest, "corpus_lines": findings.lines, "stability_index": _table(rows)}


def margin_metadata(verdict: Verdict) -> Shown:
    """How far the worst bucket is from its floor. For an evaluation, which is materialized and
    green whatever it measured: the verdict is the check's."""
    worst = verdict.worst
    return {WORST_MARGIN: _points(worst.margin), WORST_BUCKET: worst.name}


def verdict_metadata(verdict: Verdict) -> Shown:
    """The verdict in figures."""
    return {
        "verdict": "passed" if verdict.passed else "refused",
        **margin_metadata(verdict),
        "failed": len(verdict.failed),
        "failed_buckets": [bucket.name for bucket in verdict.failed],
        "ungated_buckets": list(verdict.ungated),
    }


def buckets_metadata(verdict: Verdict) -> Shown:
    """Every bucket against its floor, as a figure and as a table, failed buckets first."""
    report = Report(verdict)
    rows = [
        {
            "bucket": bucket.name,
            "result": "ok" if bucket.passed else "FAILED",
            "margin": _points(bucket.margin),
            "candidate %": _points(bucket.candidate and bucket.candidate.accuracy),
            "floor %": _points(bucket.floor),
            "baseline %": _points(bucket.baseline.accuracy),
            "n": bucket.baseline.n,
        }
        for bucket in report.buckets
    ]
    if len(rows) > _DRAWN:
        return {"buckets": _table(rows)}
    picture = b64encode(figure_file(report).encode()).decode()
    return {
        "figure": MetadataValue.md(f"![Every bucket](data:image/svg+xml;base64,{picture})"),
        "buckets": _table(rows),
    }


def report_metadata(report: Report) -> Shown:
    """The verdict and its context, as the UI shows them."""
    flips = report.comparison
    return {
        **verdict_metadata(report.verdict),
        **buckets_metadata(report.verdict),
        **(
            {"right_to_wrong": len(flips.lost), "wrong_to_right": len(flips.gained)}
            if flips
            else {}
        ),
        "report": MetadataValue.md(markdown(report, folded=False)),
    }


def evaluation_metadata(result: CandidateEval) -> Shown:
    """The evaluation's figures."""
    counts = result.counts
    return {
        "accuracy": round(counts.correct / counts.n, 4),
        "dagster/row_count": counts.n,
        "correct": counts.correct,
        "null_answers": counts.nulls,
        "isolation": result.isolation,
        "environment": result.environment,
        "scorer": result.scorer,
        "canonical_sha": result.canonical_sha,
        "bundle_digest": result.bundle_digest,
        "eval_set_sha256": result.eval_set_sha256,
        "predictions_sha256": result.predictions_sha256,
        **corpus_to_json(result.corpus),
        **result.metrics,
    }


def entry_metadata(entry: Entry[Promoted], policy: Policy | None) -> Shown:
    """A promotion as the ledger records it, and who made it."""
    fact = entry.fact
    shown: dict[str, Any] = {
        "semver": fact.semver,
        "env": fact.env.value,
        "promoted": fact.time,
        "canonical_sha": fact.canonical_sha,
        "bundle_digest": fact.bundle_digest,
        "parent_sha": fact.parent_sha,
        "cpqu": fact.cpqu,
        "actor": fact.actor.workflow_ref if isinstance(fact.actor, Actor) else "unverified",
        "ledger_line": entry.seq,
        "entry": MetadataValue.json(entry.to_json()),
    }
    if isinstance(fact.evidence, Evidence):
        shown[WORST_MARGIN] = _points(fact.evidence.worst_margin)
    if isinstance(fact.actor, Actor):
        shown["started_by"] = fact.actor.actor
        if workflow_run := run_url(fact.actor, policy):
            shown["workflow_run"] = MetadataValue.url(workflow_run)
    return shown


def _points(share: Any) -> float | None:
    """A fraction in per cent, rounded for display; None stays None."""
    return None if share is None else round(float(share * 100), 2)


def _table(rows: list[dict[str, Any]]) -> Any:
    """A table whose columns are the first row's keys."""
    kinds = {str: "string", int: "int", float: "float", type(None): "float"}
    columns = [TableColumn(name, kinds[type(value)]) for name, value in rows[0].items()]
    return MetadataValue.table([TableRecord(row) for row in rows], TableSchema(columns))
