"""A version's audit: who let it in, on what evidence, and the verdict worked out again.

Needs the registry, the eval set's bytes (from DVC's cache or remote) and, for a promotion in
prod, the commit it names in this checkout; nothing of MLflow. What nobody can show later is said
by the entry alone: that the token was genuine, the artifact's URI, the cost.
"""

from lynx_pipeline.adapters import git_files
from lynx_pipeline.config import Settings, load_settings
from lynx_pipeline.domain.gate.baseline import parse_baseline
from lynx_pipeline.domain.gate.rule import judge
from lynx_pipeline.domain.ledger.chain import EVIDENCE_FILES, Entry, Store
from lynx_pipeline.domain.ledger.state import replay
from lynx_pipeline.domain.release.identity import Claims, check_identity, check_policy
from lynx_pipeline.domain.scorers import scorer_named
from lynx_pipeline.domain.strict_json import Fields
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.errors import BadInput, LynxError, Refused
from lynx_pipeline.evaluation.evidence import check_evidence
from lynx_pipeline.evaluation.inputs import check_match, read_eval_set_of
from lynx_pipeline.evaluation.judgement import Judged
from lynx_pipeline.registry.audited import Audit, lineage
from lynx_pipeline.registry.gate_inputs import check_judged
from lynx_pipeline.registry.promotion import digests


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
    states = [replay(ledger, env, settings.model) for env in Env]
    promotion = next((s.promoted[version] for s in states if version in s.promoted), None)
    ignored = {entry.seq: reason for state in states for entry, reason in state.ignored}
    lines = {
        e.seq: f"line {e.seq} ({e.fact.event} {e.fact.semver!r} in {e.fact.env}) counts for "
        f"nothing: {ignored[e.seq]}"
        for e in ledger.entries
        if e.seq in ignored
    }
    findings = [lines.pop(entry.seq) for entry in named if entry.seq in lines]
    judged = None
    if promotion is None:
        findings.append(f"{version} was never promoted by an entry that counts.")
    elif promotion.fact.evidence is None:
        findings.append("it was promoted by hand, WITHOUT EVIDENCE: there is nothing to replay.")
    else:
        try:
            judged = _replay(settings, store, promotion)
            findings += _differences(promotion, judged)
            findings += _by_right(settings, promotion)
        except (BadInput, Refused) as error:
            findings.append(f"it can't be replayed: {error}")
    chain, oldest = lineage(states, promotion)
    return Audit(
        entries=named,
        promotion=promotion,
        is_latest=promotion is not None and any(s.latest is promotion for s in states),
        lineage=chain,
        oldest_parent=oldest,
        baseline=judged.baseline if judged else None,
        verdict=judged.verdict if judged else None,
        findings=tuple(findings),
        notes=tuple(lines.values()),
    )


def _replay(settings: Settings, store: Store, promotion: Entry) -> Judged:
    fields = Fields(dict(promotion.fact.evidence or {}), f"entry {promotion.seq}, evidence")
    eval_set = read_eval_set_of(
        settings,
        fields.text("eval_set_dvc_hash"),
        fields.text("eval_set_sha256"),
        scorer_named(fields.text("scorer"), fields.where),
    )
    kept = {name: store.evidence(fields.text(f"{name}_sha256")) for name in EVIDENCE_FILES}
    baseline = parse_baseline(kept["baseline"], "the kept baseline")
    check_match(eval_set, baseline)
    evidence = check_evidence(
        kept["candidate_eval"], kept["predictions"], eval_set, "the kept evidence"
    )
    return Judged(eval_set, evidence, baseline, judge(baseline, evidence.evaluation.scores))


def _differences(promotion: Entry, judged: Judged) -> list[str]:
    """Where the entry says something else than its evidence."""
    fact, evaluation = promotion.fact, judged.evidence.evaluation
    names = ("canonical_sha", "mlflow_run_id", "parent_sha")
    said = {name: getattr(fact, name) for name in names} | dict(fact.evidence or {})
    shows = {name: getattr(evaluation, name) for name in names} | digests(judged)
    found = [
        f"{name}: the entry says {said[name]!r}, its evidence {shows.get(name)!r}"
        for name in sorted(said)
        if said[name] != shows.get(name)
    ]
    if not judged.verdict.passed:
        found.append("the replayed verdict is a refusal: it should never have been promoted")
    if fact.env is Env.PROD and not evaluation.isolated:
        found.append(f"it was evaluated with isolation {evaluation.isolation!r}")
    return found


def _by_right(settings: Settings, promotion: Entry) -> list[str]:
    """In prod, whether the policy and baseline of the commit it names bear it out."""
    fact = promotion.fact
    if fact.env is not Env.PROD or fact.actor is None:
        return []
    commit, root = fact.actor["sha"], settings.root
    try:
        raw = git_files.file_at(root, commit, root / "pyproject.toml") or b""
        then = load_settings(root, {"LYNX_ENV": "prod"}, pyproject=raw)
        check_identity(check_policy(then.identity), Claims(fact.actor), commit)
        check_judged(then, commit, fact)
    except LynxError as error:
        return [f"the commit {commit[:12]} that it names does not bear it out: {error}"]
    return []
