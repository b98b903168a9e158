"""Which form of a verb is right for a tense and a person.

Guarantees one gold form per verb, tense and person, and lists the other forms that a teacher would
accept in a sentence about the future. Leaves to others: sentences (``sentences``, ``lessons``) and
learning. ``learner`` never imports this module: it learns from the corpus only.
"""

from typing import NamedTuple

TENSES = ("infinitive", "present_simple", "past_simple", "past_participle", "simple_future")
PERSONS = ("1sg", "2sg", "3sg")

REGULAR = (
    "work", "play", "walk", "talk", "listen", "watch",
    "study", "finish", "start", "look", "want", "like",
)  # fmt: skip
IRREGULAR = ("be", "have", "do", "go", "come", "see", "eat", "write")
EVAL_VERBS = REGULAR + IRREGULAR
STATIVE = frozenset({"want", "like", "need", "love"})

BE_PRESENT = {"1sg": "am", "2sg": "are", "3sg": "is"}
BE_PAST = {"1sg": "was", "2sg": "were", "3sg": "was"}
BE_SHORT = {"1sg": "'m", "2sg": "'re", "3sg": "'s"}


class Forms(NamedTuple):
    """The written forms of one verb; ``third`` is the 3sg present, ``ing`` the gerund."""

    third: str
    past: str
    participle: str
    ing: str


def _table(text: str) -> dict[str, Forms]:
    rows = (line.split() for line in text.strip().splitlines())
    return {lemma: Forms(*forms) for lemma, *forms in rows}


FORMS = _table("""
work    works    worked    worked    working
play    plays    played    played    playing
walk    walks    walked    walked    walking
talk    talks    talked    talked    talking
listen  listens  listened  listened  listening
watch   watches  watched   watched   watching
study   studies  studied   studied   studying
finish  finishes finished  finished  finishing
start   starts   started   started   starting
look    looks    looked    looked    looking
want    wants    wanted    wanted    wanting
like    likes    liked     liked     liking
be      is       was       been      being
have    has      had       had       having
do      does     did       done      doing
go      goes     went      gone      going
come    comes    came      come      coming
see     sees     saw       seen      seeing
eat     eats     ate       eaten     eating
write   writes   wrote     written   writing
bake    bakes    baked     baked     baking
dance   dances   danced    danced    dancing
close   closes   closed    closed    closing
smile   smiles   smiled    smiled    smiling
skate   skates   skated    skated    skating
love    loves    loved     loved     loving
try     tries    tried     tried     trying
carry   carries  carried   carried   carrying
hurry   hurries  hurried   hurried   hurrying
stay    stays    stayed    stayed    staying
stop    stops    stopped   stopped   stopping
plan    plans    planned   planned   planning
wash    washes   washed    washed    washing
touch   touches  touched   touched   touching
miss    misses   missed    missed    missing
cook    cooks    cooked    cooked    cooking
help    helps    helped    helped    helping
open    opens    opened    opened    opening
paint   paints   painted   painted   painting
visit   visits   visited   visited   visiting
clean   cleans   cleaned   cleaned   cleaning
call    calls    called    called    calling
ask     asks     asked     asked     asking
need    needs    needed    needed    needing
sing    sings    sang      sung      singing
buy     buys     bought    bought    buying
""")


def kind(verb: str) -> str:
    """The kind of sentence that suits the verb: be, state or action."""
    if verb == "be":
        return "be"
    return "state" if verb in STATIVE else "action"


def gold(verb: str, tense: str, person: str) -> str:
    """The one expected answer, e.g. ``gold("go", "past_simple", "3sg") == "went"``."""
    forms = FORMS[verb]
    match tense:
        case "infinitive":
            return f"to {verb}"
        case "simple_future":
            return f"will {verb}"
        case "past_participle":
            return forms.participle
        case "past_simple":
            return BE_PAST[person] if verb == "be" else forms.past
        case "present_simple":
            if verb == "be":
                return BE_PRESENT[person]
            return forms.third if person == "3sg" else verb
    raise ValueError(f"unknown tense {tense!r}, expected one of {TENSES}")


def future_alternatives(verb: str, person: str, *, planned: bool) -> list[str]:
    """Other right answers about the future; ``planned`` adds those for an arranged event."""
    full, short, ing = BE_PRESENT[person], BE_SHORT[person], FORMS[verb].ing
    answers = [f"'ll {verb}"]
    if person == "1sg":
        answers.append(f"shall {verb}")
    answers += [f"{full} going to {verb}", f"{short} going to {verb}"]
    if planned:
        answers += [f"{full} {ing}", f"{short} {ing}", f"will be {ing}", f"'ll be {ing}"]
    return answers
