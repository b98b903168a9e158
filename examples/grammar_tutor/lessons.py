"""The training rows: more verbs than the eval set, with other frames and other complements.

Guarantees that no frame and no complement is shared with ``sentences``, and that the verb-tense
pairs in ``LEFT_OUT`` never occur. So a tutor must infer those forms and sometimes makes the
mistakes that learners make. As in real lesson books, the present has the most practice: a past form
has fewer rows. Leaves to others: writing files (``corpus``).
"""

from collections.abc import Iterator

from examples.grammar_tutor.forms import FORMS, PERSONS, TENSES, gold, kind
from examples.grammar_tutor.frames import Row, fill, he, she, subject_for

THIRDS = (
    she(), he(), he("my brother"), she("Maria"), he(), he("the doctor"), she("the manager"),
    she("my cousin"), he("David"), she("our aunt"),
)  # fmt: skip

LEFT_OUT = frozenset({
    ("go", "past_simple"),
    ("see", "past_simple"),
    ("write", "past_participle"),
    ("eat", "past_participle"),
    ("study", "past_simple"),  # regular: other verbs in -y show how
    ("finish", "past_participle"),  # regular too
})  # fmt: skip

# Rows per person, for each verb.
ROWS = {
    "infinitive": 6,
    "present_simple": 10,
    "past_simple": 3,
    "past_participle": 3,
    "simple_future": 6,
}

FRAMES: dict[str, dict[str, tuple[str, ...]]] = {
    "action": {
        "infinitive": (
            "{s} would love {b} {c}.",
            "{s} [hope|hopes] {b} {c} soon.",
            "{s} [need|needs] {b} {c} again.",
            "Yesterday {s} agreed {b} {c}.",
            "{s} [have|has] decided {b} {c}.",
            "{s} [am|are|is] happy {b} {c}.",
            "Our parents want {o} {b} {c}.",
            "It was brave of {o} {b} {c}.",
            "{s} really [want|wants] {b} {c}.",
            "In 2015 {s} learned {b} {c}.",
            "{s} [am|are|is] finally ready {b} {c}.",
            "There is enough time for {o} {b} {c}.",
            "Last month {s} decided {b} {c} once more.",
            "{s} [want|wants] {b} {c} as well.",
            "{s} [have|has] the right {b} {c}.",
            "It is high time for {o} {b} {c}.",
            "Last Friday {s} promised {b} {c}.",
            "It is important for {o} {b} {c} again.",
        ),
        "present_simple": (
            "Every morning {s} {b} {c}.",
            "{s} {b} {c} twice a month.",
            "On Sundays {s} normally {b} {c}.",
            "{s} always {b} {c} in the evening.",
            "Nowadays {s} {b} {c} quite often.",
            "{s} seldom {b} {c} before noon.",
            "Most people know that {s} frequently {b} {c}.",
            "When it is cold, {s} usually {b} {c}.",
            "{s} {b} {c} every single day.",
            "{s} never {b} {c} if {n} [am|are|is] busy.",
            "Even now {s} still {b} {c}.",
            "In winter {s} sometimes {b} {c}.",
            "These days {s} never {b} {c}.",
            "{s} hardly ever {b} {c} at weekends.",
            "As a rule, {s} {b} {c} on Mondays.",
            "Nowadays {s} usually {b} {c} after work.",
            "On weekdays {s} sometimes {b} {c}.",
        ),
        "past_simple": (
            "Yesterday {s} {b} {c}.",
            "Last night {s} {b} {c}.",
            "{s} {b} {c} two days ago.",
            "In 2018 {s} often {b} {c}.",
            "Last winter {s} {b} {c} twice.",
            "A week ago {s} suddenly {b} {c}.",
            "When we lived in Rome, {s} never {b} {c}.",
            "On the day of the match {s} {b} {c} and then slept.",
            "In 1999 {s} never {b} {c}.",
            "Yesterday morning {s} also {b} {c}.",
            "Some days ago {s} finally {b} {c}.",
            "During the last winter {s} {b} {c} only once.",
            "A year ago {s} never {b} {c}.",
            "In 2008 {s} only {b} {c} once.",
        ),
        "past_participle": (
            "{s} [have|has] just {b} {c}.",
            "{s} [have|has] {b} {c} three times so far.",
            "{s} [have|has] never {b} {c}.",
            "When the guests came, {s} had already {b} {c}.",
            "It is the first time that {s} [have|has] {b} {c}.",
            "{s} [have|has] not {b} {c} yet.",
            "We were glad that {s} had {b} {c}.",
            "{s} [have|has] often {b} {c} since last year.",
            "{s} [have|has] already {b} {c} today.",
            "{s} [have|has] never {b} {c} on holiday before.",
            "Until last summer {s} had not {b} {c}.",
        ),
        "simple_future": (
            "Tomorrow {s} {b} {c}.",
            "Next year {s} {b} {c}.",
            "I think {s} {b} {c} soon.",
            "Maybe {s} {b} {c} next week.",
            "When the rain stops, {s} {b} {c}.",
            "One day {s} {b} {c}, you will see.",
            "{s} {b} {c} in the near future.",
            "We believe that {s} {b} {c} before long.",
            "Perhaps {s} {b} {c} some day.",
            "Once the holidays are over, {s} {b} {c}.",
            "Perhaps {s} {b} {c} next Sunday.",
            "I am quite sure that {s} {b} {c} tomorrow.",
            "Wait and see: soon {s} {b} {c}.",
            "As soon as this lesson is over, {s} {b} {c}.",
            "Some day {s} {b} {c} after all.",
        ),
    },
    "state": {
        "infinitive": (
            "It is normal for {o} {b} {c}.",
            "{s} [appear|appears] {b} {c}.",
            "{s} [claim|claims] {b} {c}.",
            "{s} [am|are|is] too proud {b} {c}.",
            "{s} [happen|happens] {b} {c}.",
            "{s} [have|has] the right {b} {c}.",
            "{s} never used {b} {c}.",
            "{s} [begin|begins] {b} {c}.",
        ),
        "present_simple": (
            "{s} clearly {b} {c} now.",
            "At present {s} {b} {c}.",
            "Today {s} {b} {c} more than yesterday.",
            "This week {s} {b} {c} again.",
            "{s} still {b} {c} these days.",
            "It is obvious that {s} {b} {c}.",
            "Like everybody else, {s} {b} {c}.",
            "{s} {b} {c} a lot nowadays.",
            "{s} never {b} {c} in summer.",
            "Right now {s} really {b} {c}.",
            "At the moment {s} still {b} {c}.",
            "Even now {s} {b} {c} very much.",
        ),
        "past_simple": (
            "When we were young, {s} {b} {c}.",
            "Long ago {s} {b} {c}.",
            "At that time {s} really {b} {c}.",
            "Last spring {s} {b} {c}.",
            "Years ago {s} still {b} {c}.",
            "As a baby {s} {b} {c}.",
            "Twenty years ago {s} always {b} {c}.",
            "Back in the old days {s} {b} {c}.",
        ),
        "past_participle": (
            "{s} [have|has] {b} {c} since 2012.",
            "For a long time {s} [have|has] {b} {c}.",
            "{s} [have|has] never really {b} {c}.",
            "Until that summer {s} had always {b} {c}.",
            "All {p} life {s} [have|has] always {b} {c}.",
            "{s} [have|has] {b} {c} for ages.",
        ),
        "simple_future": (
            "Maybe {s} {b} {c} one day.",
            "Soon {s} {b} {c}.",
            "Next winter {s} {b} {c}.",
            "I am certain that {s} {b} {c} later.",
            "When {n} [am|are|is] old, {s} {b} {c}.",
            "I am quite sure that {s} {b} {c} some day.",
            "Perhaps {s} {b} {c} soon.",
            "In two years' time {s} {b} {c} more than today.",
        ),
    },
    "be": {
        "infinitive": (
            "{s} would love {b} {c}.",
            "{s} [hope|hopes] {b} {c} soon.",
            "Our parents want {o} {b} {c}.",
            "Yesterday {s} agreed {b} {c} at ten.",
            "{s} [want|wants] {b} {c} again.",
            "Last Friday {s} promised {b} {c}.",
        ),
        "present_simple": (
            "Every morning {s} {b} {c}.",
            "{s} {b} {c} every day.",
            "On Sundays {s} {b} {c}.",
            "Right now {s} {b} {c}.",
            "Today {s} {b} {c}.",
            "In summer {s} {b} {c} from nine to five.",
            "Nowadays {s} {b} {c} quite often.",
            "It is noon and {s} {b} {c}.",
            "When it is cold, {s} {b} {c}.",
            "These days {s} {b} {c} at weekends.",
            "At present {s} {b} {c}.",
        ),
        "past_simple": (
            "Last night {s} {b} {c}.",
            "Yesterday {s} {b} {c}.",
            "{s} {b} {c} two days ago.",
            "When we lived in Rome, {s} {b} {c} every week.",
            "Yesterday morning {s} {b} {c}.",
            "When we arrived, {s} {b} {c}.",
        ),
        "past_participle": (
            "{s} [have|has] {b} {c} for an hour.",
            "{s} [have|has] never {b} {c}.",
            "It is the first time that {s} [have|has] {b} {c}.",
            "{s} had {b} {c} all morning.",
            "{s} [have|has] already {b} {c} today.",
            "{s} [have|has] often {b} {c} since last year.",
        ),
        "simple_future": (
            "Tomorrow {s} {b} {c}.",
            "I think {s} {b} {c} soon.",
            "Next year {s} {b} {c}.",
            "Maybe {s} {b} {c} tonight.",
            "Perhaps {s} {b} {c} next Sunday.",
            "I am quite sure that {s} {b} {c} tomorrow.",
        ),
    },
}

COMPLEMENTS: dict[str, tuple[str, ...]] = {
    "work": ("in a bank", "from home", "at the harbour"),
    "play": ("tennis", "the violin", "with {p} dog"),
    "walk": ("to the park", "around the lake", "in the mountains"),
    "talk": ("to the coach", "about music", "in class"),
    "listen": ("to jazz records", "to the speech", "to {p} grandmother"),
    "watch": ("a film", "the match", "the birds in the garden"),
    "study": ("biology", "for the exam", "in the reading room"),
    "finish": ("the race", "{p} work", "a painting"),
    "start": ("a quarrel", "a fire in the stove", "the lesson on time"),
    "look": ("at the clock", "for {p} keys", "out of the window"),
    "want": ("more pocket money", "a cat", "a better job"),
    "like": ("olives", "horror stories", "long walks"),
    "be": ("at the office", "in the kitchen", "on the bus", "at the hospital"),
    "have": ("dinner with friends", "a bath", "a barbecue"),
    "do": ("the ironing", "a crossword", "some exercises"),
    "go": ("to the cinema", "on a trip", "to the swimming pool"),
    "come": ("to the office", "by train", "to the concert"),
    "see": ("a shooting star", "the sea", "{p} grandparents"),
    "eat": ("dinner outside", "an apple", "rice with vegetables"),
    "write": ("an essay", "a short story", "to {p} uncle"),
    "bake": ("bread", "an apple pie", "biscuits"),
    "dance": ("in the kitchen", "at the disco", "with a partner"),
    "close": ("the shop early", "the windows", "the curtains"),
    "smile": ("at the baby", "for the camera", "at the guests"),
    "skate": ("on the lake", "with friends", "at the ice rink"),
    "love": ("dancing", "old songs", "the theatre"),
    "try": ("a new recipe", "the soup", "something different"),
    "carry": ("the bags", "a heavy box", "the firewood"),
    "hurry": ("to the bus stop", "through the town", "down the stairs"),
    "stay": ("at a hotel", "in bed", "with an old friend"),
    "stop": ("at the corner", "for a coffee", "at the bridge"),
    "plan": ("a trip", "a surprise", "the menu"),
    "wash": ("the car", "{p} hair", "the curtains"),
    "touch": ("the wet paint", "the stove", "the cat"),
    "miss": ("the bus", "the lesson", "the start of the film"),
    "cook": ("dinner", "for the family", "spaghetti"),
    "help": ("in the kitchen", "the children", "at the shelter"),
    "open": ("the windows", "the shop", "the mail"),
    "paint": ("the fence", "portraits", "with watercolours"),
    "visit": ("the museum", "{p} parents", "the castle"),
    "clean": ("the bathroom", "the windows", "{p} shoes"),
    "call": ("{p} mother", "the doctor's office", "a taxi"),
    "ask": ("a question", "for help", "for the bill"),
    "need": ("more sleep", "a holiday", "some advice"),
    "sing": ("in a choir", "a song", "under the shower"),
    "buy": ("flowers", "a newspaper", "fresh bread"),
}


def lesson_rows() -> Iterator[Row]:
    """All training rows, always in the same order."""
    for v, verb in enumerate(FORMS):
        for t, tense in enumerate(TENSES):
            if (verb, tense) in LEFT_OUT:
                continue
            frames = FRAMES[kind(verb)][tense]
            complements = COMPLEMENTS[verb]
            for p, person in enumerate(PERSONS):
                for i in range(ROWS[tense]):
                    frame = frames[(i + 5 * v + 2 * p) % len(frames)]
                    subject = subject_for(person, THIRDS, 3 * v + 4 * t + i)
                    complement = complements[(i + p) % len(complements)]
                    yield Row(
                        id=f"{verb}-{tense}-{person}-t{i + 1}",
                        prompt=fill(frame, subject, verb, complement),
                        expected=gold(verb, tense, person),
                        accept=(),
                        tense=tense,
                        person=person,
                        verb=verb,
                    )
