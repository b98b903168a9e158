"""Everything that is wrong or risky in an eval set, at once.

An **error** makes the file unusable: a line that is not an item, a duplicate id, dimensions that
differ, no lines. A **warning** is for a person to judge: the same prompt twice, the same prompt
with different answers, names of buckets that look alike, a bucket too small for the tolerance,
accepted answers that the scorer can't tell apart, an answer that looks like a missing value.

The findings are collected line by line in bounded memory: a few keys of eight bytes for each item,
and a limited number of examples. Leaves to ``evaluation``: reading the file.
"""

import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction

from lynx_pipeline.domain.corpus import SOME_SHIFT, CorpusFindings
from lynx_pipeline.domain.eval_set import Item, parse_item
from lynx_pipeline.domain.repeats import Keys
from lynx_pipeline.domain.scorers import Scorer
from lynx_pipeline.domain.strict_json import LONGEST
from lynx_pipeline.errors import BadInput, some_of

_SHOWN_LINES = 10
_SHOWN_GROUPS = 5
# Different messages about malformed lines; the rest are only counted.
_MESSAGES = 20
# Distinct buckets. With more, a dimension is probably something like an id.
MOST_BUCKETS = 100_000

# What spreadsheets, pandas and SQL write for a missing value.
_MISSING = frozenset(
    ("nan", "null", "none", "n/a", "na", "#n/a", "<na>", "nil", "\\n", "-", "?", "undefined")
)

# Letters of other alphabets that look like Latin ones: the common part of Unicode's confusables
# (UTS 39), after case folding.
_LOOK_ALIKE = str.maketrans(
    "\u0430\u0432\u0435\u043a\u043c\u043d\u043e\u0440\u0441\u0442\u0443\u0445\u0456\u0458\u0455"
    "\u04bb\u0501\u051b\u051d\u03b1\u03b2\u03b5\u03b9\u03ba\u03bd\u03bf\u03c1\u03c4\u03c5\u03c7",
    "abekmhopctyxijshdqwabeikvoptux",
)
_SEPARATORS = frozenset(" _-\u2010\u2011\u2012\u2013\u2014")


class Severity(StrEnum):
    """Whether the file can be used."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Finding:
    """One kind of problem. ``count`` is how often it occurs; ``lines`` are the numbers of the
    first lines, where it is about lines."""

    severity: Severity
    kind: str
    message: str
    count: int
    lines: tuple[int, ...] = ()


_REPEATED = (
    (Severity.ERROR, "duplicate_id", "items have the id of an earlier item"),
    (
        Severity.WARNING,
        "duplicate_question",
        "items have the prompt and the answers of an earlier item, so they count twice",
    ),
    (
        Severity.WARNING,
        "prompt_with_other_answers",
        "items have the prompt of an earlier item but other right answers, so no model can get "
        "both right; list all right answers in 'accept'",
    ),
)


@dataclass(slots=True)
class _Lines:
    """How many lines, and the numbers of the first ones."""

    count: int = 0
    first: list[int] = field(default_factory=list)

    def add(self, number: int) -> None:
        self.count += 1
        if len(self.first) < _SHOWN_LINES:
            self.first.append(number)

    def finding(self, severity: Severity, kind: str, message: str) -> "Finding":
        shown = ", ".join(map(str, self.first))
        more = ", ..." if self.count > len(self.first) else ""
        text = f"{message} (line{'s' if self.count > 1 else ''} {shown}{more})"
        return Finding(severity, kind, text, self.count, tuple(self.first))


class Findings:
    """Collects what is wrong in the lines of one file."""

    def __init__(self, scorer: Scorer, tolerance: Fraction) -> None:
        self._scorer, self._tolerance = scorer, tolerance
        self.started = False
        self.items = 0
        self._inputs: tuple[str, ...] | None = None
        self.sizes: dict[str, int] = {}
        self._malformed: dict[str, _Lines] = {}
        self._more_malformed = _Lines()
        self._dimensions: dict[frozenset[str], _Lines] = {}
        self._same_form, self._missing = _Lines(), _Lines()
        self._ids, self._prompts, self._answers, self._questions = Keys(), Keys(), Keys(), Keys()

    def add(self, number: int, line: bytes) -> None:
        """Look at the next line."""
        self.started = True
        if len(line) > LONGEST:
            self._add_malformed(number, f"more than {LONGEST} bytes")
            return
        try:
            item = parse_item(line, "", self._scorer, self._inputs)
        except BadInput as error:
            self._add_malformed(number, str(error).removeprefix(": "))
            return
        self.items += 1
        self._inputs = item.inputs
        dimensions = item.dimensions
        if dimensions in self._dimensions or len(self._dimensions) < _MESSAGES:
            self._dimensions.setdefault(dimensions, _Lines()).add(number)
        for name in item.buckets:
            if name in self.sizes or len(self.sizes) < MOST_BUCKETS:
                self.sizes[name] = self.sizes.get(name, 0) + 1
        prompt, answers = _question(item, self._scorer)
        if len(answers) < len(item.answers):
            self._same_form.add(number)
        if any(answer.strip().casefold() in _MISSING for answer in item.answers):
            self._missing.add(number)
        self._ids.add(item.id)
        self._prompts.add(prompt)
        self._answers.add(answers)
        self._questions.add((prompt, answers))

    def _add_malformed(self, number: int, message: str) -> None:
        if message in self._malformed or len(self._malformed) < _MESSAGES:
            self._malformed.setdefault(message, _Lines()).add(number)
        else:
            self._more_malformed.add(number)

    def all(self, lines: Callable[[], Iterable[tuple[int, bytes]]]) -> list[Finding]:
        """What was found, errors first. ``lines`` gives the same numbered lines once more; it is
        called only if something is repeated."""
        found = [
            *self._malformed_lines(),
            *self._other_dimensions(),
            *self._repeated(lines),
            *self._small_buckets(),
            *self._look_alikes(),
        ]
        if not self.items and not self._malformed:  # otherwise the lines are the cause
            found.append(Finding(Severity.ERROR, "no_items", "there are no items", 1))
        for lines_of, kind, message in (
            (
                self._same_form,
                "answers_alike",
                f"items have right answers that are the same for {self._scorer.name}",
            ),
            (
                self._missing,
                "answer_looks_missing",
                "items have a right answer such as NaN, null or None; check that it is not a "
                "missing value",
            ),
        ):
            if lines_of.count:
                found.append(lines_of.finding(Severity.WARNING, kind, message))
        return sorted(found, key=lambda finding: finding.severity is not Severity.ERROR)

    def _malformed_lines(self) -> Iterator[Finding]:
        for message, lines in self._malformed.items():
            yield lines.finding(Severity.ERROR, "malformed_line", message.removesuffix("."))
        if self._more_malformed.count:
            text = "lines are malformed in other ways"
            yield self._more_malformed.finding(Severity.ERROR, "malformed_line", text)

    def _other_dimensions(self) -> Iterator[Finding]:
        usual = max(self._dimensions, key=lambda it: self._dimensions[it].count, default=None)
        for dimensions, lines in self._dimensions.items():
            if usual is not None and dimensions != usual:
                text = (
                    f"items have the bucket dimensions {some_of(sorted(dimensions))}; most have "
                    f"{some_of(sorted(usual))}"
                )
                yield lines.finding(Severity.ERROR, "other_dimensions", text)

    def _repeated(self, lines: Callable[[], Iterable[tuple[int, bytes]]]) -> Iterator[Finding]:
        """Duplicate ids, duplicate questions, and prompts with different answers."""
        repeated = (
            self._ids.repeated(),
            self._questions.repeated(),
            self._prompts.ambiguous(self._answers),
        )
        found: tuple[dict[object, list[int]], ...] = ({}, {}, {})
        for number, line in lines() if any(each.extra for each in repeated) else ():
            try:
                item = parse_item(line, "", self._scorer, self._inputs)
            except BadInput:
                continue
            question = _question(item, self._scorer)
            for each, key, rows in zip(
                repeated, (item.id, question, question[0]), found, strict=True
            ):
                if each.extra:
                    each.note(key, number, rows, _SHOWN_GROUPS)
        for (severity, kind, message), each, rows in zip(_REPEATED, repeated, found, strict=True):
            if each.extra:
                shown = "; ".join(", ".join(map(str, numbers)) for numbers in rows.values())
                more = ", ..." if each.extra > len(rows) else ""
                first = tuple(sorted(number for numbers in rows.values() for number in numbers))
                yield Finding(severity, kind, f"{message} (lines {shown}{more})", each.extra, first)

    def _small_buckets(self) -> Iterator[Finding]:
        small = {n: size for n, size in self.sizes.items() if Fraction(1, size) > self._tolerance}
        if small:
            smallest = sorted(small.items(), key=lambda it: (it[1], it[0]))
            text = (
                "buckets are so small that one item weighs more than the tolerance of "
                f"{float(self._tolerance * 100):g} points, so one more wrong answer fails them: "
                f"{some_of([f'{name} ({size})' for name, size in smallest])}"
            )
            yield Finding(Severity.WARNING, "small_bucket", text, len(small))
        if len(self.sizes) == MOST_BUCKETS:
            text = (
                "buckets or more; later ones were not counted. Check that no dimension has a "
                "different value in every item"
            )
            yield Finding(Severity.WARNING, "many_buckets", text, MOST_BUCKETS)

    def _look_alikes(self) -> Iterator[Finding]:
        groups: dict[str, list[str]] = {}
        for name in self.sizes:
            groups.setdefault(skeleton(name), []).append(name)
        alike = [names for names in groups.values() if len(names) > 1]
        if alike:
            shown = some_of([" and ".join(map(_escaped, sorted(names))) for names in alike], 5)
            text = f"groups of bucket names look alike: {shown}"
            yield Finding(Severity.WARNING, "names_look_alike", text, len(alike))


def corpus_warnings(found: CorpusFindings) -> list[Finding]:
    """What a comparison with a corpus found, as warnings."""
    warnings = []
    if not found.separate:
        text = found.overlap_text.removesuffix(".")
        warnings.append(Finding(Severity.WARNING, "in_corpus", text, found.overlap.prompts))
    if not found.represents:
        count = sum(shift.index >= SOME_SHIFT for shift in found.shifts)
        text = found.shift_text.removesuffix(".")
        warnings.append(Finding(Severity.WARNING, "other_shares_than_corpus", text, count))
    return warnings


def skeleton(name: str) -> str:
    """A form that bucket names share if they are easily mistaken for each other: they differ in
    case, in kinds of spaces, hyphens and underscores, in Unicode compatibility forms, or in letters
    of another alphabet that look alike (Unicode Technical Standard 39, section 4)."""
    text = unicodedata.normalize("NFKC", name).casefold().translate(_LOOK_ALIKE)
    return " ".join("".join(" " if c in _SEPARATORS else c for c in text).split())


def _question(item: Item, scorer: Scorer) -> tuple[str, frozenset[object]]:
    """What makes two items the same question: the prompt but for white space and Unicode form, and
    the right answers as ``scorer`` compares them."""
    prompt = " ".join(unicodedata.normalize("NFC", item.prompt).split())
    return prompt, frozenset(map(scorer.form, item.answers))


def _escaped(name: str) -> str:
    """The name as it is and, where another alphabet hides in it, with code points."""
    return repr(name) if name.isascii() else f"{name!r} ({name!a})"
