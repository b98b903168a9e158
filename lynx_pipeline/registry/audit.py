"""A version's audit: who promoted it, on what evidence, and the verdict computed again.

It needs the registry, the eval set's bytes (from DVC's cache or remote) and, for a promotion in
prod, the commit that the entry names, in this checkout. It needs nothing from MLflow. Three things
cannot be replayed and rest on the entry alone: that the token was genuine, the artifact's URI, and
the cost.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from lynx_pipeline.adapters import git_files
from lynx_pipeline.adapters.ledgers.store import Store
from lynx_pipeline.config import BLOCKING, Settings, load_committed
from lynx_pipeline.domain.corpus import CorpusDigests, CorpusFindings
from lynx_pipeline.domain.gate.baseline import Baseline, parse_baseline
from lynx_pipeline.domain.gate.rule import Verdict
from lynx_pipeline.domain.ledger.chain import Entry
from lynx_pipeline.domain.ledger.facts import Actor, Evidence, Malformed, Promoted
from lynx_pipeline.domain.ledger.state import RegistryState, replay
from lynx_pipeline.domain.release.identity import check_actor, check_policy
from lynx_pipeline.domain.scorers import scorer_named
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.errors import BadInput, LynxError, Refused
from lynx_pipeline.evaluation.corpus import findings_of
from lynx_pipeline.evaluation.evidence import check_evidence
from lynx_pipeline.evaluation.inputs import check_match, read_eval_set_of
from lynx_pipeline.evaluation.judgement import Judged, apply_gate
from lynx_pipeline.registry.attestations import Attestations, attestations
from lynx_pipeline.registry.gate_inputs import check_judged
from lynx_pipeline.registry.promotion import summarize
from lynx_pipeline.registry.registry import Registry


@dataclass(frozen=True, slots=True)
class Audit:
    """What is known about a version.

    ``entries`` are all that name it, ``promotion`` is the valid one. ``lineage`` are the promotions
    of its ancestors, nearest first, and ``oldest_parent`` is the first sha that this registry does
    not know. ``baseline`` is the one that applied, ``verdict`` is the replayed one; both are
    None if the replay failed. ``attestations`` are the signed statements; none in ``dev``.
    ``corpus`` is what a comparison with the recorded corpus finds, or why it can't be repeated;
    None if no corpus is recorded. Empty ``findings`` mean that the audit passed; ``notes`` are
    about other, ignored lines of the ledger.
    """

    entries: tuple[Entry, ...]
    promotion: Entry[Promoted] | None
    is_latest: bool
    lineage: tuple[Entry[Promoted], ...]
    oldest_parent: str | None
    baseline: Baseline | None
    verdict: Verdict | None
    attestations: Attestations
    corpus: CorpusFindings | str | None
    findings: tuple[str, ...]
    notes: tuple[str, ...]


def audit(registry: Registry, version: str) -> Audit:
    """Everything about ``version``, its verdict replayed.

    Raises:
        Refused: no entry names the version.
        BadInput: the ledger is damaged.
        SystemFailed: the registry or DVC could not be reached.
    """
    settings, ledger = registry.settings, registry.verify()
    named = tuple(
        e for e in ledger.entries if e.fact.semver == version and e.fact.model == settings.model
    )
    if not named:
        near = [e for e in ledger.entries if version in (e.fact.semver or "")]
        listed = "".join(f" Line {e.seq} names {e.fact.semver!r}." for e in near)
        raise Refused(f"no entry names {version!r} of {settings.model}.{listed}")
    unsigned = registry.unsigned(ledger)
    states = [replay(ledger, env, settings.model, unsigned) for env in Env]
    promotion = next((s.promoted[version] for s in states if version in s.promoted), None)
    ignored = {entry.seq: reason for state in states for entry, reason in state.ignored}
    lines = {
        e.seq: f"line {e.seq} ({e.fact.event} {e.fact.semver!r} in {e.fact.env}) is ignored: "
        f"{ignored[e.seq]}"
        for e in ledger.entries
        if e.seq in ignored
    }
    findings = [lines.pop(entry.seq) for entry in named if entry.seq in lines]
    judged = corpus = None
    statements = Attestations()
    if promotion is None:
        findings.append(f"no valid entry promoted {version}.")
    else:
        try:
            judged = _replay(settings, registry.store, promotion)
            findings += _differences(promotion, judged)
            corpus = _compare_corpus(settings, promotion, judged)
            findings += _authorization_findings(settings, promotion, judged, corpus)
            statements = attestations(
                registry.store, ledger, settings.signatures, promotion, judged.verdict
            )
            findings += statements.findings
            digest = judged.evidence.evaluation.bundle_digest
            if digest is not None and digest == promotion.fact.bundle_digest:
                registry.store.evidence(digest)  # the bundle's manifest
        except (BadInput, Refused) as error:
            findings.append(str(error))
    chain, oldest = lineage(states, promotion)
    return Audit(
        entries=named,
        promotion=promotion,
        is_latest=promotion is not None and any(s.latest is promotion for s in states),
        lineage=chain,
        oldest_parent=oldest,
        baseline=judged.baseline if judged else None,
        verdict=judged.verdict if judged else None,
        attestations=statements,
        corpus=corpus,
        findings=tuple(findings),
        notes=tuple(lines.values()),
    )


def lineage(
    states: Iterable[RegistryState], promotion: Entry[Promoted] | None
) -> tuple[tuple[Entry[Promoted], ...], str | None]:
    """The promotions of the bundle's ancestors, and the first parent sha that is unknown here."""
    by_sha: dict[str, Entry[Promoted]] = {}
    for state in states:
        for entry in state.promoted.values():
            by_sha.setdefault(entry.fact.canonical_sha, entry)
    chain: dict[str, Entry[Promoted]] = {}
    parent = promotion.fact.parent_sha if promotion else None
    while parent is not None and parent in by_sha and parent not in chain:
        chain[parent] = by_sha[parent]
        parent = chain[parent].fact.parent_sha
    return tuple(chain.values()), parent


def _replay(settings: Settings, store: Store, promotion: Entry[Promoted]) -> Judged:
    recorded = promotion.fact.evidence
    if recorded is None:
        raise BadInput("it was promoted by hand, WITHOUT EVIDENCE: there is nothing to replay.")
    try:
        if isinstance(recorded, Malformed):
            raise BadInput(f"entry {promotion.seq}, evidence: {recorded.problem}.")
        return _judge(settings, store, recorded, f"entry {promotion.seq}, evidence")
    except (BadInput, Refused) as error:
        raise BadInput(f"the verdict cannot be replayed: {error}") from None


def _judge(settings: Settings, store: Store, recorded: Evidence, where: str) -> Judged:
    eval_set = read_eval_set_of(
        settings,
        recorded.eval_set_dvc_hash,
        recorded.eval_set_sha256,
        scorer_named(recorded.scorer, where),
    )
    baseline = parse_baseline(store.evidence(recorded.baseline_sha256), "the kept baseline")
    check_match(eval_set, baseline)
    evidence = check_evidence(
        store.evidence(recorded.candidate_eval_sha256),
        store.evidence(recorded.predictions_sha256),
        eval_set,
        "the kept evidence",
    )
    return apply_gate(eval_set, evidence, baseline)


def _differences(promotion: Entry[Promoted], judged: Judged) -> list[str]:
    """Where the entry disagrees with its evidence."""
    fact, evaluation = promotion.fact, judged.evidence.evaluation
    assert isinstance(fact.evidence, Evidence)  # it was just replayed
    names = ("canonical_sha", "bundle_digest", "mlflow_run_id", "parent_sha")
    recorded = {name: getattr(fact, name) for name in names} | asdict(fact.evidence)
    # A folder's evaluation, as by minieval, names no corpus.
    corpus = evaluation.corpus or _recorded_corpus(fact.evidence)
    shown = {name: getattr(evaluation, name) for name in names}
    shown |= asdict(summarize(judged, corpus))
    if evaluation.mlflow_run_id is None:  # it names a logged model instead of a run
        del recorded["mlflow_run_id"]
        recorded["artifact_uri"] = fact.artifact_uri
        shown["artifact_uri"] = f"models:/{evaluation.candidate}"
    found = [
        f"{name}: the entry has {recorded[name]!r}, its evidence {shown[name]!r}"
        for name in sorted(recorded)
        if recorded[name] != shown[name]
    ]
    if not judged.verdict.passed:
        found.append("the replayed verdict is a refusal: it should never have been promoted")
    if fact.env is Env.PROD and not evaluation.isolated:
        found.append(f"it was evaluated with isolation {evaluation.isolation!r}")
    return found


def _recorded_corpus(evidence: Evidence) -> CorpusDigests | None:
    if evidence.corpus_dvc_hash is None or evidence.corpus_sha256 is None:
        return None
    return CorpusDigests(evidence.corpus_dvc_hash, evidence.corpus_sha256)


def _compare_corpus(
    settings: Settings, promotion: Entry[Promoted], judged: Judged
) -> CorpusFindings | str | None:
    """See :class:`Audit`."""
    evidence = promotion.fact.evidence
    assert isinstance(evidence, Evidence)  # it was just replayed
    corpus = _recorded_corpus(evidence)
    try:
        return None if corpus is None else findings_of(settings, judged.eval_set, corpus)
    except LynxError as error:
        return f"the comparison with the corpus can't be repeated: {error}"


def _authorization_findings(
    settings: Settings,
    promotion: Entry[Promoted],
    judged: Judged,
    corpus: CorpusFindings | str | None,
) -> list[str]:
    """In prod, whether the policy, gate inputs and corpus checks of the commit that the entry names
    allow it."""
    fact = promotion.fact
    if fact.env is not Env.PROD or not isinstance(fact.actor, Actor):
        return []
    commit, root = fact.actor.sha, settings.root
    try:
        raw = git_files.file_at(root, commit, root / "pyproject.toml") or b""
        then = load_committed(settings, raw)
        check_actor(check_policy(then.identity), fact.actor, commit)
        check_judged(then, commit, fact)
        used, set_then = judged.evidence.evaluation.answer_column, then.evaluation.answer_column
        if used != set_then:
            raise Refused(f"answer_column is {set_then!r} there, and the evaluation used {used!r}.")
        if then.corpus_checks == BLOCKING:
            return (
                [corpus] if isinstance(corpus, str) else list(corpus.objections if corpus else ())
            )
    except LynxError as error:
        return [f"the commit {commit[:12]} that the entry names does not support it: {error}"]
    return []
