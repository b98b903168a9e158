"""Evaluating a bundle: the candidate answers the eval set; the results are written as evidence."""

import hashlib
import json
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from lynx_pipeline.adapters.bundle_files import read_bundle
from lynx_pipeline.adapters.files import read_bytes, write_atomic
from lynx_pipeline.config import RAY, EvaluationSettings, Settings
from lynx_pipeline.domain.bundle import LONGEST_MLMODEL, MLMODEL, Bundle, read_mlmodel
from lynx_pipeline.domain.candidate_eval import BUBBLEWRAP, LOCAL, NONE, CandidateEval
from lynx_pipeline.domain.candidate_key import is_run_id, parse_key
from lynx_pipeline.domain.corpus import CorpusDigests
from lynx_pipeline.domain.gate.baseline import LATENCY
from lynx_pipeline.domain.text import Say, silent
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.errors import BadInput
from lynx_pipeline.evaluation.candidate import Candidate, locked
from lynx_pipeline.evaluation.corpus import read_corpus
from lynx_pipeline.evaluation.evidence import (
    BUNDLE_MANIFEST,
    EVAL,
    PREDICTIONS,
    PRINTED,
    TIMINGS,
    Evidence,
    read_evidence,
)
from lynx_pipeline.evaluation.inputs import matched_inputs
from lynx_pipeline.evaluation.journal import Journal
from lynx_pipeline.evaluation.judgement import Judged, apply_gate
from lynx_pipeline.evaluation.storage import StoredEvalSet
from lynx_pipeline.evaluation.storage.pages import most_bytes
from lynx_pipeline.sandbox.engine import Answered, Batch, Engine, Form
from lynx_pipeline.sandbox.environment import own_environment
from lynx_pipeline.sandbox.failure import CandidateFailed
from lynx_pipeline.sandbox.isolation import choose_isolation
from lynx_pipeline.sandbox.local import Local


def evaluate(
    bundle_folder: Path,
    eval_set: StoredEvalSet,
    output: Path,
    options: EvaluationSettings,
    *,
    candidate: str | None,
    env: Env,
    corpus: CorpusDigests | None = None,
    hidden: Iterable[Path] = (),
    warn: Callable[[str], None],
    say: Say = silent,
    progress: Callable[[int, int], object],
) -> Evidence:
    """Evaluate the bundle and write the evidence: ``output`` and the other files beside it.

    Until then answers are stored in :func:`journal_file`; an interrupted evaluation resumes from
    there. ``hidden`` are folders that the candidate must not see. ``candidate`` is its key; with
    None the evidence names the run in the bundle's ``MLmodel``, which is a label and proves
    nothing. ``corpus`` is recorded in the evidence. ``say`` is called with the steps that take
    long before the first answer, ``progress`` with the numbers of answered and of all items.

    Raises:
        BadInput: the bundle is invalid, its environment can't be built, or the candidate crashed
            or returned malformed output; no evidence is written, and what the candidate printed is
            in the file :data:`PRINTED`.
        Refused: this is ``prod`` and no isolation works on this machine.
        SystemFailed: the disk or one of our processes failed.
    """
    bundle = read_bundle(bundle_folder, options.limits.bundle_mib)
    form = Form(eval_set.inputs, options.answer_column)
    engine, environment = _engine(
        bundle_folder, bundle, options, form, env, tuple(hidden), warn, say
    )
    key = {
        "bundle_digest": bundle.digest,
        "eval_set_sha256": eval_set.sha256,
        "env": env.value,
        "environment": environment,
        "answer_column": options.answer_column,
    }
    total = len(eval_set)
    with Journal(journal_file(output), key, total) as journal:
        seed = bundle.canonical_sha + eval_set.sha256
        unanswered = (
            (row, prompt) for row, prompt in eval_set.shuffled(seed) if not journal.answered[row]
        )
        if journal.done < total:
            progress(journal.done, total)
            threading.Thread(target=_import_arrow).start()
            batches = _batches(unanswered, options.limits.batch_size)
            # The other half is for ids and for what Parquet adds.
            size, most = sum(map(_bytes, journal)), most_bytes(total) // 2
            for batch in _answers(engine, batches, total - journal.done, output):
                size += _bytes(batch)
                if size > most:
                    raise BadInput(
                        f"the candidate could not be evaluated: its answers have {size} bytes, "
                        f"expected at most {most} for {total} items."
                    )
                journal.add(batch)
                progress(journal.done, total)
        run = parse_key(candidate).run_id if candidate else _named_run(bundle_folder)
        evidence = _write_evidence(
            eval_set,
            journal,
            output,
            bundle,
            environment,
            options.answer_column,
            candidate=candidate,
            run=run,
            corpus=corpus,
        )
        journal.remove()
    return evidence


def _import_arrow() -> None:
    """Import what writes the evidence, while the candidate is loaded. An evaluation of 1,200 items
    then takes 5 % less time (`minieval` in benchmarks/results.md)."""
    with suppress(ImportError):  # reported when it is needed
        import pyarrow.parquet  # noqa: F401


def _engine(
    folder: Path,
    bundle: Bundle,
    options: EvaluationSettings,
    form: Form,
    env: Env,
    hidden: tuple[Path, ...],
    warn: Callable[[str], None],
    say: Say,
) -> tuple[Engine, str]:
    """Where the candidate runs, and the environment it runs in."""
    limits, workers = options.limits, options.workers
    if options.engine == RAY:
        from lynx_pipeline.sandbox.ray.engine import Ray

        return Ray(folder, bundle.digest, env, hidden, limits, warn, workers, form), LOCAL
    isolation = choose_isolation(env, hidden, warn)
    environment = LOCAL
    if options.environments is not None:
        own = own_environment(folder, options.environments, isolation, say)
        isolation, environment = replace(isolation, environment=own.folder), own.sha256
    return Local(folder, isolation, limits, workers, form), environment


def _bytes(batch: Answered) -> int:
    return sum(len(text.encode()) for text in batch.answers if text)


def _answers(
    engine: Engine, batches: Iterator[Batch], count: int, output: Path
) -> Iterator[Answered]:
    """The engine's answers. If the candidate fails, what it printed is kept beside ``output``."""
    file = output.with_name(PRINTED)
    file.unlink(missing_ok=True)
    try:
        yield from engine.answer(batches, count)
    except CandidateFailed as error:
        if not error.printed:
            raise
        write_atomic(file, f"{error.printed}\n".encode())
        raise BadInput(f"{error} What it printed is in the file {file}.") from None


def journal_file(output: Path) -> Path:
    """Where the answers for ``output`` are stored until the evaluation is complete."""
    return output.with_name(f"{output.name}.journal")


def _batches(prompts: Iterator[tuple[int, str]], size: int) -> Iterator[Batch]:
    while chunk := list(islice(prompts, size)):
        yield Batch([row for row, _ in chunk], [prompt for _, prompt in chunk])


def _write_evidence(
    eval_set: StoredEvalSet,
    batches: Iterable[Answered],
    output: Path,
    bundle: Bundle,
    environment: str,
    answer_column: str | None,
    *,
    candidate: str | None,
    run: str | None,
    corpus: CorpusDigests | None,
) -> Evidence:
    with tempfile.TemporaryDirectory(prefix=".new-", dir=output.parent) as folder:
        files = Path(folder) / PREDICTIONS, Path(folder) / TIMINGS
        eval_set.write_answers(batches, *files)
        predictions, timings = (file.read_bytes() for file in files)
    stats = collect_stats(batches)
    evaluation = CandidateEval(
        mlflow_run_id=run,
        candidate=candidate,
        canonical_sha=bundle.canonical_sha,
        bundle_digest=bundle.digest,
        parent_sha=bundle.parent_sha,
        eval_set_dvc_hash=eval_set.dvc_hash,
        eval_set_sha256=eval_set.sha256,
        scorer=eval_set.scorer.name,
        predictions_sha256=hashlib.sha256(predictions).hexdigest(),
        isolation=stats.isolation,
        counts=eval_set.count(predictions, PREDICTIONS),
        metrics=_metrics(stats, eval_set, bundle),
        environment=environment,
        corpus=corpus,
        answer_column=answer_column,
    )
    evidence = Evidence(evaluation, _encode(evaluation), predictions)
    write_atomic(output.with_name(PREDICTIONS), predictions)
    write_atomic(output.with_name(TIMINGS), timings)
    write_atomic(output.with_name(BUNDLE_MANIFEST), bundle.manifest)
    write_atomic(output, evidence.candidate_eval)
    return evidence


def _encode(evaluation: CandidateEval) -> bytes:
    return json.dumps(evaluation.to_json(), indent=2, ensure_ascii=False).encode() + b"\n"


def _with_corpus(evidence: Evidence, corpus: CorpusDigests | None, output: Path) -> Evidence:
    """The same evidence beside another corpus. The answers don't depend on it."""
    evaluation = replace(evidence.evaluation, corpus=corpus)
    write_atomic(output, raw := _encode(evaluation))
    return replace(evidence, evaluation=evaluation, candidate_eval=raw)


@dataclass(slots=True)
class RunStats:
    """What the workers reported beside the answers: (seconds per item, items) of each batch; words
    answered; the longest load time, the peak memory, the weakest isolation."""

    times: list[tuple[float, int]] = field(default_factory=list)
    words: int = 0
    load_seconds: float = 0.0
    peak_mib: float = 0.0
    isolation: str = BUBBLEWRAP

    def latency(self, share: float) -> float:
        """The share's percentile of seconds per item, 0.95 for p95."""
        rank = int(share * sum(count for _, count in self.times))
        for seconds, count in sorted(self.times):
            rank -= count
            if rank < 0:
                return seconds
        return 0.0


def collect_stats(batches: Iterable[Answered]) -> RunStats:
    """The statistics of all batches together."""
    stats = RunStats()
    for batch in batches:
        stats.times.append((batch.seconds / len(batch.rows), len(batch.rows)))
        stats.words += sum(len(text.split()) for text in batch.answers if text)
        stats.load_seconds = max(stats.load_seconds, batch.load_seconds)
        stats.peak_mib = max(stats.peak_mib, batch.peak_mib)
        if batch.isolation != BUBBLEWRAP:
            stats.isolation = NONE
    return stats


def evaluate_candidate(
    settings: Settings,
    candidate: Candidate,
    *,
    again: bool,
    warn: Callable[[str], None],
    say: Say = silent,
    progress: Callable[[int, int], object],
) -> tuple[Judged, bool]:
    """Evaluate a downloaded candidate and apply the gate. Evidence that is still valid is reused,
    unless ``again`` is set: see :func:`_valid_evidence`.

    Returns:
        The judged evaluation, and whether its evidence was reused.

    Raises:
        BadInput: eval set and baseline don't match (then no model runs), or the candidate crashed
            or returned malformed output.
        Refused: this is ``prod`` and no isolation works on this machine.
    """
    eval_set, baseline = matched_inputs(settings)
    corpus = read_corpus(settings)
    with locked(candidate):
        evidence = None if again else _valid_evidence(candidate, eval_set, settings)
        reused = evidence is not None
        if again:
            journal_file(candidate.evidence / EVAL).unlink(missing_ok=True)
        if evidence is None:
            evidence = evaluate(
                candidate.bundle,
                eval_set,
                candidate.evidence / EVAL,
                settings.evaluation,
                candidate=candidate.key,
                env=settings.env,
                corpus=corpus,
                hidden=hidden_folders(settings),
                warn=warn,
                say=say,
                progress=progress,
            )
        elif evidence.evaluation.corpus != corpus:
            evidence = _with_corpus(evidence, corpus, candidate.evidence / EVAL)
    return apply_gate(eval_set, evidence, baseline), reused


def hidden_folders(settings: Settings) -> tuple[Path, ...]:
    """What a candidate must not see: the project, its state, and the DVC and git repositories that
    contain it, with DVC's cache."""
    above = [it for it in settings.root.parents if (it / ".dvc").is_dir() or (it / ".git").exists()]
    return (settings.root, settings.home, *above)


def _valid_evidence(
    candidate: Candidate, eval_set: StoredEvalSet, settings: Settings
) -> Evidence | None:
    """The candidate's evidence if it can be reused: it is of this key, bundle, eval set, scorer,
    ``answer_column`` and ``env_manager``, and in prod the candidate was isolated. Other settings
    are not compared."""
    try:
        evidence = read_evidence(candidate.evidence, eval_set, settings.evaluation.answer_column)
    except BadInput:
        return None
    evaluation = evidence.evaluation
    mib = settings.evaluation.limits.bundle_mib
    same = evaluation.bundle_digest == read_bundle(candidate.bundle, mib).digest
    same &= (evaluation.environment == LOCAL) == (settings.evaluation.environments is None)
    same &= evaluation.candidate == candidate.key
    promotable = evaluation.isolated or settings.env is not Env.PROD
    return evidence if same and promotable else None


def _named_run(bundle: Path) -> str | None:
    raw = read_bytes(bundle / MLMODEL, MLMODEL, LONGEST_MLMODEL)
    run_id = read_mlmodel(raw).get("run_id")
    return run_id if isinstance(run_id, str) and is_run_id(run_id) else None


def _metrics(stats: RunStats, eval_set: StoredEvalSet, bundle: Bundle) -> dict[str, float]:
    """Shown and never gated. A token is a whitespace-separated word of a prompt or an answer."""
    busy = sum(seconds * count for seconds, count in stats.times) or 1e-9
    return {
        "load_seconds": round(stats.load_seconds, 4),
        "predict_seconds": round(busy, 6),
        "items_per_second": round(len(eval_set) / busy, 2),
        "tokens_per_second": round((eval_set.prompt_words + stats.words) / busy, 2),
        "latency_p50_ms": round(stats.latency(0.5) * 1000, 4),
        LATENCY: round(stats.latency(0.95) * 1000, 4),
        "peak_memory_mib": round(stats.peak_mib, 1),
        "bundle_bytes": bundle.size,
    }
