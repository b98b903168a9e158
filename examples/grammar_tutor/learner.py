"""Learns a tutor from rows of prompt, answer and labels.

Two things are learned. Tense and person: one averaged perceptron each, over the words around the
blank. Inflection: how the lemma was rewritten, stored for the whole lemma and, where at least two
verbs agree, for its endings. So an unseen verb is inflected like verbs with the same ending, and an
unseen irregular verb like a regular one. Guarantees the same checkpoint on every machine (integers
only, an order fixed by the seed), and no knowledge of English except from the rows. Leaves files to
``train``.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from examples.grammar_tutor.configs import TrainConfig
from examples.grammar_tutor.grammar_tutor import best_label, context_features, endings, read_prompt

Rule = tuple[str, int, str]
"""Text put before, letters cut from the lemma's end, text put behind."""

MIN_VERBS = 2
"""An ending's rule counts only if this many verbs show it."""


class Lesson(NamedTuple):
    """One training row."""

    id: str
    prompt: str
    expected: str
    tense: str
    person: str


def drop_rare_forms(lessons: Sequence[Lesson], least: int) -> list[Lesson]:
    """The rows whose answer occurs at least ``least`` times; rarer ones are taken for typing
    errors. With 0 or 1 every row stays."""
    counts = Counter(lesson.expected for lesson in lessons)
    return [lesson for lesson in lessons if counts[lesson.expected] >= least]


def rewrite_rule(lemma: str, form: str) -> Rule:
    """How to make ``form`` from ``lemma``, keeping as many of its first letters as possible."""
    for kept in range(len(lemma), 0, -1):
        start = form.find(lemma[:kept])
        if start >= 0:
            return form[:start], len(lemma) - kept, form[start + kept :]
    return "", len(lemma), form


def _winner(counts: Counter[Rule]) -> tuple[Rule, int] | None:
    """The most common rule and its count; None on a tie, which proves nothing."""
    ranked = counts.most_common(2)
    if len(ranked) == 2 and ranked[0][1] == ranked[1][1]:
        return None
    return ranked[0]


def learn_rules(lessons: Iterable[Lesson]) -> dict[str, dict[str, dict[str, Rule]]]:
    """Rules by ``"<tense> <person>"``, for whole lemmas and for endings."""
    rows: dict[str, dict[str, Counter[Rule]]] = defaultdict(lambda: defaultdict(Counter))
    for lesson in lessons:
        context = read_prompt(lesson.prompt)
        if context is None:
            continue
        rule = rewrite_rule(context.lemma, lesson.expected)
        rows[f"{lesson.tense} {lesson.person}"][context.lemma][rule] += 1

    whole: dict[str, dict[str, Rule]] = {}
    ending: dict[str, dict[str, Rule]] = {}
    for slot, lemmas in rows.items():
        found = {lemma: _winner(counts) for lemma, counts in lemmas.items()}
        whole[slot] = {lemma: best[0] for lemma, best in found.items() if best}
        # Count verbs, not rows, so that one frequent irregular verb does not make a rule.
        by_ending: dict[str, Counter[Rule]] = defaultdict(Counter)
        for lemma, rule in whole[slot].items():
            for end in endings(lemma):
                by_ending[end][rule] += 1
        winners = {end: _winner(counts) for end, counts in by_ending.items()}
        ending[slot] = {end: w[0] for end, w in winners.items() if w and w[1] >= MIN_VERBS}
    return {"whole": whole, "ending": ending}


def learn_weights(
    rows: Sequence[tuple[list[str], int]], size: int, order: Callable[[int, int], str], epochs: int
) -> dict[str, list[int]]:
    """Weights of an averaged perceptron, summed instead of divided so that they stay integers.

    ``rows`` are features and right label, ``size`` the number of labels, and ``order`` the sort
    key of row ``i`` in epoch ``e``.
    """
    weights: dict[str, list[int]] = {}
    late: dict[str, list[int]] = {}
    step = 1
    for epoch in range(epochs):
        for index in sorted(range(len(rows)), key=lambda i: order(epoch, i)):
            features, right = rows[index]
            guess = best_label(features, weights, size)
            if guess != right:
                for feature in features:
                    row = weights.setdefault(feature, [0] * size)
                    sums = late.setdefault(feature, [0] * size)
                    row[right] += 1
                    row[guess] -= 1
                    sums[right] += step
                    sums[guess] -= step
            step += 1
    averaged = {
        feature: [step * now - sum_ for now, sum_ in zip(row, late[feature], strict=True)]
        for feature, row in weights.items()
    }
    return {feature: row for feature, row in averaged.items() if any(row)}


def learn(lessons: Sequence[Lesson], config: TrainConfig) -> tuple[dict[str, Any], int]:
    """The checkpoint, and the number of rows it was learned from.

    Raises:
        ValueError: no row is left to learn from.
    """
    kept = drop_rare_forms(lessons, config.min_form_count)
    if not kept:
        raise ValueError(f"config {config.name!r}: no rows left to learn from")
    switches = frozenset(config.features)
    seen = [
        (lesson, context_features(context, switches))
        for lesson in kept
        if (context := read_prompt(lesson.prompt)) is not None
    ]

    def order(epoch: int, index: int) -> str:
        # A hash instead of a random generator: no library version can change it.
        key = f"{config.seed} {epoch} {seen[index][0].id}"
        return hashlib.sha256(key.encode()).hexdigest()

    labels = {
        "tense": sorted({lesson.tense for lesson, _ in seen}),
        "person": sorted({lesson.person for lesson, _ in seen}),
    }
    weights = {
        name: learn_weights(
            [(features, names.index(getattr(lesson, name))) for lesson, features in seen],
            len(names),
            order,
            config.epochs,
        )
        for name, names in labels.items()
    }
    checkpoint = {
        "format": 1,
        "name": config.name,
        "features": sorted(switches),
        "labels": labels,
        "weights": weights,
        "rules": learn_rules(kept),
    }
    return checkpoint, len(kept)
