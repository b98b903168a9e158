"""Small eval sets: all items in memory, counted by the rules in ``domain``. Up to some 40,000 items
that is faster than importing an engine."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lynx_pipeline.domain.candidate_eval import Counts, score
from lynx_pipeline.domain.corpus import Line, Overlap, find_items
from lynx_pipeline.domain.eval_set import EvalSet
from lynx_pipeline.domain.gate import comparison
from lynx_pipeline.domain.gate.comparison import Comparison
from lynx_pipeline.evaluation.storage.parquet import read_predictions, write_answers
from lynx_pipeline.sandbox.engine import Answered


@dataclass(frozen=True, slots=True)
class SmallEvalSet(EvalSet):
    """A :class:`~lynx_pipeline.evaluation.storage.StoredEvalSet` with all its items in memory."""

    @property
    def prompt_words(self) -> int:
        """See :class:`~lynx_pipeline.evaluation.storage.StoredEvalSet`."""
        return sum(len(item.prompt.split()) for item in self.items)

    def write_answers(self, batches: Iterable[Answered], predictions: Path, timings: Path) -> None:
        """See :class:`~lynx_pipeline.evaluation.storage.StoredEvalSet`."""
        texts: list[str | None] = [None] * len(self)
        seconds = [0.0] * len(self)
        for batch in batches:
            for row, answer in zip(batch.rows, batch.answers, strict=True):
                texts[row] = answer
                seconds[row] = batch.seconds / len(batch.rows)
        write_answers([item.id for item in self.items], texts, seconds, predictions, timings)

    def count(self, predictions: bytes, where: str) -> Counts:
        """See :class:`~lynx_pipeline.evaluation.storage.StoredEvalSet`."""
        return score(self, read_predictions(predictions, where, len(self)))

    def compare(self, reference: bytes, candidate: bytes) -> Comparison:
        """See :class:`~lynx_pipeline.evaluation.storage.StoredEvalSet`."""
        before, after = (
            dict(read_predictions(raw, "predictions", len(self))) for raw in (reference, candidate)
        )
        return comparison.compare(self, before, after)

    def overlap(self, corpus: Iterable[Line]) -> Overlap:
        """See :class:`~lynx_pipeline.evaluation.storage.StoredEvalSet`."""
        return find_items(self.items, corpus, self.scorer)

    def with_predictions(self, predictions: bytes) -> Iterator[tuple[str, str, str | None]]:
        """See :class:`~lynx_pipeline.evaluation.storage.StoredEvalSet`."""
        texts = dict(read_predictions(predictions, "predictions", len(self)))
        for item in self.items:
            yield item.id, item.prompt, texts[item.id]
