"""The tutor at work: a prompt with a blank in, the missing words out.

Travels inside the bundle and runs where nothing else of the project is installed, so it imports
the standard library only. Guarantees integer arithmetic throughout: one checkpoint answers the
same on every machine. Knows no English: tense and person are read with the checkpoint's weights,
the verb is inflected with the checkpoint's rules. Leaves learning both to ``learner``.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

CHECKPOINT = "tutor.json"
LONGEST_ENDING = 4

_BLANK = re.compile(r"___ \(([^)]+)\)")
_WORD = re.compile(r"[\w']+")
_DIGIT = re.compile(r"\d")


class Context(NamedTuple):
    """A prompt as the tutor sees it: the words on both sides of the blank, and the lemma."""

    before: list[str]
    after: list[str]
    lemma: str


def read_prompt(prompt: str) -> Context | None:
    """The parts of a prompt, or None where it has no blank with a lemma behind it.

    Digits are read as 0: one year is like another.
    """
    blank = _BLANK.search(prompt)
    if blank is None:
        return None
    before, after = (
        _WORD.findall(_DIGIT.sub("0", text.lower()))
        for text in (prompt[: blank.start()], prompt[blank.end() :])
    )
    return Context(before, after, blank[1])


def context_features(context: Context, switches: frozenset[str]) -> list[str]:
    """Names of what stands where around the blank.

    Always the two words before and the one after. ``switches`` adds ``pairs``, neighbours taken
    together; ``bag``, words anywhere on either side; ``opening``, the sentence's first words.
    """
    second, first = ["<", "<", *context.before][-2:]
    after = context.after[0] if context.after else ">"
    features = ["bias", f"-1 {first}", f"-2 {second}", f"+1 {after}"]
    if "pairs" in switches:
        features += [f"-2-1 {second} {first}", f"-1+1 {first} {after}"]
    if "bag" in switches:
        features += [f"< {word}" for word in sorted(set(context.before))]
        features += [f"> {word}" for word in sorted(set(context.after))]
    if "opening" in switches:
        features += [f"^ {context.before[0] if context.before else '>'}"]
        features += [f"^^ {' '.join(context.before[:2])}"]
    return features


def best_label(features: list[str], weights: Mapping[str, list[int]], size: int) -> int:
    """Index of the label with the highest score, the first one among equals."""
    scores = [0] * size
    for feature in features:
        row = weights.get(feature)
        if row is not None:
            for index, weight in enumerate(row):
                scores[index] += weight
    return scores.index(max(scores))


def endings(lemma: str) -> Iterator[str]:
    """Its endings from the longest looked at down to the empty one."""
    for length in range(min(LONGEST_ENDING, len(lemma)), -1, -1):
        yield lemma[len(lemma) - length :]


class GrammarTutor:
    """Answers prompts from a checkpoint as :mod:`learner` writes it."""

    def __init__(self, checkpoint: Mapping[str, Any]) -> None:
        self._switches = frozenset(checkpoint["features"])
        self._labels: dict[str, list[str]] = checkpoint["labels"]
        self._weights: dict[str, dict[str, list[int]]] = checkpoint["weights"]
        self._whole: dict[str, dict[str, list[Any]]] = checkpoint["rules"]["whole"]
        self._ending: dict[str, dict[str, list[Any]]] = checkpoint["rules"]["ending"]

    def read(self, context: Context) -> tuple[str, str]:
        """Tense and person, as the words around the blank suggest them."""
        features = context_features(context, self._switches)
        return self._guess("tense", features), self._guess("person", features)

    def _guess(self, name: str, features: list[str]) -> str:
        labels = self._labels[name]
        return labels[best_label(features, self._weights[name], len(labels))]

    def inflect(self, lemma: str, tense: str, person: str) -> str:
        """The form remembered for this lemma, else the one its ending suggests."""
        slot = f"{tense} {person}"
        rule = self._whole.get(slot, {}).get(lemma)
        if rule is None:
            known = self._ending.get(slot, {})
            rule = next((known[e] for e in endings(lemma) if e in known), None)
        if rule is None:
            return lemma
        prefix, cut, suffix = rule
        return f"{prefix}{lemma[: len(lemma) - cut]}{suffix}"

    def answer(self, prompt: str) -> str:
        """The words for the blank; an empty text where there is no blank."""
        context = read_prompt(prompt)
        if context is None:
            return ""
        tense, person = self.read(context)
        return self.inflect(context.lemma, tense, person)

    def predict(self, model_input: Any, params: Mapping[str, Any] | None = None) -> list[str]:
        """One answer per prompt; takes a data frame with a column ``prompt``, or a list of text."""
        prompts = model_input["prompt"].tolist() if hasattr(model_input, "columns") else model_input
        return [self.answer(prompt) for prompt in prompts]


def load(folder: Path) -> GrammarTutor:
    """The tutor whose checkpoint lies in ``folder``."""
    return GrammarTutor(json.loads((folder / CHECKPOINT).read_text("utf-8")))


def _load_pyfunc(path: str) -> GrammarTutor:
    """MLflow's entry point: ``path`` is the bundle's data folder."""
    return load(Path(path))
