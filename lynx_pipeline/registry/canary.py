"""The canary: whether a running server answers as the promoted model did when it was evaluated.

A model can find out that it is evaluated, answer well then, and differently once it is served. So a
sample of the eval set's prompts is sent to the server, and each answer is compared with the stored
prediction, exactly; a number, by the text that the evaluation gives it. Right or wrong does not
matter here. A model that recognizes the eval set's prompts themselves, or that changes later, is
not detected.
"""

import json
import random
import struct
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from lynx_pipeline.adapters.model_server import Answer, Served
from lynx_pipeline.domain.candidate_eval import parse_candidate_eval
from lynx_pipeline.domain.ledger.chain import Entry
from lynx_pipeline.domain.ledger.facts import Evidence, Promoted
from lynx_pipeline.errors import BadInput, Refused
from lynx_pipeline.evaluation.baseline import read_reference
from lynx_pipeline.evaluation.inputs import read_eval_set
from lynx_pipeline.evaluation.storage import StoredEvalSet
from lynx_pipeline.registry.registry import Registry

# A server's answers to a batch of prompts. They have these inputs, and the answers are in this
# column of the model's output.
Ask = Callable[[list[str], Sequence[str], str | None], Served]


REFERENCE = "the reference model"


class Question(NamedTuple):
    """An item of the eval set, and what the evaluated model answered."""

    id: str
    prompt: str
    expected: str | None


class Difference(NamedTuple):
    """A question to which the server gave another answer. A number is shown as text."""

    question: Question
    answer: str | None


@dataclass(frozen=True, slots=True)
class CanaryResult:
    """The comparison of ``asked`` answers with the predictions of ``version``. ``flipped`` of the
    questions are those that either this version or ``other`` answers right, not both. ``other`` is
    :data:`REFERENCE`, or the version before; None if there is neither."""

    version: str
    asked: int
    flipped: int
    other: str | None
    differences: tuple[Difference, ...]


def canary(
    registry: Registry, version: str, ask: Ask, *, size: int | None, batch_size: int
) -> CanaryResult:
    """Send a server ``size`` of the eval set's prompts, or all if it is None. See :func:`choose`.

    Raises:
        Refused: the server serves another version.
        BadInput: the version has no stored predictions, or the eval set is not the one that it was
            evaluated on.
        SystemFailed: a request to the server, DVC or the registry failed.
    """
    entry = _promotion(registry, version)
    eval_set, predictions, answer_column = _stored_predictions(registry, entry)
    other, answers = _other(registry, entry, eval_set)
    flipped = frozenset[str]()
    if answers is not None:
        found = eval_set.compare(answers, predictions)
        flipped = frozenset(flip.item.id for flip in (*found.lost, *found.gained))
    questions = (Question(*it) for it in eval_set.with_predictions(predictions))
    chosen = choose(questions, flipped, size, random.SystemRandom())
    different: list[Difference] = []
    for batch in _batches(chosen, batch_size):
        prompts = [question.prompt for question in batch]
        served = ask(prompts, eval_set.inputs, answer_column)
        if served.version not in (None, entry.fact.semver):
            raise Refused(
                f"the server serves {served.version!r:.80}, expected {entry.fact.semver}. Compare "
                "it with the version that it serves, or wait until it has switched."
            )
        different += differences(batch, served.answers)
    return CanaryResult(entry.fact.semver, len(chosen), len(flipped), other, tuple(different))


def choose(
    questions: Iterable[Question], always: Collection[str], size: int | None, dice: random.Random
) -> list[Question]:
    """``size`` questions in random order, each drawn with the same chance; all if ``size`` is None.
    Questions whose ids are in ``always`` are among them, even if they are more than ``size``."""
    chosen, drawn = list[Question](), list[Question]()
    room = None if size is None else max(0, size - len(always))
    seen = 0
    for question in questions:
        if question.id in always:
            chosen.append(question)
            continue
        seen += 1
        if room is None or len(drawn) < room:
            drawn.append(question)
        elif (place := dice.randrange(seen)) < room:
            drawn[place] = question
    chosen += drawn
    dice.shuffle(chosen)
    return chosen


def differences(questions: Iterable[Question], answers: Iterable[Answer]) -> Iterator[Difference]:
    """The questions whose answer is not exactly the expected one."""
    for question, answer in zip(questions, answers, strict=True):
        texts = list(_recorded(answer))
        if question.expected not in texts:
            yield Difference(question, texts[0])


def _recorded(answer: Answer) -> Iterator[str | None]:
    """The texts that an evaluation may have recorded for a served answer. The worker that evaluates
    writes a number as JSON does, with the digits that it needs in its own type. JSON has only
    doubles: a server turns the single-precision number 0.1 into 0.10000000149011612."""
    if answer is None or isinstance(answer, str):
        yield answer
        return
    yield json.dumps(answer)
    if isinstance(answer, float):
        yield from _as_narrower_float(answer)


def _as_narrower_float(value: float) -> Iterator[str]:
    """The shortest texts of a number that is exactly one of 32 or 16 bits, in that type."""
    for code, digits in (("f", 9), ("e", 5)):

        def narrowed(number: float, code: str = code) -> float:
            try:
                (result,) = struct.unpack(code, struct.pack(code, number))
            except OverflowError:
                return float("nan")
            return float(result)

        if narrowed(value) == value:
            texts = (float(f"{value:.{count}e}") for count in range(digits))
            yield json.dumps(next(it for it in texts if narrowed(it) == value))


def _promotion(registry: Registry, version: str) -> Entry[Promoted]:
    try:
        return registry.promoted(version)
    except Refused as error:  # a refusal would say that the server answered wrongly
        raise BadInput(str(error)) from None


def _stored_predictions(
    registry: Registry, entry: Entry[Promoted]
) -> tuple[StoredEvalSet, bytes, str | None]:
    """The eval set that the promoted version was evaluated on, its predictions, and which column of
    its output they are."""
    semver, evidence = entry.fact.semver, entry.fact.evidence
    if not isinstance(evidence, Evidence):
        raise BadInput(
            f"{semver} was promoted without evidence that can be read, so its answers are not "
            "known. Promote the model with evidence, under a new version."
        )
    settings = registry.settings
    eval_set = read_eval_set(settings)
    expected = (evidence.eval_set_dvc_hash, evidence.eval_set_sha256)
    if (eval_set.dvc_hash, eval_set.sha256) != expected:
        raise BadInput(
            f"{semver} was evaluated on the eval set {expected[0]}, and {settings.eval_set} is "
            f"{eval_set.dvc_hash}. Run this in a checkout of a commit that has that eval set."
        )
    predictions = registry.store.evidence(evidence.predictions_sha256)
    eval_set.count(predictions, f"the stored predictions of {semver}")
    stored = registry.store.evidence(evidence.candidate_eval_sha256)
    evaluation = parse_candidate_eval(stored, f"the stored evaluation of {semver}")
    return eval_set, predictions, evaluation.answer_column


def _other(
    registry: Registry, entry: Entry[Promoted], eval_set: StoredEvalSet
) -> tuple[str | None, bytes | None]:
    """The model whose answers show which questions matter, and its predictions: the reference, or
    the last version before ``entry`` that was evaluated on the same eval set."""
    reference = read_reference(registry.settings, eval_set)
    if reference is not None:
        return REFERENCE, reference[0]
    for before in reversed(registry.promotions()):
        evidence = before.fact.evidence
        if (
            before.seq < entry.seq
            and isinstance(evidence, Evidence)
            and evidence.eval_set_sha256 == eval_set.sha256
        ):
            predictions = registry.store.evidence(evidence.predictions_sha256)
            eval_set.count(predictions, f"the stored predictions of {before.fact.semver}")
            return before.fact.semver, predictions
    return None, None


def _batches(questions: list[Question], size: int) -> Iterator[list[Question]]:
    rest = iter(questions)
    while batch := list(islice(rest, size)):
        yield batch
