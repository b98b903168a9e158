"""Fills a sentence frame with a subject, a blank and a complement.

A frame is a format string: ``{s}`` subject, ``{n}`` its pronoun, ``{o}`` its object form, ``{p}``
its possessive, ``{b}`` the blank with the lemma, ``{c}`` the complement. ``[want|wants]`` agrees
with the subject (other persons | 3sg), ``[am|are|is]`` has one word per person.
Leaves to others: which frame fits which verb, and the right answer.
"""

import re
from typing import NamedTuple

from examples.grammar_tutor.forms import PERSONS

BLANK = "___"
_AGREEMENT = re.compile(r"\[([^\]]+)\]")


class Subject(NamedTuple):
    """A grammatical subject: its text, pronoun, object form and possessive."""

    text: str
    pronoun: str
    objective: str
    possessive: str
    person: str


class Row(NamedTuple):
    """One line of the eval set or the training corpus."""

    id: str
    prompt: str
    expected: str
    accept: tuple[str, ...]
    tense: str
    person: str
    verb: str


FIRST = Subject("I", "I", "me", "my", "1sg")
SECOND = Subject("you", "you", "you", "your", "2sg")


def he(text: str = "he") -> Subject:
    """A masculine 3sg subject."""
    return Subject(text, "he", "him" if text == "he" else text, "his", "3sg")


def she(text: str = "she") -> Subject:
    """A feminine 3sg subject."""
    return Subject(text, "she", "her" if text == "she" else text, "her", "3sg")


def subject_for(person: str, thirds: tuple[Subject, ...], turn: int) -> Subject:
    """The subject of that person; 3sg subjects take turns."""
    if person == "3sg":
        return thirds[turn % len(thirds)]
    return FIRST if person == "1sg" else SECOND


def fill(frame: str, subject: Subject, verb: str, complement: str) -> str:
    """The finished prompt, starting with a capital letter."""

    def agree(match: re.Match[str]) -> str:
        words = match.group(1).split("|")
        index = PERSONS.index(subject.person)
        return words[index] if len(words) == 3 else words[index == 2]

    words = {
        "s": subject.text,
        "n": subject.pronoun,
        "o": subject.objective,
        "p": subject.possessive,
        "b": f"{BLANK} ({verb})",
    }
    sentence = _AGREEMENT.sub(agree, frame).format(c=complement.format(**words), **words)
    return sentence[0].upper() + sentence[1:]
