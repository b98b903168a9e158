"""A version's audit: who let it in, on what evidence, and the verdict worked out again.

Needs the registry and the eval set's bytes, from DVC's cache or remote; nothing of MLflow and
nothing of the network beyond these two.
"""

from lynx_pipeline.adapters.sandbox import NONE
from lynx_pipeline.config import Settings
from lynx_pipeline.domain.audit import Audit, lineage
from lynx_pipeline.domain.baseline import parse_baseline
from lynx_pipeline.domain.gate import judge
from lynx_pipeline.domain.ledger import Entry, Store, fold
from lynx_pipeline.domain.strict_json import Fields
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.errors import BadInput, Refused
from lynx_pipeline.flow.data import check_match, read_eval_set_of
from lynx_pipeline.flow.evaluation import check_evidence
from lynx_pipeline.flow.promotion import Judged, digests


def audit(settings: Settings, store: Store, version: str) -> Audit:
    """Everything about ``version``, its verdict replayed.

    Raises:
        Refused: no entry names it.
        BadInput: the ledger is damaged.
        SystemFailed: the registry or DVC could not be asked.
    """
    ledger = store.read()
    named = tuple(
        e for e in ledger.entries if e.fact.semver == version and e.fact.model == settings.model
    )
    if not named:
        near = [e for e in ledger.entries if version in (e.fact.semver or "")]
        seen = "".join(f" Line {e.seq} names {e.fact.semver!r}." for e in near)
        raise Refused(f"no entry names {version!r} of {settings.model}.{seen}")
    states = [fold(ledger, env, settings.model) for env in Env]
    promotion = next((s.promoted[version] for s in states if version in s.promoted), None)
    findings = [
        f"line {entry.seq} ({entry.fact.event} {entry.fact.semver!r} in {entry.fact.env}) counts "
        f"for nothing: {reason}"
        for state in states
        for entry, reason in state.ignored
    ]
    judged = None
    if promotion is None:
        findings.append(f"{version} was never promoted by an entry that counts.")
    elif promotion.fact.evidence is None:
        findings.append("it was promoted by hand, WITHOUT EVIDENCE: there is nothing to replay.")
    else:
        try:
            judged = _replay(settings, store, promotion)
            findings += _differences(promotion, judged)
        except BadInput as error:
            findings.append(f"the evidence can't be replayed: {error}")
    chain, oldest = lineage(ledger, settings.model, promotion)
    latest = promotion is not None and any(s.latest is promotion for s in states)
    verdict = judged.verdict if judged else None
    return Audit(named, promotion, latest, chain, oldest, verdict, tuple(findings))


def _replay(settings: Settings, store: Store, promotion: Entry) -> Judged:
    fields = Fields(dict(promotion.fact.evidence or {}), f"entry {promotion.seq}, evidence")
    eval_set = read_eval_set_of(
        settings, fields.text("eval_set_dvc_hash"), fields.text("eval_set_sha256")
    )
    kept = {
        name: store.evidence(fields.text(f"{name}_sha256"))
        for name in ("baseline", "candidate_eval", "predictions")
    }
    baseline = parse_baseline(kept["baseline"], "the kept baseline")
    check_match(eval_set, baseline)
    evidence = check_evidence(
        kept["candidate_eval"], kept["predictions"], eval_set, "the kept evidence"
    )
    return Judged(eval_set, evidence, baseline, judge(baseline, evidence.evaluation.scores))


def _differences(promotion: Entry, judged: Judged) -> list[str]:
    """Where the entry says something else than its evidence."""
    fact, evaluation = promotion.fact, judged.evidence.evaluation
    said = {"canonical_sha": fact.canonical_sha, "mlflow_run_id": fact.mlflow_run_id}
    shows: dict[str, object] = {name: getattr(evaluation, name) for name in said}
    said |= fact.evidence or {}
    shows |= digests(judged)
    found = [
        f"{name}: the entry says {said.get(name)!r}, its evidence {shows.get(name)!r}"
        for name in sorted(said.keys() | shows.keys())
        if said.get(name) != shows.get(name)
    ]
    if not judged.verdict.passed:
        found.append("the replayed verdict is a refusal: it should never have been promoted")
    if fact.env is Env.PROD and evaluation.isolation == NONE:
        found.append("it was evaluated without isolation")
    return found
