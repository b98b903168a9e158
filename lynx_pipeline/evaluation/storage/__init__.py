"""Storage of eval sets and predictions: small ones in :mod:`.memory`, large ones in :mod:`.large`.

Both give the same results. The code that reads a file chooses one by the file's size.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

from lynx_pipeline.domain.candidate_eval import Counts
from lynx_pipeline.domain.corpus import Line, Overlap
from lynx_pipeline.domain.eval_set import Questions
from lynx_pipeline.domain.gate.comparison import Comparison
from lynx_pipeline.sandbox.engine import Answered


class StoredEvalSet(Questions, Protocol):
    """An eval set that writes, counts and compares predictions."""

    @property
    def prompt_words(self) -> int:
        """The number of words, separated by whitespace, in all prompts together."""

    def write_answers(self, batches: Iterable[Answered], predictions: Path, timings: Path) -> None:
        """Write the answers to all items, which arrive in any order, to two Parquet files in the
        eval set's order: (id, prediction) and (id, seconds)."""

    def count(self, predictions: bytes, where: str) -> Counts:
        """Count the right answers in the bytes of a predictions file. ``where`` is its name in
        error messages.

        Raises:
            BadInput: it is not a predictions file, or does not answer every item once.
            SystemFailed: memory or disk was insufficient, or the stored items are missing.
        """

    def compare(self, reference: bytes, candidate: bytes) -> Comparison:
        """The questions that only one of two predictions files answers right. :meth:`count` has
        accepted both.

        Raises:
            BadInput: one is not a predictions file.
            SystemFailed: memory or disk was insufficient, or the stored items are missing.
        """

    def overlap(self, corpus: Iterable[Line]) -> Overlap:
        """How many items are in a corpus, which is read once and may have any length.

        Raises:
            SystemFailed: memory or disk was insufficient, or the stored items are missing.
        """

    def with_predictions(self, predictions: bytes) -> Iterator[tuple[str, str, str | None]]:
        """Every item's id and prompt with its prediction, in the eval set's order. :meth:`count`
        has accepted the predictions.

        Raises:
            BadInput: it is not a predictions file.
            SystemFailed: memory or disk was insufficient, or the stored items are missing.
        """
