"""An audit as text and as JSON."""

from collections.abc import Iterator
from typing import Any

from lynx_pipeline.domain.corpus import CorpusFindings
from lynx_pipeline.domain.gate.baseline import Baseline
from lynx_pipeline.domain.ledger.chain import Entry
from lynx_pipeline.domain.ledger.facts import Actor, Promoted, to_json
from lynx_pipeline.domain.text import printable
from lynx_pipeline.registry.audit import Audit
from lynx_pipeline.reports.report import Report
from lynx_pipeline.reports.terminal import print_report
from lynx_pipeline.reports.verdict_json import corpus_json, verdict_json


def entry_line(entry: Entry, ignored: str | None = None) -> str:
    """An entry in one line, with the reason if it is ignored. It is safe for any terminal: an entry
    may contain control characters."""
    mark = "" if ignored is None else f"  IGNORED: {ignored}"
    return printable(f"{_line(entry)}{mark}")


def _line(entry: Entry) -> str:
    fact = entry.fact
    by_hand = isinstance(fact, Promoted) and fact.evidence is None
    evidence = "  WITHOUT EVIDENCE" if by_hand else ""
    return (
        f"{entry.seq:>5}  {fact.time}  {fact.env:<4}  {fact.event:<11}  {fact.semver or '-':<14}  "
        f"{fact.canonical_sha}  run {fact.mlflow_run_id}{_cost(entry)}{evidence}"
    )


def audit_json(audit: Audit) -> dict[str, Any]:
    """The audit as JSON."""
    return {
        "holds": not audit.findings,
        "findings": list(audit.findings),
        "notes": list(audit.notes),
        "is_latest": audit.is_latest,
        "promotion": audit.promotion.to_json() if audit.promotion else None,
        "entries": [entry.to_json() for entry in audit.entries],
        "lineage": [
            {"semver": e.fact.semver, "canonical_sha": e.fact.canonical_sha, "seq": e.seq}
            for e in audit.lineage
        ],
        "oldest_parent": audit.oldest_parent,
        "floors": _floors_json(audit.baseline) if audit.baseline else None,
        "replayed_verdict": verdict_json(audit.verdict) if audit.verdict else None,
        **_corpus_json(audit.corpus),
    }


def _corpus_json(corpus: CorpusFindings | str | None) -> dict[str, Any]:
    """The comparison with the corpus, or why it can't be repeated; nothing without a corpus."""
    if corpus is None:
        return {}
    return {"corpus": {"problem": corpus} if isinstance(corpus, str) else corpus_json(corpus)}


def _floors_json(baseline: Baseline) -> dict[str, Any]:
    names = ("baseline_sha", "previous_baseline_sha", "justification")
    return {name: getattr(baseline, name) for name in names}


def print_audit(audit: Audit) -> None:
    """Print the audit to standard output: the version, the recomputed verdict, the findings."""
    for line in _version(audit):
        print(printable(line))
    if audit.verdict:
        print("\nThe verdict, recomputed from the stored evidence:\n")
        corpus = None if isinstance(audit.corpus, str) else audit.corpus
        print_report(Report(audit.verdict, corpus=corpus))
    print()
    if isinstance(audit.corpus, str):
        print(f"Note: {printable(audit.corpus)}")
    for note in audit.notes:
        print(f"Note on another entry: {printable(note)}")
    if audit.findings:
        print("Audit failed. FINDINGS:")
        for finding in audit.findings:
            print(f"  - {printable(finding)}")
    else:
        print("Audit passed: the ledger entry matches its evidence.")


def _version(audit: Audit) -> Iterator[str]:
    if audit.promotion:
        fact = audit.promotion.fact
        latest = f", the latest in {fact.env}" if audit.is_latest else ""
        yield f"{fact.model} {fact.semver}{latest}"
        yield f"  bundle      {fact.canonical_sha}, digest {fact.bundle_digest or 'not recorded'}"
        yield f"  from        {fact.artifact_uri}, MLflow run {fact.mlflow_run_id}"
        yield f"  promoted    {fact.time} in {fact.env}, entry {audit.promotion.seq}"
        yield f"  by          {_actor(audit.promotion)}"
        if not fact.evidence:
            yield "  evidence    none"
        for name, value in (to_json(fact)["evidence"] or {}).items():
            yield f"  evidence    {name} {value}"
        if audit.baseline:
            yield f"  baseline    measured on {audit.baseline.baseline_sha}"
            yield f"              justification: {audit.baseline.justification or 'none given'}"
        yield f"  cost      {_cost(audit.promotion) or '  unknown'}"
        chain = [f"{e.fact.semver} ({e.fact.canonical_sha[:12]})" for e in audit.lineage]
        if audit.oldest_parent:
            chain.append(f"{audit.oldest_parent[:12]} (not in this registry)")
        yield f"  lineage     {' <- '.join(chain) or 'no parent'}"
    yield ""
    yield "Ledger entries of this version:"
    for entry in audit.entries:
        yield entry_line(entry)


def _actor(entry: Entry[Promoted]) -> str:
    actor = entry.fact.actor
    if not isinstance(actor, Actor):
        return f"unverified ({entry.fact.env})"
    called = actor.job_workflow_ref
    job = f", job of {called}" if called != actor.workflow_ref else ""
    return (
        f"{actor.workflow_ref} at {actor.sha[:12]}{job}, run {actor.run_id} attempt "
        f"{actor.run_attempt}, {actor.event_name} by {actor.actor} (id {actor.actor_id})"
    )


def _cost(entry: Entry) -> str:
    cost = entry.fact.cpqu if isinstance(entry.fact, Promoted) else None
    if cost is None:
        return ""
    return f"  CpQU {cost}" if isinstance(cost, str) else f"  CpQU {cost:.3g}"
