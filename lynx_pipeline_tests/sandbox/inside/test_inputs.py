"""Models that take several inputs, each loaded and run by the real worker in its own process."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pandas
import pytest

from lynx_pipeline.config import Limits
from lynx_pipeline.errors import BadInput
from lynx_pipeline.sandbox.engine import Form
from lynx_pipeline.sandbox.inside.worker import used_inputs
from lynx_pipeline_tests.sandbox.inside.test_worker import (
    LIMITS,
    REQUIREMENTS,
    SOURCE,
    no_warnings,
    saved,
)
from lynx_pipeline_tests.support.worker_scripts import ask

with no_warnings():
    from mlflow.models import ModelSignature, infer_signature
    from mlflow.types import ColSpec, Schema

FORM = Form(inputs=("question", "context"))
ITEMS = [{"question": f"q{k}", "context": text} for k, text in enumerate(["a", "", "naïve", "'"])]
PROMPTS = [json.dumps(item, ensure_ascii=False) for item in ITEMS]
ANSWERS = [f"{item['question']}/{item['context']}" for item in ITEMS]

BOTH = "return (model_input['question'] + '/' + model_input['context']).tolist()"
TEXTS = infer_signature(pandas.DataFrame(ITEMS))


def with_signature(path: Path) -> Path:
    return saved(path, f"assert list(model_input) == ['question', 'context']; {BOTH}", TEXTS)


def with_optional_input(path: Path) -> Path:
    inputs = [ColSpec("string", name) for name in ("context", "question")]
    inputs.append(ColSpec("double", "heat", required=False))
    body = f"assert list(model_input) == ['context', 'question']; {BOTH}"
    return saved(path, body, ModelSignature(Schema(inputs)))


def one_input_of_the_two(path: Path) -> Path:
    body = "assert list(model_input) == ['context']; "
    body += "return [f'q{k}/{it}' for k, it in zip([0, 1, 2, 3], model_input['context'])]"
    return saved(path, body, infer_signature(pandas.DataFrame({"context": ["a"]})))


def without_signature(path: Path) -> Path:
    return saved(path, BOTH)


ROWS = """
import mlflow.models, mlflow.pyfunc, pydantic

class Question(pydantic.BaseModel):
    question: str
    context: str
    hint: str | None = None

class Model(mlflow.pyfunc.PythonModel):
    def predict(self, model_input: list[{hint}], params=None):
        return [{answer} for it in model_input]

mlflow.models.set_model(Model())
"""


def dictionaries(path: Path) -> Path:
    answer = "it['question'] + '/' + it['context']"
    return saved(path, ROWS.format(hint="dict[str, str]", answer=answer))


def objects(path: Path) -> Path:
    answer = "it.question + '/' + it.context"
    return saved(path, ROWS.format(hint="Question", answer=answer))


def onnx(path: Path) -> Path:
    import mlflow.onnx
    from onnx import TensorProto, helper

    def info(name: str) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.STRING, [None])

    texts: Any = [b"/"]
    slash = helper.make_tensor("slash", TensorProto.STRING, [1], texts)
    nodes = [
        helper.make_node("StringConcat", ["question", "slash"], ["start"]),
        helper.make_node("StringConcat", ["start", "context"], ["y"]),
    ]
    inputs = [info("question"), info("context")]
    graph = helper.make_graph(nodes, "both", inputs, [info("y")], [slash])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    arrays = {name: numpy.array(["a"], dtype=object) for name in FORM.inputs}
    mlflow.onnx.save_model(
        model, path, signature=infer_signature(arrays), pip_requirements=REQUIREMENTS
    )
    return path


MODELS: dict[str, Callable[[Path], Path]] = {
    "a signature": with_signature,
    "a signature with an optional input": with_optional_input,
    "a signature with one of them": one_input_of_the_two,
    "no signature": without_signature,
    "a type hint, dictionaries": dictionaries,
    "a type hint, pydantic": objects,
    "ONNX, a signature of tensors": onnx,
}


@pytest.mark.slow(seconds=40)
@pytest.mark.parametrize("name", MODELS)
def test_a_model_gets_the_inputs_that_it_needs(tmp_path: Path, name: str) -> None:
    """The answers are the same, whatever form the model takes them in."""
    found = ask(MODELS[name](tmp_path / "model"), Limits(), PROMPTS, form=FORM)
    assert found == ANSWERS


@pytest.mark.slow
def test_a_sklearn_model_gets_the_columns_that_it_was_fitted_on(tmp_path: Path) -> None:
    """It has no signature, and was fitted on the columns in another order."""
    import mlflow.sklearn
    from sklearn.compose import make_column_transformer
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    rows = [("he goes", "x"), ("he went", "x"), ("x", "he goes"), ("x", "he went")] * 2
    frame = pandas.DataFrame(rows, columns=["context", "question"])
    labels = [0, 1, 0, 1] * 2
    vectors = make_column_transformer(
        (CountVectorizer(), "question"), (CountVectorizer(), "context")
    )
    model = make_pipeline(vectors, LogisticRegression()).fit(frame, labels)
    mlflow.sklearn.save_model(
        model,
        tmp_path / "model",
        serialization_format="cloudpickle",
        pip_requirements=REQUIREMENTS,
    )
    items = [{"question": q, "context": c} for c, q in rows]
    found = ask(tmp_path / "model", LIMITS, [json.dumps(it) for it in items], form=FORM)
    assert found == [str(label) for label in labels]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fitted_on", "message"),
    [
        (
            ["a"],
            "the model takes one text; the eval set's items have the inputs 'question', 'context'",
        ),
        (
            pandas.DataFrame({"text": ["a"]}),
            "the model needs the inputs 'text'; the eval set's items have the inputs 'question', "
            "'context'",
        ),
    ],
)
def test_a_sklearn_model_that_takes_something_else_is_refused(
    tmp_path: Path, fitted_on: Any, message: str
) -> None:
    """The error names both lists."""
    import mlflow.sklearn
    from sklearn.compose import make_column_transformer
    from sklearn.dummy import DummyClassifier
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.pipeline import make_pipeline

    is_list = isinstance(fitted_on, list)
    vectors = CountVectorizer(token_pattern=".")
    if not is_list:
        vectors = make_column_transformer((vectors, "text"))
    model = make_pipeline(vectors, DummyClassifier()).fit(fitted_on, ["x"])
    mlflow.sklearn.save_model(
        model,
        tmp_path / "model",
        serialization_format="cloudpickle",
        pip_requirements=REQUIREMENTS,
    )
    with pytest.raises(BadInput, match=message):
        ask(tmp_path / "model", LIMITS, PROMPTS, form=FORM)


@pytest.mark.slow
def test_other_inputs_are_refused_before_the_model_is_loaded(tmp_path: Path) -> None:
    """Its signature is enough to decide. The error names both lists."""
    path = saved(tmp_path / "model", SOURCE.format(hint="", body=BOTH), TEXTS)
    (path / "model.py").write_text("raise RuntimeError('it was loaded')")
    expected = (
        "the model's signature needs the inputs 'question', 'context'; the eval set's items have "
        "the inputs 'q'"
    )
    with pytest.raises(BadInput, match=f"loading failed with ValueError: {expected}"):
        ask(path, LIMITS, ['{"q": "x"}'], form=Form(inputs=("q",)))
    with pytest.raises(BadInput, match=r"2 inputs .* give the eval set's items 'inputs' with the"):
        ask(path, LIMITS, ["x"])


with no_warnings():
    OBJECTS = infer_signature([{"x": {"question": "a", "context": "b"}}])


@pytest.mark.parametrize(
    ("schema", "inputs", "message"),
    [
        pytest.param(
            TEXTS, ("question",), "'question', 'context'; .* inputs 'question'$", id="a missing one"
        ),
        pytest.param(
            TEXTS, ("Question", "context"), "items have the inputs 'Question'", id="another case"
        ),
        pytest.param(
            infer_signature(pandas.DataFrame({"q": ["a"], "n": [1.5]})),
            ("q", "n"),
            "needs 'n': double",
            id="a number",
        ),
        pytest.param(infer_signature(["a"]), ("q",), "names no inputs; .* 'q'", id="a text"),
        pytest.param(infer_signature(numpy.array(["a"])), ("q",), "names no inputs", id="an array"),
        pytest.param(OBJECTS, ("x",), "needs 'x'", id="an object"),
    ],
)
def test_a_signature_must_take_the_inputs_as_texts(
    schema: Any, inputs: tuple[str, ...], message: str
) -> None:
    """Nothing is left out or converted."""
    with pytest.raises(ValueError, match=f"the model needs .*{message}|{message}"):
        used_inputs(schema.inputs, inputs)
