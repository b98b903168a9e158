"""Models as MLflow saves them, each loaded and run by the real worker in its own process."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy
import pandas
import pytest

from lynx_pipeline.config import Limits
from lynx_pipeline.errors import BadInput
from lynx_pipeline.sandbox.failure import CandidateFailed
from lynx_pipeline.sandbox.inside.worker import used_inputs
from lynx_pipeline_tests.support.worker_scripts import ask


@contextmanager
def no_warnings() -> Iterator[None]:
    """Silence MLflow's warnings about type hints, which ignore all filters."""
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("ignore")
        yield


with no_warnings():
    import mlflow.pyfunc as pyfunc
    from mlflow.models import ModelSignature, infer_signature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

PROMPTS = ["Say yes", "Say no", "Don't  say ", "naïve", "x"]
LIMITS = Limits(batch_size=2)
REQUIREMENTS = ["mlflow"]  # otherwise MLflow infers them, in a process that takes seconds


def upper(prompts: list[str]) -> list[str]:
    """The answers of most models in these tests."""
    return [prompt.upper() for prompt in prompts]


SOURCE = """
import mlflow.models, mlflow.pyfunc, numpy, pandas

class Model(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input{hint}, params=None):
        {body}

mlflow.models.set_model(Model())
"""


def saved(path: Path, model: Any, signature: Any = None) -> Path:
    """Save a pyfunc. ``model`` is an object to pickle, the source of a model, or one line: the body
    of ``predict``."""
    if isinstance(model, str):
        source = path.with_suffix(".py")
        source.write_text(model if "\n" in model else SOURCE.format(hint="", body=model))
        model = source
    with no_warnings():
        pyfunc.save_model(
            path, python_model=model, signature=signature, pip_requirements=REQUIREMENTS
        )
    return path


def type_hint_in_a_file(path: Path) -> Path:
    body = "assert type(model_input) is list; return [text.upper() for text in model_input]"
    return saved(path, SOURCE.format(hint=": list[str]", body=body))


def type_hint_of_a_pickled_function(path: Path) -> Path:
    @pyfunc.utils.pyfunc  # type: ignore[untyped-decorator]
    def predict(model_input: list[str]) -> list[str]:
        assert type(model_input) is list
        return [text.upper() for text in model_input]

    return saved(path, predict)


def no_signature(path: Path) -> Path:
    with no_warnings():

        class Model(pyfunc.PythonModel):  # type: ignore[misc]
            def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
                return model_input["prompt"].str.upper()

    return saved(path, Model())


def one_column_of_several(path: Path) -> Path:
    body = "assert (list(model_input.columns), params) == (['question'], {'shout': True}); "
    body += "return pandas.DataFrame({'answer': model_input['question'].str.upper()})"
    inputs = [ColSpec("string", "question"), ColSpec("double", "heat", required=False)]
    params = ParamSchema([ParamSpec("shout", "boolean", True)])
    return saved(path, body, ModelSignature(Schema(inputs), params=params))


def series_signature(path: Path) -> Path:
    body = "return [numpy.str_(text.upper()) for text in model_input['text']]"
    return saved(path, body, infer_signature(pandas.Series(["a"], name="text")))


def array_signature(path: Path) -> Path:
    body = "assert model_input.shape[1:] == (1,); return numpy.char.upper(model_input)"
    return saved(path, body, infer_signature(numpy.array([["a"], ["bc"]])))


def onnx(path: Path) -> Path:
    import mlflow.onnx
    from onnx import TensorProto, helper

    def info(name: str) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.STRING, [None])

    texts: Any = [b"!"]
    end = helper.make_tensor("end", TensorProto.STRING, [1], texts)
    node = helper.make_node("StringConcat", ["x", "end"], ["y"])
    graph = helper.make_graph([node], "shout", [info("x")], [info("y")], [end])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    signature = infer_signature(numpy.array(["a"], dtype=object))
    mlflow.onnx.save_model(model, path, signature=signature, pip_requirements=REQUIREMENTS)
    return path


STYLES: dict[str, Callable[[Path], Path]] = {
    "list[str], in a file": type_hint_in_a_file,
    "list[str], a pickled function": type_hint_of_a_pickled_function,
    "a data frame, no signature": no_signature,
    "a named column, an optional one, a parameter": one_column_of_several,
    "a Series": series_signature,
    "a numpy array": array_signature,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", STYLES)
def test_a_model_gets_the_input_type_that_it_expects(tmp_path: Path, name: str) -> None:
    """The answers are the same, whatever types the model takes and returns."""
    assert ask(STYLES[name](tmp_path / "model"), LIMITS, PROMPTS) == upper(PROMPTS)


@pytest.mark.slow
def test_an_onnx_model_takes_and_returns_a_text_tensor(tmp_path: Path) -> None:
    """MLflow returns a mapping with its only output."""
    answers = ask(onnx(tmp_path / "model"), LIMITS, PROMPTS)
    assert answers == [f"{prompt}!" for prompt in PROMPTS]


@pytest.mark.slow
@pytest.mark.parametrize("fitted_on", ["a list", "Series", "frame"])
def test_a_sklearn_text_classifier_gets_what_it_was_fitted_on(
    tmp_path: Path, fitted_on: str
) -> None:
    """A classifier fitted on named columns gets a data frame. Any other gets one-dimensional
    texts, even if its signature would make MLflow pass a data frame, whose column names it
    would classify."""
    import mlflow.sklearn
    from sklearn.compose import make_column_transformer
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    sentences = ["he goes", "she goes", "it goes", "he went", "she went", "it went"]
    tenses = ["present"] * 3 + ["past"] * 3
    texts: Any = sentences
    vectors: Any = CountVectorizer()
    if fitted_on == "Series":
        texts = pandas.Series(sentences, name="text")
    if fitted_on == "frame":
        texts = pandas.DataFrame({"text": sentences})
        vectors = make_column_transformer((CountVectorizer(), "text"))
    model = make_pipeline(vectors, LogisticRegression()).fit(texts, tenses)
    mlflow.sklearn.save_model(
        model,
        tmp_path / "model",
        signature=None if fitted_on == "a list" else infer_signature(texts),
        serialization_format="cloudpickle",
        pip_requirements=REQUIREMENTS,
    )
    prompts = ["who went", "who goes", "went", "goes", "he went"]
    expected = ["past", "present", "past", "present", "past"]
    assert ask(tmp_path / "model", LIMITS, prompts) == expected


CHAT = """
import mlflow
from mlflow.types.responses import ResponsesAgentResponse

class Model(mlflow.pyfunc.ResponsesAgent):
    def predict(self, request):
        item = self.create_text_output_item("a", "1")
        return ResponsesAgentResponse(output=[item])

mlflow.models.set_model(Model())
"""

REFUSED: dict[str, tuple[str, Any, str]] = {
    "numbers": ("return []", infer_signature(pandas.DataFrame({"x": [1.5]})), "needs 'x': double"),
    "messages": (CHAT, None, "agent/v1/responses takes messages"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", REFUSED)
def test_a_model_that_takes_no_text_is_refused_before_it_is_loaded(
    tmp_path: Path, name: str
) -> None:
    """The model's metadata is enough to decide."""
    model, signature, message = REFUSED[name]
    path = saved(tmp_path / "model", model, signature)
    (path / "model.py").write_text("raise RuntimeError('it was loaded')")
    with pytest.raises(BadInput, match=f"loading failed with ValueError: .*{message}"):
        ask(path, LIMITS, PROMPTS)


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        pytest.param(infer_signature(numpy.array([1.5])), "Tensor", id="an array of numbers"),
        pytest.param(infer_signature(numpy.array([[["a"]]])), "Tensor", id="three dimensions"),
        pytest.param(
            infer_signature(numpy.array([["a", "b"]])), "Tensor", id="two columns of text"
        ),
        pytest.param(infer_signature([{"x": ["a", "b"]}]), "Array", id="lists of texts"),
        pytest.param(infer_signature([{"x": {"y": "a"}}]), "y", id="objects"),
        pytest.param(infer_signature(numpy.array(["a"], "S1")), "Tensor", id="bytes"),
        pytest.param(infer_signature({"a": "x", "b": "y"}), "2 inputs", id="two texts"),
    ],
)
def test_a_signature_must_take_one_text(schema: Any, message: str) -> None:
    """Text is not converted to other types."""
    with pytest.raises(ValueError, match=f"the model needs .*{message}.* given"):
        used_inputs(schema.inputs, ())


@pytest.mark.slow
def test_a_failing_model_is_not_retried_with_a_different_input_type(tmp_path: Path) -> None:
    """The first attempt may have had side effects."""
    body = "self.n = getattr(self, 'n', 0) + 1; raise TypeError(f'call {self.n}')"
    with pytest.raises(BadInput, match="items 1 to 2 failed with TypeError: call 1"):
        ask(saved(tmp_path / "model", body), LIMITS, PROMPTS)


@pytest.mark.slow
def test_what_a_failing_model_printed_names_the_packages_that_are_not_its_own(
    tmp_path: Path,
) -> None:
    """It is MLflow's warning, and may explain the failure."""
    path = saved(tmp_path / "model", "raise TypeError('no')")
    (path / "requirements.txt").write_text("mlflow\nnumpy==1.0\n")
    with pytest.raises(CandidateFailed, match="failed with TypeError: no") as caught:
        ask(path, LIMITS, PROMPTS)
    assert f"numpy (current: {numpy.__version__}, required: numpy==1.0)" in caught.value.printed


@pytest.mark.slow
def test_garbage_is_collected_while_a_model_runs(tmp_path: Path) -> None:
    """Only not while MLflow is imported."""
    body = "import gc; return [str(gc.isenabled()) for _ in range(len(model_input))]"
    assert ask(saved(tmp_path / "model", body), LIMITS, PROMPTS) == ["True"] * len(PROMPTS)
