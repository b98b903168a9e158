"""Evaluate real Hugging Face pipelines, as ``mlflow.transformers`` saves them: a text
classification, which returns a label and a score, and a question answering, which takes a question
and a context.

transformers and PyTorch are large, so the project's lock files don't have them. In an environment
that has the project::

    pip install 'transformers<5' torch
    python -m examples.hugging_face

It downloads no model: both are tiny, with random weights. The right answers are what the pipelines
answer themselves, so all of them have to be right.
"""

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow.transformers
from mlflow.models import infer_signature

from lynx_pipeline.config import EvaluationSettings
from lynx_pipeline.domain.scorers import EXACT
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.errors import BadInput
from lynx_pipeline.evaluation.evidence import EVAL
from lynx_pipeline.evaluation.inputs import read_eval_file
from lynx_pipeline.evaluation.run import evaluate

WORDS = ["she", "he", "goes", "went", "home", "to", "school", "today", "late", "early"]
TEXTS = [f"{who} {verb} {where}" for who in WORDS[:2] for verb in WORDS[2:4] for where in WORDS[4:]]


def tiny_pipeline(folder: Path, task: str) -> Any:
    """A BERT with random weights, and a tokenizer for :data:`WORDS`."""
    import torch  # type: ignore[import-not-found]
    import transformers  # type: ignore[import-not-found]

    torch.manual_seed(1)
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]))
    tokenizer = transformers.BertTokenizerFast(str(vocabulary))
    config = transformers.BertConfig(
        vocab_size=len(WORDS) + 5,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        initializer_range=1.0,
        id2label={0: "present", 1: "past"},
        label2id={"present": 0, "past": 1},
    )
    kinds = {
        "text-classification": transformers.BertForSequenceClassification,
        "question-answering": transformers.BertForQuestionAnswering,
    }
    return transformers.pipeline(task, model=kinds[task](config).eval(), tokenizer=tokenizer)


def run(folder: Path, task: str, questions: list[Any], answers: list[str], model: Any) -> None:
    """Save the pipeline, evaluate it with and without ``answer_column``, and print what happens."""
    mlflow.transformers.save_model(
        model,
        folder / task,
        signature=infer_signature(questions[0]),
        pip_requirements=["transformers", "torch"],
    )
    items = folder / f"{task}.jsonl"
    with items.open("w") as file:
        for number, (question, answer) in enumerate(zip(questions, answers, strict=True)):
            key = "prompt" if isinstance(question, str) else "inputs"
            item = {"id": f"i{number}", key: question, "expected": answer, "buckets": {"all": "x"}}
            file.write(json.dumps(item) + "\n")
    for column in (None, "label"):
        try:
            found = evaluate(
                folder / task,
                read_eval_file(items, EXACT),
                folder / f"{task}-{column}" / EVAL,
                replace(EvaluationSettings(workers=1), answer_column=column),
                candidate=None,
                env=Env.DEV,
                warn=print,
                progress=lambda *_: None,
            ).evaluation
        except BadInput as error:
            print(f"{task}, answer_column {column}: {str(error)[:300]}")
        else:
            counts = found.counts
            print(f"{task}, answer_column {column}: {counts.correct} of {counts.n} right")


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="hugging-face-") as name:
        folder = Path(name)
        model = tiny_pipeline(folder, "text-classification")
        labels = [each["label"] for each in model(TEXTS)]
        print(f"the pipeline returns {model(TEXTS[0])}")
        run(folder, "text-classification", TEXTS, labels, model)

        model = tiny_pipeline(folder, "question-answering")
        both = [{"question": f"who {text.split()[1]}", "context": text} for text in TEXTS]
        spans = [model(**each)["answer"] for each in both]
        run(folder, "question-answering", both, spans, model)


if __name__ == "__main__":
    main()
