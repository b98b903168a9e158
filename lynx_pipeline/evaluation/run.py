"""Evaluating a bundle: its candidate is asked, and what comes of it is written as evidence."""

import hashlib
import json
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from lynx_pipeline.adapters.bundle_files import read_bundle
from lynx_pipeline.adapters.files import write_atomic
from lynx_pipeline.adapters.mlflow_tracking import RUN_ID
from lynx_pipeline.config import RAY, EvaluationSettings, Settings
from lynx_pipeline.domain.bundle import MLMODEL, Bundle, read_mlmodel
from lynx_pipeline.domain.candidate_eval import BUBBLEWRAP, LOCAL, NONE, CandidateEval
from lynx_pipeline.domain.gate.baseline import LATENCY
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.errors import BadInput
from lynx_pipeline.evaluation import answers
from lynx_pipeline.evaluation.answers import AnyEvalSet
from lynx_pipeline.evaluation.candidate import Candidate, locked
from lynx_pipeline.evaluation.evidence import EVAL, PREDICTIONS, TIMINGS, read_evidence
from lynx_pipeline.evaluation.inputs import matched_inputs
from lynx_pipeline.evaluation.journal import Journal
from lynx_pipeline.sandbox.engine import Answered, Batch, Engine
from lynx_pipeline.sandbox.environment import own_environment
from lynx_pipeline.sandbox.isolation import choose_isolation
from lynx_pipeline.sandbox.local import Local


def evaluate(
    bundle_folder: Path,
    eval_set: AnyEvalSet,
    output: Path,
    options: EvaluationSettings,
    *,
    run_id: str | None,
    env: Env,
    hidden: Iterable[Path] = (),
    warn: Callable[[str], None],
    progress: Callable[[int, int], object],
) -> CandidateEval:
    """Evaluate the bundle and write the evidence: ``output`` and the Parquet files beside it.

    Answers are kept in :func:`journal_file` until then; an evaluation that was cut short goes on
    from there. ``hidden`` are folders that the candidate must not see. ``run_id`` None takes the
    run that the bundle itself names, which is a label and proves nothing. ``progress`` is told
    (answered, all).

    Raises:
        BadInput: the bundle is none, its environment can't be made, or the candidate broke off;
            no evidence is written.
        Refused: ``prod`` has no isolation here.
        SystemFailed: the disk or a process of ours failed.
    """
    bundle = read_bundle(bundle_folder)
    engine, environment = _engine(bundle_folder, bundle, options, env, tuple(hidden), warn)
    key = {
        "canonical_sha": bundle.canonical_sha,
        "eval_set_sha256": eval_set.sha256,
        "env": env.value,
        "environment": environment,
    }
    total = len(eval_set)
    threading.Thread(target=_import_what_comes_later, daemon=True).start()
    with Journal(journal_file(output), key, total) as journal:
        seed = bundle.canonical_sha + eval_set.sha256
        left = (asked for asked in eval_set.shuffled(seed) if not journal.answered[asked[0]])
        if journal.done < total:
            progress(journal.done, total)
            batches = _batches(left, options.limits.batch_size)
            for batch in engine.answer(batches, total - journal.done):
                journal.add(batch)
                progress(journal.done, total)
        run = run_id or _named_run(bundle_folder)
        result = _written(eval_set, journal, output, bundle, run, environment)
        journal.remove()
    return result


def _import_what_comes_later() -> None:
    """While the candidate's process loads its model, this one has nothing else to do. pyarrow asks
    pandas about every list that it is given."""
    import pandas  # noqa: F401
    import pyarrow.parquet  # noqa: F401


def _engine(
    folder: Path,
    bundle: Bundle,
    options: EvaluationSettings,
    env: Env,
    hidden: tuple[Path, ...],
    warn: Callable[[str], None],
) -> tuple[Engine, str]:
    """Where the candidate is asked, and the environment that it is asked in."""
    limits, workers = options.limits, options.workers
    if options.engine == RAY:
        from lynx_pipeline.sandbox.ray.engine import Ray

        return Ray(folder, bundle.canonical_sha, env, hidden, limits, warn, workers), LOCAL
    isolation = choose_isolation(env, hidden, warn)
    environment = LOCAL
    if options.environments is not None:
        own = own_environment(folder, options.environments, isolation)
        isolation, environment = replace(isolation, environment=own.folder), own.sha256
    return Local(folder, isolation, limits, workers), environment


def journal_file(output: Path) -> Path:
    """Where the answers for ``output`` are kept until all are there."""
    return output.with_name(f"{output.name}.journal")


def _batches(asked: Iterator[tuple[int, str]], size: int) -> Iterator[Batch]:
    while some := list(islice(asked, size)):
        yield Batch([row for row, _ in some], [prompt for _, prompt in some])


def _written(
    eval_set: AnyEvalSet,
    batches: Iterable[Answered],
    output: Path,
    bundle: Bundle,
    run: str | None,
    environment: str,
) -> CandidateEval:
    with tempfile.TemporaryDirectory(prefix=".new-", dir=output.parent) as folder:
        predictions, timings = Path(folder) / PREDICTIONS, Path(folder) / TIMINGS
        answers.write(eval_set, batches, predictions, timings)
        raw, raw_timings = predictions.read_bytes(), timings.read_bytes()
    told = _told(batches)
    result = CandidateEval(
        mlflow_run_id=run,
        canonical_sha=bundle.canonical_sha,
        parent_sha=bundle.parent_sha,
        eval_set_dvc_hash=eval_set.dvc_hash,
        eval_set_sha256=eval_set.sha256,
        scorer=eval_set.scorer.name,
        predictions_sha256=hashlib.sha256(raw).hexdigest(),
        isolation=told.isolation,
        counts=answers.count(eval_set, raw, PREDICTIONS),
        metrics=_metrics(told, eval_set, bundle),
        environment=environment,
    )
    write_atomic(output.with_name(PREDICTIONS), raw)
    write_atomic(output.with_name(TIMINGS), raw_timings)
    text = json.dumps(result.to_json(), indent=2, ensure_ascii=False)
    write_atomic(output, text.encode() + b"\n")
    return result


@dataclass(slots=True)
class _Told:
    """What the processes said beside the answers: seconds an item and items, a batch each; words
    answered; the longest loading, the most memory, the weakest isolation."""

    times: list[tuple[float, int]] = field(default_factory=list)
    words: int = 0
    load_seconds: float = 0.0
    peak_mib: float = 0.0
    isolation: str = BUBBLEWRAP

    def latency(self, share: float) -> float:
        """The seconds that this share of the items took at most."""
        place = int(share * sum(count for _, count in self.times))
        for seconds, count in sorted(self.times):
            place -= count
            if place < 0:
                return seconds
        return 0.0


def _told(batches: Iterable[Answered]) -> _Told:
    told = _Told()
    for batch in batches:
        told.times.append((batch.seconds / len(batch.rows), len(batch.rows)))
        told.words += sum(len(text.split()) for text in batch.answers if text)
        told.load_seconds = max(told.load_seconds, batch.load_seconds)
        told.peak_mib = max(told.peak_mib, batch.peak_mib)
        if batch.isolation != BUBBLEWRAP:
            told.isolation = NONE
    return told


def evaluate_candidate(
    settings: Settings,
    here: Candidate,
    *,
    again: bool,
    warn: Callable[[str], None],
    progress: Callable[[int, int], object],
) -> tuple[CandidateEval, bool]:
    """Evaluate a fetched candidate, or keep the evaluation it has if that still holds.

    Returns:
        The evaluation, and whether it was kept from before.

    Raises:
        BadInput: eval set and baseline don't match (then no model runs), or the candidate
            broke off.
        Refused: ``prod`` has no isolation here.
    """
    eval_set, _ = matched_inputs(settings)
    with locked(here):
        if not again and here.evidence.exists():
            kept = _still_holds(here, eval_set, settings)
            if kept is not None:
                return kept, True
        if again:
            journal_file(here.evidence / EVAL).unlink(missing_ok=True)
        result = evaluate(
            here.bundle,
            eval_set,
            here.evidence / EVAL,
            settings.evaluation,
            run_id=here.run_id,
            env=settings.env,
            hidden=(settings.root, settings.home),
            warn=warn,
            progress=progress,
        )
    return result, False


def _still_holds(here: Candidate, eval_set: AnyEvalSet, settings: Settings) -> CandidateEval | None:
    try:
        kept = read_evidence(here.evidence, eval_set).evaluation
    except BadInput:
        return None
    same = kept.canonical_sha == read_bundle(here.bundle).canonical_sha
    same &= (kept.environment == LOCAL) == (settings.evaluation.environments is None)
    enough = kept.isolated or settings.env is not Env.PROD
    return kept if same and enough and kept.mlflow_run_id == here.run_id else None


def _named_run(bundle: Path) -> str | None:
    run_id = read_mlmodel((bundle / MLMODEL).read_bytes()).get("run_id")
    return run_id if isinstance(run_id, str) and RUN_ID.fullmatch(run_id) else None


def _metrics(told: _Told, eval_set: AnyEvalSet, bundle: Bundle) -> dict[str, float]:
    """What is shown and never gated. A token is a word between spaces, of prompt or answer."""
    busy = sum(seconds * count for seconds, count in told.times) or 1e-9
    return {
        "load_seconds": round(told.load_seconds, 4),
        "predict_seconds": round(busy, 6),
        "items_per_second": round(len(eval_set) / busy, 2),
        "tokens_per_second": round((answers.prompt_words(eval_set) + told.words) / busy, 2),
        "latency_p50_ms": round(told.latency(0.5) * 1000, 4),
        LATENCY: round(told.latency(0.95) * 1000, 4),
        "peak_memory_mib": round(told.peak_mib, 1),
        "bundle_bytes": bundle.size,
    }
