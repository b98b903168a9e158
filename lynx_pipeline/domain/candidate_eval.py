"""Scoring: predictions against the eval set, counted per bucket.

The denominator is the eval set's, always: a missing, unknown or duplicate answer is an
error, never a smaller ``n``. A null answer is wrong, and counted apart. The scorer is named
and versioned, and its name is part of the evidence.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lynx_pipeline.domain.eval_set import EvalSet, Questions, bucket_sizes
from lynx_pipeline.domain.scores import Score, Scores, read_scores, written
from lynx_pipeline.domain.strict_json import Fields, parse_object
from lynx_pipeline.errors import BadInput

LOCAL = "local"
# How a candidate was shut in.
BUBBLEWRAP = "bubblewrap"
NONE = "none"


@dataclass(frozen=True, slots=True)
class Counts:
    """Right answers out of ``n``, in all and by bucket; ``nulls`` of the wrong ones were null."""

    n: int
    correct: int
    nulls: int
    buckets: Mapping[str, Score]


@dataclass(frozen=True, slots=True)
class CandidateEval:
    """One evaluation, as ``candidate_eval.json`` holds it.

    ``metrics`` is what nobody gates on: seconds, items and tokens per second, and so on.
    ``environment`` is where the candidate ran: :data:`LOCAL`, in the project's, or the SHA-256
    of what its own held.
    """

    mlflow_run_id: str | None
    canonical_sha: str
    parent_sha: str | None
    eval_set_dvc_hash: str
    eval_set_sha256: str
    scorer: str
    predictions_sha256: str
    isolation: str
    counts: Counts
    metrics: Mapping[str, float]
    environment: str = LOCAL

    @property
    def isolated(self) -> bool:
        """Whether the candidate could see nothing but prompts, which prod asks of it. An isolation
        that nobody knows is none."""
        return self.isolation == BUBBLEWRAP

    @property
    def scores(self) -> Scores:
        """What the gate needs of it."""
        return Scores(
            self.eval_set_dvc_hash, self.eval_set_sha256, self.scorer, self.counts.buckets
        )

    def to_json(self) -> dict[str, Any]:
        """The file's JSON value."""
        return {
            "mlflow_run_id": self.mlflow_run_id,
            "canonical_sha": self.canonical_sha,
            "parent_sha": self.parent_sha,
            "eval_set_dvc_hash": self.eval_set_dvc_hash,
            "eval_set_sha256": self.eval_set_sha256,
            "scorer": self.scorer,
            "n": self.counts.n,
            "correct": self.counts.correct,
            "null_answers": self.counts.nulls,
            "predictions_sha256": self.predictions_sha256,
            "isolation": self.isolation,
            "environment": self.environment,
            "measured": dict(self.metrics),
            "buckets": written(self.counts.buckets),
        }


def score(eval_set: EvalSet, predictions: Iterable[tuple[str, str | None]]) -> Counts:
    """Count the right answers. ``predictions`` are (item id, answer or None), in any order.

    Raises:
        BadInput: an id is unknown, stands twice, or has no prediction.
    """
    answers: dict[str, str | None] = {}
    for item_id, answer in predictions:
        if item_id in answers:
            raise BadInput(f"the predictions answer the item {item_id!r} twice.")
        answers[item_id] = answer
    correct = nulls = 0
    right: dict[str, int] = {}
    for item in eval_set.items:
        if item.id not in answers:
            raise BadInput(f"the predictions lack the item {item.id!r}.")
        answer = answers.pop(item.id)
        if answer is None:
            nulls += 1
        elif eval_set.scorer.is_right(answer, item.answers):
            correct += 1
            for bucket in item.buckets:
                right[bucket] = right.get(bucket, 0) + 1
    if answers:
        raise BadInput(f"the predictions answer an unknown item, {next(iter(answers))!r}.")
    return counted(eval_set, right, correct, nulls)


def counted(eval_set: Questions, right: Mapping[str, int], correct: int, nulls: int) -> Counts:
    """Counts out of the right answers by bucket and in all, and the null ones."""
    sizes = bucket_sizes(eval_set)
    buckets = {name: Score.counted(right.get(name, 0), size) for name, size in sizes.items()}
    return Counts(len(eval_set), correct, nulls, buckets)


def parse_candidate_eval(raw: bytes, where: str) -> CandidateEval:
    """A full ``candidate_eval.json``, as promotion needs it.

    Raises:
        BadInput: a key is missing or not what the format says.
    """
    values = parse_object(raw, where)
    fields = Fields(values, where)
    metrics = Fields(fields.object("measured"), f"{where}: measured")
    return CandidateEval(
        mlflow_run_id=fields.optional_text("mlflow_run_id"),
        canonical_sha=fields.text("canonical_sha"),
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
    )
