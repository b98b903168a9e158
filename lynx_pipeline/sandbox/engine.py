"""The interface of the two engines, :class:`~lynx_pipeline.sandbox.local.Local` and
:class:`~lynx_pipeline.sandbox.ray.engine.Ray`: batches of prompts in, answers out.
"""

from collections.abc import Iterator
from typing import NamedTuple, Protocol


class Batch(NamedTuple):
    """Prompts, and their row numbers in the eval set. See :attr:`Form.inputs`."""

    rows: list[int]
    prompts: list[str]


class Form(NamedTuple):
    """How a candidate is asked. With ``inputs``, each prompt is the text of a JSON object that has
    them. ``answer_column`` names the column of its output with the answers; None if there is only
    one."""

    inputs: tuple[str, ...] = ()
    answer_column: str | None = None


class Answered(NamedTuple):
    """A candidate's answers to one batch, in the order of its rows.

    ``seconds`` is the time for this batch, ``load_seconds`` the time to load the model, and
    ``peak_mib`` the highest memory use of the process so far. The candidate's process reports all
    three itself.
    """

    rows: list[int]
    answers: list[str | None]
    seconds: float
    load_seconds: float
    peak_mib: float
    isolation: str


class Engine(Protocol):
    """Runs a candidate on batches of prompts."""

    def answer(self, batches: Iterator[Batch], prompt_count: int) -> Iterator[Answered]:
        """The answers to every batch, in order of completion. ``prompt_count`` is the number of
        prompts in all batches.

        Raises:
            BadInput: the candidate crashed, exceeded a limit, or returned malformed output.
            SystemFailed: the candidate could not be run.
        """
