"""Items with several inputs in place of a prompt."""

import json
from typing import Any

import pytest

from lynx_pipeline.domain.eval_set import Item, parse_eval_set
from lynx_pipeline.errors import BadInput
from lynx_pipeline_tests.support.builders import JsonObject, eval_items, eval_set, jsonl

INPUTS = {"question": "Who wrote it?", "context": "She wrote it."}


def line(inputs: Any = None, **changes: Any) -> JsonObject:
    """An item with inputs; ``changes`` replace or add keys."""
    made = {**eval_items(1)[0], "inputs": INPUTS if inputs is None else inputs}
    del made["prompt"]
    return {**made, **changes}


def parsed(*lines: JsonObject) -> list[Item]:
    """The items of a file with these lines."""
    return list(parse_eval_set(jsonl(lines).split(b"\n"), "f"))


def test_the_prompt_is_the_text_of_the_inputs() -> None:
    """In the order of the first item, so that no item's order tells anything."""
    turned = dict(reversed(INPUTS.items()))
    first, second = parsed(line(), line(turned, id="j"))
    assert first.prompt == second.prompt
    assert list(json.loads(first.prompt).items()) == list(INPUTS.items())
    assert first.inputs == second.inputs == ("question", "context")
    assert eval_set([line(turned)]).inputs == ("context", "question")
    assert eval_set().inputs == ()


@pytest.mark.parametrize(
    "inputs", [{"q": ""} | {"c": "x"}, {"q": "naïve 日本"}, {"a name": "x"}, {"вопрос": "x"}]
)
def test_inputs_may_be_any_names_and_texts(inputs: JsonObject) -> None:
    """A text may be empty, as long as another one is not."""
    (item,) = parsed(line(inputs))
    assert json.loads(item.prompt) == inputs


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        pytest.param([line(prompt="x")], "'inputs': expected either this or 'prompt'", id="both"),
        pytest.param([line({})], "'inputs': expected an object that is not empty", id="empty"),
        pytest.param([line(["x"])], "'inputs': expected an object", id="a list"),
        pytest.param([line("x")], "'inputs': expected an object", id="a text"),
        pytest.param([line({"q": 1})], "'inputs': expected names with texts", id="a number"),
        pytest.param([line({"q": None, "c": "x"})], "expected names with texts", id="null"),
        pytest.param([line({"q": ["x"]})], "expected names with texts", id="a list in it"),
        pytest.param([line({" ": "x"})], "expected names with texts", id="a blank name"),
        pytest.param([line({"a\n": "x"})], "expected names with texts", id="a line in a name"),
        pytest.param([line({"q": " ", "c": ""})], "a text that is not empty", id="blank texts"),
        pytest.param(
            [line(), line({"question": "x"}, id="j")],
            "line 2: this item has the inputs question; earlier items have the inputs context, qu",
            id="one is missing",
        ),
        pytest.param(
            [line(), line({**INPUTS, "title": "x"}, id="j")],
            "inputs context, question, ti",
            id="more",
        ),
        pytest.param(
            [line(), {**eval_items(1)[0], "id": "j"}],
            "line 2: this item has a prompt; earlier items have the inputs context, question",
            id="then a prompt",
        ),
        pytest.param(
            [eval_items(1)[0], line(id="j")],
            "line 2: this item has the inputs context, question; earlier items have a prompt",
            id="then inputs",
        ),
    ],
)
def test_malformed_inputs_are_refused(lines: list[JsonObject], says: str) -> None:
    """The message names the line, the key and what was expected."""
    with pytest.raises(BadInput, match=says):
        parsed(*lines)


def test_a_name_that_is_there_twice_is_refused() -> None:
    """JSON allows it, and readers differ in which one they take."""
    raw = json.dumps(line({"q": "x"})).replace('{"q": "x"}', '{"q": "x", "q": "y"}').encode()
    with pytest.raises(BadInput, match="line 1: duplicate key 'q'"):
        list(parse_eval_set([raw], "f"))
