"""Scoring: predictions against the eval set, counted per bucket.

Guarantees that the denominator is always the eval set's: a missing, unknown or duplicate answer is
an error, never a smaller ``n``. A null answer is wrong, and counted separately. The scorer's name
is part of the evidence. Leaves to others: running the candidate (``evaluation``) and the verdict
(``gate``).
"""

from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass
from typing import Any

from lynx_pipeline.domain.corpus import CorpusDigests
from lynx_pipeline.domain.eval_set import EvalSet, Questions, bucket_sizes
from lynx_pipeline.domain.scores import Score, Scores, buckets_to_json, read_scores
from lynx_pipeline.domain.strict_json import Fields, parse_object
from lynx_pipeline.errors import BadInput

LOCAL = "local"
# Isolation level of the evaluation.
BUBBLEWRAP = "bubblewrap"
NONE = "none"


@dataclass(frozen=True, slots=True)
class Counts:
    """Right answers out of ``n``, in total and by bucket. ``nulls`` of the wrong answers were
    null."""

    n: int
    correct: int
    nulls: int
    buckets: Mapping[str, Score]


@dataclass(frozen=True, slots=True)
class CandidateEval:
    """One evaluation, as stored in ``candidate_eval.json``.

    ``metrics`` are for information and never gated: seconds, items and tokens per second, and so
    on. ``environment`` is the Python environment the candidate ran in: :data:`LOCAL` for the
    project's, or the SHA-256 of the contents of the model's own. ``candidate`` is the candidate's
    key; ``mlflow_run_id`` is its run if the key says so. ``candidate`` is None, and the run a label
    of the bundle, if a folder was evaluated. ``bundle_digest`` is None in old evaluations.
    ``corpus`` is the project's corpus at that time; None, and not in the file, without one.
    ``answer_column`` is the setting that chose the answers among the columns of the candidate's
    output, None if it was not set.
    """

    mlflow_run_id: str | None
    candidate: str | None
    canonical_sha: str
    bundle_digest: str | None
    parent_sha: str | None
    eval_set_dvc_hash: str
    eval_set_sha256: str
    scorer: str
    predictions_sha256: str
    isolation: str
    counts: Counts
    metrics: Mapping[str, float]
    environment: str = LOCAL
    corpus: CorpusDigests | None = None
    answer_column: str | None = None

    @property
    def isolated(self) -> bool:
        """Whether the candidate could see nothing but prompts, as prod requires. An unknown level
        counts as no isolation."""
        return self.isolation == BUBBLEWRAP

    @property
    def scores(self) -> Scores:
        """The part that the gate needs."""
        return Scores(
            self.eval_set_dvc_hash, self.eval_set_sha256, self.scorer, self.counts.buckets
        )

    def to_json(self) -> dict[str, Any]:
        """The JSON value of the file."""
        return {
            "mlflow_run_id": self.mlflow_run_id,
            "candidate": self.candidate,
            "canonical_sha": self.canonical_sha,
            "bundle_digest": self.bundle_digest,
            "parent_sha": self.parent_sha,
            "eval_set_dvc_hash": self.eval_set_dvc_hash,
            "eval_set_sha256": self.eval_set_sha256,
            **corpus_to_json(self.corpus),
            "scorer": self.scorer,
            "n": self.counts.n,
            "correct": self.counts.correct,
            "null_answers": self.counts.nulls,
            "predictions_sha256": self.predictions_sha256,
            "isolation": self.isolation,
            "environment": self.environment,
            "answer_column": self.answer_column,
            "measured": dict(self.metrics),
            "buckets": buckets_to_json(self.counts.buckets),
        }


def score(eval_set: EvalSet, predictions: Iterable[tuple[str, str | None]]) -> Counts:
    """Count the right answers. ``predictions`` are (item id, answer or None), in any order.

    Raises:
        BadInput: an id is unknown, has two predictions or has none.
    """
    answers: dict[str, str | None] = {}
    for item_id, answer in predictions:
        if item_id in answers:
            raise BadInput(f"the predictions contain two answers to item {item_id!r}.")
        answers[item_id] = answer
    correct = nulls = 0
    right: dict[str, int] = {}
    for item in eval_set.items:
        if item.id not in answers:
            raise BadInput(f"the predictions contain no answer to item {item.id!r}.")
        answer = answers.pop(item.id)
        if answer is None:
            nulls += 1
        elif eval_set.scorer.is_right(answer, item.answers):
            correct += 1
            for bucket in item.buckets:
                right[bucket] = right.get(bucket, 0) + 1
    if answers:
        raise BadInput(
            f"the predictions contain an answer to an unknown item, {next(iter(answers))!r}."
        )
    return build_counts(eval_set, right, correct, nulls)


def build_counts(eval_set: Questions, right: Mapping[str, int], correct: int, nulls: int) -> Counts:
    """Counts from the right answers by bucket, in total, and the null answers."""
    sizes = bucket_sizes(eval_set)
    buckets = {name: Score.counted(right.get(name, 0), size) for name, size in sizes.items()}
    return Counts(len(eval_set), correct, nulls, buckets)


def parse_candidate_eval(raw: bytes, where: str) -> CandidateEval:
    """A complete ``candidate_eval.json``, as promotion needs it.

    Raises:
        BadInput: a key is missing or not what the format says.
    """
    values = parse_object(raw, where)
    fields = Fields(values, where)
    metrics = Fields(fields.object("measured"), f"{where}: measured")
    run_id = fields.optional_text("mlflow_run_id")
    return CandidateEval(
        mlflow_run_id=run_id,
        # Evaluations from before candidates had keys name a run.
        candidate=fields.optional_text("candidate") if "candidate" in values else run_id,
        canonical_sha=fields.text("canonical_sha"),
        bundle_digest=fields.optional_text("bundle_digest"),
        parent_sha=fields.optional_text("parent_sha"),
        eval_set_dvc_hash=fields.text("eval_set_dvc_hash"),
        eval_set_sha256=fields.text("eval_set_sha256"),
        scorer=fields.text("scorer"),
        predictions_sha256=fields.text("predictions_sha256"),
        isolation=fields.text("isolation"),
        counts=Counts(
            n=fields.count("n", least=1),
            correct=fields.count("correct"),
            nulls=fields.count("null_answers"),
            buckets=read_scores(values, where).buckets,
        ),
        metrics={key: metrics.number(key) for key in metrics.values},
        environment=fields.optional_text("environment") or LOCAL,
        corpus=_read_corpus(fields),
        answer_column=fields.optional_text("answer_column"),
    )


_CORPUS_KEYS = ("corpus_dvc_hash", "corpus_sha256")


def corpus_to_json(corpus: CorpusDigests | None) -> dict[str, str]:
    """The keys of a corpus in an evaluation and in a ledger entry's evidence: none without one."""
    return {} if corpus is None else dict(zip(_CORPUS_KEYS, astuple(corpus), strict=True))


def _read_corpus(fields: Fields) -> CorpusDigests | None:
    if not any(key in fields.values for key in _CORPUS_KEYS):
        return None
    dvc_hash, sha256 = map(fields.text, _CORPUS_KEYS)
    return CorpusDigests(dvc_hash, sha256)
