"""The sentences of the eval set: 20 verbs x 5 tenses x 3 persons x 4 frames.

Guarantees that the words around the blank determine tense and person, so that every item has one
right answer or lists the others. Most present and past blanks follow an adverb, which rules out the
progressive ("usually ___", not "is usually going"). State verbs and "be" have their own frames.
Leaves to others: writing files (``corpus``) and training rows (``lessons``).
"""

from collections.abc import Iterator

from examples.grammar_tutor.forms import (
    BE_SHORT,
    EVAL_VERBS,
    PERSONS,
    TENSES,
    future_alternatives,
    gold,
    kind,
)
from examples.grammar_tutor.frames import Row, fill, he, she, subject_for

THIRDS = (
    he(), she("my sister"), he("Tom"), she(), she("the teacher"), he("my grandfather"),
    she("Anna"), he("Mr Clark"), she("Peter's aunt"), he("our guide"), she("Mrs Brown"),
)  # fmt: skip

# One tuple of four frames per kind of verb and tense, in the order of TENSES.
FRAMES: dict[str, dict[str, tuple[str, str, str, str]]] = {
    "action": {
        "infinitive": (
            "{s} [want|wants] {b} {c} today.",
            "Last week {s} decided {b} {c}.",
            "{s} [am|are|is] ready {b} {c} now.",
            "It is time for {o} {b} {c}.",
        ),
        "present_simple": (
            "These days {s} usually {b} {c} on Saturdays.",
            "Nowadays {s} hardly ever {b} {c}.",
            "As a rule, {s} never {b} {c} when {n} [am|are|is] tired.",
            "Even now {s} sometimes {b} {c} on weekdays.",
        ),
        "past_simple": (
            "Yesterday {s} finally {b} {c}.",
            "A few days ago {s} also {b} {c}.",
            "In 2019 {s} never {b} {c}.",
            "In the whole of last winter {s} only {b} {c} once.",
        ),
        "past_participle": (
            "{s} [have|has] already {b} {c} this week.",
            "{s} [have|has] never {b} {c} before.",
            "By the time we arrived, {s} had already {b} {c}.",
            "{s} [have|has] not {b} {c} since last summer.",
        ),
        "simple_future": (
            "Perhaps {s} {b} {c} tomorrow.",
            "I am sure that {s} {b} {c} next week.",
            "Just wait: some day {s} {b} {c}.",
            "Once this week is over, {s} {b} {c}.",
        ),
    },
    "state": {
        "infinitive": (
            "{s} [seem|seems] {b} {c}.",
            "{s} used {b} {c}.",
            "{s} [have|has] every right {b} {c}.",
            "{s} [am|are|is] beginning {b} {c}.",
        ),
        "present_simple": (
            "At the moment {s} really {b} {c}.",
            "These days {s} {b} {c} more than ever.",
            "Right now {s} {b} {c} very much.",
            "Even today {s} still {b} {c}.",
        ),
        "past_simple": (
            "As a child {s} always {b} {c}.",
            "Back in 2010 {s} {b} {c}.",
            "Last year {s} still {b} {c}.",
            "Ten years ago {s} {b} {c} very much.",
        ),
        "past_participle": (
            "{s} [have|has] always {b} {c}.",
            "{s} [have|has] {b} {c} for years.",
            "Before that day {s} had never {b} {c}.",
            "{s} [have|has] {b} {c} since childhood.",
        ),
        "simple_future": (
            "Sooner or later {s} {b} {c}.",
            "I am sure that {s} {b} {c} one day.",
            "Perhaps {s} {b} {c} next year.",
            "In ten years' time {s} {b} {c}.",
        ),
    },
    "be": {
        "infinitive": (
            "{s} [want|wants] {b} {c} before noon.",
            "Last week {s} promised {b} {c} by six o'clock.",
            "{s} [am|are|is] likely {b} {c} now.",
            "It is important for {o} {b} {c} on Mondays.",
        ),
        "present_simple": (
            "Nowadays {s} {b} {c} every afternoon.",
            "These days {s} {b} {c} most mornings.",
            "At this moment {s} {b} {c}.",
            "As a rule, {s} {b} {c} when it rains.",
        ),
        "past_simple": (
            "Yesterday evening {s} {b} {c}.",
            "Two hours ago {s} {b} {c}.",
            "When the phone rang, {s} {b} {c}.",
            "{s} {b} {c} all day last Sunday.",
        ),
        "past_participle": (
            "{s} [have|has] {b} {c} since eight o'clock.",
            "{s} [have|has] already {b} {c} twice this week.",
            "Before the storm {s} had {b} {c} for hours.",
            "So far this month {s} [have|has] often {b} {c}.",
        ),
        "simple_future": (
            "Perhaps {s} {b} {c} tomorrow.",
            "I am sure that {s} {b} {c} next Friday.",
            "Do not worry, {s} {b} {c} soon.",
            "Once this lesson is over, {s} {b} {c}.",
        ),
    },
}

# About arranged events, where "am going" or "will be going" is as good as "will go".
PLANNED = frozenset({
    "Perhaps {s} {b} {c} tomorrow.",
    "I am sure that {s} {b} {c} next week.",
    "Once this week is over, {s} {b} {c}.",
})  # fmt: skip

COMPLEMENTS: dict[str, tuple[str, str, str, str]] = {
    "work": ("at the bakery", "in the garden", "on the farm", "with {p} cousins"),
    "play": ("the piano", "chess", "football in the park", "cards"),
    "walk": ("to the shops", "along the river", "in the forest", "to the station"),
    "talk": ("to the neighbours", "about football", "to strangers", "on the phone"),
    "listen": ("to the radio", "to classical music", "to the birds", "to audiobooks"),
    "watch": ("the news", "old films", "tennis on television", "the sunset"),
    "study": ("history", "at the library", "French", "in {p} room"),
    "finish": ("the crossword", "{p} chores early", "the housework", "a long report"),
    "start": ("a big puzzle", "the washing machine", "the day with a song", "a large painting"),
    "look": ("at the stars", "at old photos", "at old maps", "at the shop windows"),
    "want": ("a new bike", "a dog", "a bigger room", "a red guitar"),
    "like": ("spicy food", "cold weather", "mushroom soup", "jazz"),
    "be": ("at the library", "in the workshop", "at home", "at the gym"),
    "have": ("lunch in town", "a singing lesson", "breakfast in bed", "a picnic in the park"),
    "do": ("the dishes", "the shopping", "yoga", "the laundry"),
    "go": ("to the market", "home by bus", "to the beach", "to the theatre"),
    "come": ("to the club", "home for lunch", "to choir practice", "to class by bike"),
    "see": ("the dentist", "the sunrise", "{p} cousins", "a horror film"),
    "eat": ("breakfast in the kitchen", "fish", "fresh fruit", "a cheese sandwich"),
    "write": ("a letter", "a poem", "in {p} diary", "to the newspaper"),
}


def _accept(verb: str, tense: str, person: str, frame: str, complement: str) -> list[str]:
    if tense == "simple_future":
        planned = frame in PLANNED and kind(verb) == "action"
        return future_alternatives(verb, person, planned=planned)
    if verb == "be" and tense == "present_simple":
        return [BE_SHORT[person]]
    if verb == "go" and tense == "past_participle" and complement.startswith("to "):
        return ["been"]  # there and back again
    return []


def eval_rows() -> Iterator[Row]:
    """All 1,200 items, always in the same order."""
    for v, verb in enumerate(EVAL_VERBS):
        for t, tense in enumerate(TENSES):
            for p, person in enumerate(PERSONS):
                for i, frame in enumerate(FRAMES[kind(verb)][tense]):
                    subject = subject_for(person, THIRDS, 7 * v + 5 * t + i)
                    complement = COMPLEMENTS[verb][(i + p + t) % 4]
                    yield Row(
                        id=f"{verb}-{tense}-{person}-{i + 1}",
                        prompt=fill(frame, subject, verb, complement),
                        expected=gold(verb, tense, person),
                        accept=tuple(_accept(verb, tense, person, frame, complement)),
                        tense=tense,
                        person=person,
                        verb=verb,
                    )
