"""Models as teams have them, saved by MLflow's own flavors and really evaluated, in the sandbox
where there is one. Each answers all questions right."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy
import pandas
import pytest

from lynx_pipeline.config import EvaluationSettings
from lynx_pipeline.domain.eval_set import parse_eval_set
from lynx_pipeline.domain.scorers import EXACT, NUMERIC, Scorer
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.evaluation.evidence import EVAL, PREDICTIONS, read_evidence
from lynx_pipeline.evaluation.run import evaluate
from lynx_pipeline.evaluation.storage.memory import SmallEvalSet
from lynx_pipeline.evaluation.storage.parquet import read_predictions
from lynx_pipeline_tests.sandbox.inside.test_worker import REQUIREMENTS, no_warnings, saved
from lynx_pipeline_tests.support.builders import eval_items, jsonl

with no_warnings():
    from mlflow.models import ModelSignature, infer_signature
    from mlflow.types import ColSpec, Schema

TEXTS = [str(item["prompt"]) for item in eval_items(12)]


def sklearn(path: Path, estimator: Any, answers: list[Any]) -> None:
    import mlflow.sklearn
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.pipeline import make_pipeline

    mlflow.sklearn.save_model(
        make_pipeline(CountVectorizer(), estimator).fit(TEXTS, answers),
        path,
        serialization_format="cloudpickle",
        pip_requirements=REQUIREMENTS,
    )


def classifier(path: Path, labels: list[Any]) -> None:
    from sklearn.linear_model import LogisticRegression

    sklearn(path, LogisticRegression(), labels)


def regressor(path: Path, values: list[Any]) -> None:
    from sklearn.tree import DecisionTreeRegressor

    sklearn(path, DecisionTreeRegressor(), values)


def onnx(path: Path, labels: list[Any], zipped: bool) -> None:
    """A graph as skl2onnx writes it for a text classifier: a label, and the probabilities as an
    array or, with ZipMap, as a dictionary for each prompt."""
    import mlflow.onnx
    from onnx import TensorProto, helper

    is_text = isinstance(labels[0], str)
    kind = TensorProto.STRING if is_text else TensorProto.INT64
    classes: Any = {"classlabels_strings" if is_text else "classlabels_ints": labels[:2]}
    zips: Any = {"classlabels_strings" if is_text else "classlabels_int64s": labels[:2]}
    ml = {"domain": "ai.onnx.ml"}
    encoded: Any = {"keys_strings": TEXTS, "values_floats": [float(k % 2) for k in range(12)]}
    weights: Any = {
        "coefficients": [-1.0, 1.0],
        "intercepts": [0.5, -0.5],
        "post_transform": "SOFTMAX",
    }
    scores = "scores" if zipped else "probabilities"
    nodes = [
        helper.make_node("LabelEncoder", ["x"], ["code"], **ml, **encoded, default_float=-1.0),
        helper.make_node("Reshape", ["code", "shape"], ["row"]),
        helper.make_node(
            "LinearClassifier", ["row"], ["label", scores], **ml, **weights, **classes
        ),
    ]
    probabilities = helper.make_tensor_value_info(scores, TensorProto.FLOAT, [None, 2])
    if zipped:
        nodes.append(helper.make_node("ZipMap", ["scores"], ["probabilities"], **ml, **zips))
        number = helper.make_tensor_type_proto(TensorProto.FLOAT, [])
        rows = helper.make_sequence_type_proto(helper.make_map_type_proto(kind, number))
        probabilities = helper.make_value_info("probabilities", rows)
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("x", TensorProto.STRING, [None])],
        [helper.make_tensor_value_info("label", kind, [None]), probabilities],
        [helper.make_tensor("shape", TensorProto.INT64, [2], [-1, 1])],
    )
    versions = [helper.make_opsetid("", 20), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=versions, ir_version=9)
    signature = infer_signature(numpy.array(["a"], dtype=object))
    mlflow.onnx.save_model(model, path, signature=signature, pip_requirements=REQUIREMENTS)


def hugging_face(path: Path, labels: list[Any]) -> None:
    """The output and the signature of ``mlflow.transformers`` for a text-classification pipeline.
    ``examples/hugging_face.py`` evaluates a real one."""
    texts = dict(zip(TEXTS, labels, strict=True))
    body = f"return pandas.DataFrame([{{'label': {texts}[it], 'score': 0.75}} "
    body += "for it in model_input.iloc[:, 0]])"
    outputs = Schema([ColSpec("string", "label"), ColSpec("double", "score")])
    saved(path, body, ModelSignature(Schema([ColSpec("string")]), outputs))


def one_field(path: Path, labels: list[Any]) -> None:
    texts = dict(zip(TEXTS, labels, strict=True))
    saved(path, f"return [{{'generated_text': {texts}[it]}} for it in model_input['prompt']]")


def question_and_context(path: Path, answers: list[Any]) -> None:
    """It needs both: the context says which word of the question is meant."""
    body = "return [question.split()[int(context)] for question, context in "
    body += "zip(model_input['question'], model_input['context'])]"
    saved(path, body, infer_signature(pandas.DataFrame({"question": ["a"], "context": ["1"]})))


@dataclass(frozen=True)
class Case:
    """A model, how to save it, its right answers and the settings that it needs."""

    save: Callable[[Path, list[Any]], None]
    answers: list[Any]
    answer_column: str | None = None
    scorer: Scorer = EXACT
    inputs: bool = False


TWO, NUMBERS = ["no", "yes"] * 6, [0, 1] * 6
CASES = {
    "scikit-learn, text labels": Case(classifier, TWO),
    "scikit-learn, integer labels": Case(classifier, NUMBERS),
    "a regressor": Case(regressor, [k / 4 for k in range(12)], scorer=NUMERIC),
    "ONNX, text labels": Case(lambda p, it: onnx(p, it, zipped=False), TWO, "label"),
    "ONNX, integer labels, ZipMap": Case(lambda p, it: onnx(p, it, zipped=True), NUMBERS, "label"),
    "ONNX, text labels, ZipMap": Case(lambda p, it: onnx(p, it, zipped=True), TWO, "label"),
    "Hugging Face, text classification": Case(hugging_face, TWO, "label"),
    "dictionaries with one field": Case(one_field, TWO),
    "question and context": Case(
        question_and_context, [f"word{k}" if k % 2 else "Say" for k in range(12)], inputs=True
    ),
}


def eval_set(case: Case) -> SmallEvalSet:
    """Items with the case's answers; for ``numeric/1`` numbers in another spelling."""
    items = eval_items(12)
    for number, (item, answer) in enumerate(zip(items, case.answers, strict=True)):
        item["expected"] = f"{answer:.3f}" if case.scorer is NUMERIC else str(answer)
        if case.inputs:
            item["inputs"] = {"question": item.pop("prompt"), "context": str(number % 2)}
    raw = jsonl(items)
    parsed = tuple(parse_eval_set(raw.split(b"\n"), "f", case.scorer))
    return SmallEvalSet(parsed, "md5", "sha256", case.scorer)


@pytest.mark.slow(seconds=60)
@pytest.mark.parametrize("name", CASES)
def test_a_model_is_evaluated_as_it_is(tmp_path: Path, name: str) -> None:
    """Nobody has to wrap it. Evidence and predictions read back."""
    case = CASES[name]
    case.save(tmp_path / "model", case.answers)
    items, output = eval_set(case), tmp_path / "out" / EVAL
    evidence = evaluate(
        tmp_path / "model",
        items,
        output,
        replace(EvaluationSettings(workers=1), answer_column=case.answer_column),
        candidate=None,
        env=Env.DEV,
        warn=lambda _: None,
        progress=lambda *_: None,
    )
    counts = evidence.evaluation.counts
    assert (counts.correct, counts.n, counts.nulls) == (12, 12, 0)
    assert read_evidence(output.parent, items, case.answer_column) == evidence
    found = read_predictions((output.parent / PREDICTIONS).read_bytes(), PREDICTIONS, 12)
    assert [answer for _, answer in found] == [
        it if isinstance(it, str) else json.dumps(it) for it in case.answers
    ]
