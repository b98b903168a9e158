"""Answers to an eval set: written in its order, counted, compared. Small eval sets in Python,
large ones by DuckDB; the results are the same."""

from collections.abc import Iterable
from pathlib import Path

from lynx_pipeline.domain.candidate_eval import Counts, score
from lynx_pipeline.domain.eval_set import EvalSet
from lynx_pipeline.domain.gate import comparison
from lynx_pipeline.domain.gate.comparison import Comparison
from lynx_pipeline.evaluation.storage.large import LargeEvalSet
from lynx_pipeline.evaluation.storage.parquet import read_predictions, write_answers
from lynx_pipeline.sandbox.engine import Answered

AnyEvalSet = EvalSet | LargeEvalSet


def write(
    eval_set: AnyEvalSet, batches: Iterable[Answered], predictions: Path, timings: Path
) -> None:
    """Put the answers to all items, which came in any order, into two Parquet files: (id,
    prediction) and (id, seconds), in the eval set's order."""
    if isinstance(eval_set, LargeEvalSet):
        eval_set.write_answers(batches, predictions, timings)
        return
    texts: list[str | None] = [None] * len(eval_set)
    seconds = [0.0] * len(eval_set)
    for batch in batches:
        for row, answer in zip(batch.rows, batch.answers, strict=True):
            texts[row] = answer
            seconds[row] = batch.seconds / len(batch.rows)
    ids = [item.id for item in eval_set.items]
    write_answers(ids, texts, seconds, predictions, timings)


def count(eval_set: AnyEvalSet, raw: bytes, where: str) -> Counts:
    """Count the right answers in the bytes of a predictions file, called ``where``.

    Raises:
        BadInput: it is no such file, or does not answer every item once.
    """
    if isinstance(eval_set, LargeEvalSet):
        return eval_set.count(raw, where)
    return score(eval_set, read_predictions(raw, where, len(eval_set)))


def compare(eval_set: AnyEvalSet, reference: bytes, candidate: bytes) -> Comparison:
    """The questions that one of two predictions files, both counted before, answers right and
    the other does not."""
    if isinstance(eval_set, LargeEvalSet):
        return eval_set.compare(reference, candidate)
    old, new = (
        dict(read_predictions(raw, "predictions", len(eval_set))) for raw in (reference, candidate)
    )
    return comparison.compare(eval_set, old, new)


def prompt_words(eval_set: AnyEvalSet) -> int:
    """How many words, between spaces, all prompts have together."""
    if isinstance(eval_set, LargeEvalSet):
        return eval_set.prompt_words
    return sum(len(item.prompt.split()) for item in eval_set.items)
