"""The eval set is a complete grid, its sentences are well formed and its answers are right."""

import re
from collections import Counter

import pytest
from lemminflect import getInflection

from examples.grammar_tutor.corpus import encode
from examples.grammar_tutor.forms import EVAL_VERBS, FORMS, IRREGULAR, PERSONS, REGULAR, TENSES
from examples.grammar_tutor.frames import Row
from examples.grammar_tutor.lessons import lesson_rows
from examples.grammar_tutor.sentences import eval_rows
from lynx_pipeline.domain.eval_set import parse_eval_set

ROWS = list(eval_rows())
# lemminflect lists "am" and "are" without saying which person they belong to.
BE = {
    ("present_simple", "1sg"): {"am"},
    ("present_simple", "2sg"): {"are"},
    ("past_simple", "1sg"): {"was"},
    ("past_simple", "2sg"): {"were"},
    ("past_simple", "3sg"): {"was"},
}


def published(verb: str, tense: str, person: str) -> set[str]:
    """The forms from lemminflect, with "to" or "will" where a learner writes it."""
    if verb == "be" and (tense, person) in BE:
        tag = "VBD" if tense == "past_simple" else "VBP"
        assert BE[tense, person] <= set(getInflection("be", tag))
        return BE[tense, person]
    present = "VBZ" if person == "3sg" else "VB"
    tags = {"present_simple": present, "past_simple": "VBD", "past_participle": "VBN"}
    found = getInflection(verb, tags.get(tense, "VB"))
    lead = {"infinitive": "to ", "simple_future": "will "}.get(tense, "")
    return {lead + form for form in found}


def test_the_grid_is_complete() -> None:
    """1,200 items: 4 per verb, tense and person; 240 per tense, 400 per person, 60 per verb."""
    assert len(ROWS) == 1200
    cells = Counter((row.verb, row.tense, row.person) for row in ROWS)
    assert set(cells) == {(v, t, p) for v in EVAL_VERBS for t in TENSES for p in PERSONS}
    assert set(cells.values()) == {4}
    assert Counter(row.tense for row in ROWS) == dict.fromkeys(TENSES, 240)
    assert Counter(row.person for row in ROWS) == dict.fromkeys(PERSONS, 400)
    assert Counter(row.verb for row in ROWS) == dict.fromkeys(EVAL_VERBS, 60)
    assert (len(REGULAR), len(IRREGULAR)) == (12, 8)


def test_ids_and_prompts_are_unique() -> None:
    """There are no duplicates, and an id names verb, tense and person."""
    assert len({row.id for row in ROWS}) == len({row.prompt.casefold() for row in ROWS}) == 1200
    assert {row.id for row in ROWS} >= {"go-past_simple-3sg-2", "be-infinitive-1sg-4"}


@pytest.mark.parametrize("rows", [ROWS, list(lesson_rows())], ids=["eval", "train"])
def test_a_prompt_has_one_blank_followed_by_the_lemma(rows: list[Row]) -> None:
    """A complete sentence with one blank and its lemma, and no placeholder left over."""
    for row in rows:
        assert row.prompt.count("___") == 1
        assert re.findall(r"\(([^)]*)\)", row.prompt) == [row.verb]
        assert f" ___ ({row.verb}) " in row.prompt
        assert re.fullmatch(r"[A-Z][A-Za-z0-9 ,:'_()]+\.", row.prompt), row.prompt
        assert "  " not in row.prompt


@pytest.mark.parametrize("rows", [ROWS, list(lesson_rows())], ids=["eval", "train"])
def test_expected_forms_agree_with_a_published_source(rows: list[Row]) -> None:
    """Every expected answer is a form that lemminflect lists for that verb and tense."""
    for row in rows:
        assert row.expected in published(row.verb, row.tense, row.person), row.id


def test_gerunds_agree_with_a_published_source() -> None:
    """The -ing forms in the other right answers are checked too."""
    assert {v for v, forms in FORMS.items() if forms.ing not in getInflection(v, "VBG")} == set()


def test_other_right_answers_fit_the_sentence() -> None:
    """Other future forms are accepted, "shall" only with "I", the present continuous only for
    actions planned for a date, and "been" only where the person may have come back."""
    answers = {row.id: set(row.accept) for row in ROWS}
    for row in ROWS:
        assert row.expected not in answers[row.id]
        if row.tense == "simple_future":
            assert f"'ll {row.verb}" in answers[row.id]
            assert (f"shall {row.verb}" in answers[row.id]) == (row.person == "1sg")
            assert any(answer.endswith(f"going to {row.verb}") for answer in row.accept)
    assert "am going" in answers["go-simple_future-1sg-1"]
    assert "is going" not in answers["go-simple_future-3sg-3"]
    assert not any("wanting" in answer for row in ROWS for answer in row.accept)
    been = [row for row in ROWS if "been" in row.accept]
    assert {(row.verb, row.tense) for row in been} == {("go", "past_participle")}
    assert not any("home" in row.prompt for row in been)


def test_a_possessive_agrees_with_its_subject() -> None:
    """No frame pairs a subject with the possessive of a different person."""
    for row in ROWS:
        if found := re.search(r"\b(my|your|his|her) (cousins|chores|room|diary)\b", row.prompt):
            allowed = {"1sg": {"my"}, "2sg": {"your"}, "3sg": {"his", "her"}}[row.person]
            assert found[1] in allowed, row.prompt


def test_the_file_reads_back_as_the_pipeline_reads_it() -> None:
    """The written file parses as an eval set, item for item."""
    items = list(parse_eval_set(encode(ROWS).split(b"\n"), "eval"))
    assert [(item.id, item.prompt, item.answers) for item in items] == [
        (row.id, row.prompt, (row.expected, *row.accept)) for row in ROWS
    ]
    assert items[0].buckets == ("tense.infinitive", "person.1sg", "verb.work")
