"""The corpus: what the model was trained on, or is asked in production, one JSON object a line.

Two questions are answered about an eval set and its corpus. Are the eval set's questions in the
corpus, so that a model could have learned their answers by heart? And does the eval set have the
corpus's shares of each bucket, so that its accuracies describe production? Neither changes a
verdict. Leaves to ``evaluation.corpus``: reading the file, and remembering the result.

Only ``prompt`` or ``inputs``, ``expected``, ``accept`` and ``buckets`` are read, as strictly as in
an eval set; a line may have any other key, because a log of real questions usually does.
"""

import json
import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from lynx_pipeline.domain.eval_set import (
    Item,
    Questions,
    bucket_name,
    bucket_sizes,
    check_kind,
    read_question,
)
from lynx_pipeline.domain.scorers import Scorer, normalise
from lynx_pipeline.domain.strict_json import LONGEST, Fields, parse_object
from lynx_pipeline.errors import BadInput, some_of

# The usual thresholds of the population stability index: below the first the shares are the same
# for practical purposes; from the second on they are different.
SOME_SHIFT, LARGE_SHIFT = 0.10, 0.25
LISTED = 10  # items named in a report
# A bucket is a slice. More values than this are ids or free text, and would fill the memory.
_MOST_VALUES = 10_000


@dataclass(frozen=True, slots=True)
class CorpusDigests:
    """Which corpus: DVC's digest of its file (MD5), and the SHA-256."""

    dvc_hash: str
    sha256: str


class Line(NamedTuple):
    """A line of the corpus. ``answers`` may be empty; ``buckets`` are values by dimension."""

    prompt: str
    answers: tuple[str, ...]
    buckets: Mapping[str, str]


def parse_corpus(
    lines: Iterable[bytes], where: str, dimensions: Collection[str], inputs: tuple[str, ...] = ()
) -> Iterator[Line]:
    """The lines of a JSONL corpus, in file order. ``dimensions`` and ``inputs`` are those of the
    eval set.

    Raises:
        BadInput: a line is not a JSON object with a prompt, or with these inputs if there are any,
            or names a dimension that the eval set does not have; or there are no lines.
    """
    empty = True
    known: dict[str, set[str]] = {dimension: set() for dimension in dimensions}
    for number, raw in enumerate(lines, start=1):
        here = f"{where}, line {number}"
        if not raw.strip() and len(raw) <= LONGEST:
            continue
        if empty:
            check_kind(raw, where, "Convert it to JSON lines with a 'prompt' each.")
        empty = False
        values = parse_object(raw, here)
        prompt, buckets = values.get("prompt"), values.get("buckets")
        if inputs or not isinstance(prompt, str) or not prompt.strip():
            prompt, _ = read_question(Fields(values, here), inputs, "the eval set's items have")
        if buckets is None:
            buckets = {}
        elif not isinstance(buckets, dict):
            buckets = Fields(values, here).object("buckets")
        for dimension, value in buckets.items():
            if value.__hash__ is None or value not in known.get(dimension, ()):
                _check_bucket(dimension, value, known, here)
                known[dimension].add(value)
        yield Line(prompt, _answers(values, here), buckets)
    if empty:
        raise BadInput(f"{where}: the corpus contains no lines.")


def _answers(values: dict[str, Any], here: str) -> tuple[str, ...]:
    expected, accept = values.get("expected"), values.get("accept")
    if expected is not None and (not isinstance(expected, str) or not expected.strip()):
        Fields(values, here).text("expected")
    if accept is None:
        accept = ()
    elif not isinstance(accept, list) or not all(isinstance(a, str) and a.strip() for a in accept):
        Fields(values, here).fail("accept", "a list of answers that are not empty", "another value")
    return tuple(accept) if expected is None else (expected, *accept)


def _check_bucket(
    dimension: str, value: Any, known: Mapping[str, Collection[str]], here: str
) -> None:
    if dimension not in known:
        raise BadInput(
            f"{here}: 'buckets': the eval set has no dimension {dimension!r:.80}. Expected some of "
            f"{some_of(sorted(known))}. Check that this is the corpus of this eval set."
        )
    bucket_name(dimension, value, here)
    if len(known[dimension]) == _MOST_VALUES:
        raise BadInput(
            f"{here}: 'buckets': the dimension {dimension!r} has more than {_MOST_VALUES} values. "
            "Remove it from the corpus, or group its values as the eval set does."
        )


class BucketCounts:
    """Counts the corpus's lines in each bucket while somebody else reads them."""

    def __init__(self) -> None:
        self.lines = 0
        self.buckets: dict[str, dict[str, int]] = {}

    def counting(self, lines: Iterable[Line]) -> Iterator[Line]:
        """The same lines; each is counted when it is passed on."""
        for line in lines:
            self.lines += 1
            for dimension, value in line.buckets.items():
                counts = self.buckets.setdefault(dimension, {})
                counts[value] = counts.get(value, 0) + 1
            yield line


# ----- are the questions in the corpus? -------------------------------------------------------

# What can be found: a prompt byte for byte or normalised, and a prompt with one of its answers.
EXACT_PROMPT, PROMPT, EXACT_PAIR, PAIR = KINDS = range(4)
Key = tuple[Any, ...]  # the kind, and what has to be equal


@dataclass(frozen=True, slots=True)
class Overlap:
    """How many of the eval set's items are in the corpus.

    ``prompts`` items have the prompt of a line, normalised, and ``exact_prompts`` of them byte for
    byte. ``pairs`` items have the prompt and a right answer of one and the same line, normalised
    (the answer as the scorer does it), and ``exact_pairs`` of them byte for byte. ``examples`` are
    the ids and prompts of the first items whose prompts were found.
    """

    prompts: int
    exact_prompts: int
    pairs: int
    exact_pairs: int
    examples: tuple[tuple[str, str], ...] = ()


def keys(prompt: str, form: str, answers: Iterable[str], scorer: Scorer) -> Iterator[Key]:
    """The keys of an item or a line. An item counts as found for a kind if it shares a key of that
    kind with a line. ``form`` is the normalised prompt."""
    yield EXACT_PROMPT, prompt
    yield PROMPT, form
    for answer in answers:
        yield EXACT_PAIR, prompt, answer
        if (answer_form := scorer.form(answer)) is not None:
            yield PAIR, form, answer_form


def question_form(prompt: str, inputs: Collection[str]) -> str:
    """A prompt as it is compared: normalised. If it has several ``inputs``, each by itself."""
    if not inputs:
        return normalise(prompt)
    return json.dumps([normalise(value) for value in json.loads(prompt).values()])


def item_keys(item: Item, scorer: Scorer) -> Iterator[Key]:
    """:func:`keys` of an item."""
    return keys(item.prompt, question_form(item.prompt, item.inputs), item.answers, scorer)


def find_items(items: Iterable[Item], lines: Iterable[Line], scorer: Scorer) -> Overlap:
    """The overlap of items in memory with a corpus of any length."""
    wanted = [(item, set(item_keys(item, scorer))) for item in items]
    inputs = wanted[0][0].inputs if wanted else ()
    every = {key for _, its in wanted for key in its}
    forms = {key[1] for key in every if key[0] == PROMPT}
    found: set[Key] = set()
    for line in lines:
        if (form := question_form(line.prompt, inputs)) in forms:
            found.update(every.intersection(keys(line.prompt, form, line.answers, scorer)))
    counts, examples = [0] * len(KINDS), []
    for item, its in wanted:
        kinds = {key[0] for key in its & found}
        for kind in KINDS:
            counts[kind] += kind in kinds
        if PROMPT in kinds:
            examples.append((item.id, item.prompt))
    return counted(counts, examples)


def counted(counts: Iterable[int], examples: Iterable[tuple[str, str]]) -> Overlap:
    """The overlap from the items found by each of :data:`KINDS`, and those to list."""
    exact_prompts, prompts, exact_pairs, pairs = counts
    return Overlap(prompts, exact_prompts, pairs, exact_pairs, tuple(examples)[:LISTED])


# ----- does the eval set have the corpus's shares? -----------------------------------------------


def stability_index(expected: Mapping[str, int], actual: Mapping[str, int]) -> float:
    """The population stability index of two sets of counts: the sum over all values of
    ``(a - e) * ln(a / e)``, where ``a`` and ``e`` are the value's shares.

    If a value has no item on one side, the index would be infinite. Half an item is then added to
    every value on both sides, so that a value that is rare in the larger set, and by chance missing
    in the smaller one, weighs little.

    The index and its thresholds 0.10 and 0.25: N. Siddiqi, *Credit Risk Scorecards*, Wiley 2006.
    """
    values = sorted(expected.keys() | actual.keys())
    more = 0.5 if any(not expected.get(v) or not actual.get(v) for v in values) else 0.0
    e_total = sum(expected.values()) + more * len(values)
    a_total = sum(actual.values()) + more * len(values)
    shares = (
        ((actual.get(v, 0) + more) / a_total, (expected.get(v, 0) + more) / e_total) for v in values
    )
    return math.fsum((a - e) * math.log(a / e) for a, e in shares)


@dataclass(frozen=True, slots=True)
class Shift:
    """How different the shares of a dimension's buckets are in corpus and eval set.

    ``index`` is :func:`stability_index`. ``by_chance`` is its mean for an eval set that was drawn
    at random from the corpus, ``(k - 1) * (1/n + 1/m)`` for ``k`` values, ``n`` items and ``m``
    lines: B. Yurdakul and J. Naranjo, *Statistical properties of the population stability index*,
    Journal of Risk Model Validation 14(4), 2020. ``lines`` are those that have the dimension.
    """

    dimension: str
    index: float
    by_chance: float
    values: int
    lines: int

    @property
    def result(self) -> str:
        """The index in words."""
        if self.index >= LARGE_SHIFT:
            return "different shares"
        return "somewhat different shares" if self.index >= SOME_SHIFT else "same shares"


# ----- both together --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CorpusScan:
    """What one pass over the corpus found, as it can be stored: the number of lines, the overlap,
    and the lines in each bucket, by dimension and value."""

    lines: int
    overlap: Overlap
    buckets: Mapping[str, Mapping[str, int]]

    def to_json(self) -> dict[str, Any]:
        """The JSON value. :func:`read_scan` reads it back as an equal scan."""
        return {"lines": self.lines, "overlap": asdict(self.overlap), "buckets": self.buckets}


def read_scan(raw: bytes, where: str) -> CorpusScan:
    """A stored scan.

    Raises:
        BadInput: it is not one.
    """
    fields = Fields(parse_object(raw, where), where)
    overlap = Fields(fields.object("overlap"), where)
    counts = [overlap.count(k) for k in ("exact_prompts", "prompts", "exact_pairs", "pairs")]
    found: Any = overlap.values.get("examples")
    try:
        examples = [(str(item_id), str(prompt)) for item_id, prompt in found]
        buckets = {
            dimension: {v: Fields(values, where).count(v, least=1) for v in values}
            for dimension, values in fields.values["buckets"].items()
        }
    except (AttributeError, KeyError, TypeError, ValueError):
        raise BadInput(f"{where}: not the result of a scan.") from None
    return CorpusScan(fields.count("lines", least=1), counted(counts, examples), buckets)


@dataclass(frozen=True, slots=True)
class CorpusFindings:
    """An eval set of ``items`` items compared with a corpus of ``lines`` lines. There is one shift
    for each dimension that the corpus has, the largest first."""

    items: int
    lines: int
    overlap: Overlap
    shifts: tuple[Shift, ...]

    @property
    def separate(self) -> bool:
        """Whether no question is in the corpus: the check ``eval_set_not_in_corpus``."""
        return not self.overlap.prompts

    @property
    def represents(self) -> bool:
        """Whether no dimension's index reaches :data:`SOME_SHIFT`: the check
        ``eval_set_represents_corpus``."""
        return all(shift.index < SOME_SHIFT for shift in self.shifts)

    @property
    def shifted(self) -> bool:
        """Whether a dimension's index reaches :data:`LARGE_SHIFT`."""
        return any(shift.index >= LARGE_SHIFT for shift in self.shifts)

    @property
    def objections(self) -> tuple[str, ...]:
        """What a project with blocking corpus checks refuses: any question in the corpus, and an
        index of :data:`LARGE_SHIFT` or more. Indexes are doubles; the sum is correctly rounded, so
        equal counts give equal indexes."""
        overlap = () if self.separate else (self.overlap_text,)
        return (*overlap, *((self.shift_text,) if self.shifted else ()))

    @property
    def texts(self) -> tuple[str, str]:
        """Both results in words."""
        return self.overlap_text, self.shift_text

    @property
    def overlap_text(self) -> str:
        """The overlap in a sentence."""
        found, size = self.overlap, f"the corpus of {self.lines} lines"
        if self.separate:
            return f"None of the {self.items} questions is in {size}."
        return (
            f"{found.prompts} of the {self.items} questions are in {size}, "
            f"{found.exact_prompts} of them word for word. {found.pairs} are there together with a "
            f"right answer ({found.exact_pairs} word for word). Examples: {self._examples}."
        )

    @property
    def _examples(self) -> str:
        listed = [f"{item_id!r:.60} ({prompt!r:.120})" for item_id, prompt in self.overlap.examples]
        more = self.overlap.prompts - len(listed)
        return ", ".join(listed) + (f" and {more} more" if more else "")

    @property
    def shift_text(self) -> str:
        """The shifts in a sentence."""
        if not self.shifts:
            return "The corpus has no buckets, so the eval set's shares can't be compared with it."
        each = ", ".join(
            f"{shift.dimension} {shift.index:.3f} ({shift.result})" for shift in self.shifts
        )
        return f"Population stability index of the eval set against the corpus: {each}."


def compare(eval_set: Questions, scan: CorpusScan) -> CorpusFindings:
    """What a scan of the corpus says about the eval set."""
    sizes: dict[str, dict[str, int]] = {}
    for name, size in bucket_sizes(eval_set).items():
        dimension, _, value = name.partition(".")
        sizes.setdefault(dimension, {})[value] = size
    shifts = []
    for dimension, counts in scan.buckets.items():
        ours, lines = sizes[dimension], sum(counts.values())
        values = len(ours.keys() | counts.keys())
        chance = (values - 1) * (1 / len(eval_set) + 1 / lines)
        index = stability_index(counts, ours)
        shifts.append(Shift(dimension, index, chance, values, lines))
    shifts.sort(key=lambda shift: (-shift.index, shift.dimension))
    return CorpusFindings(len(eval_set), scan.lines, scan.overlap, tuple(shifts))


def dimensions_of(eval_set: Questions) -> frozenset[str]:
    """The names of the eval set's dimensions."""
    cell = next(iter(eval_set.cells()))
    return frozenset(name.partition(".")[0] for name in cell)
