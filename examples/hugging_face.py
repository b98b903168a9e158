"""Evaluate a real Hugging Face text-classification pipeline as ``mlflow.transformers`` saves it. It
returns a label and a score.

transformers and PyTorch are large, so the project's lock files don't have them. In an environment
that has the project::

    pip install 'transformers<5' torch
    python -m examples.hugging_face

It downloads no model: this one is tiny, with random weights. The right answers are what the
pipeline answers by itself, so all of them have to be right.
"""

import json
import os
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


def tiny_pipeline(folder: Path, seed: int) -> Any:
    """A BERT with random weights, and a tokenizer for :data:`WORDS`."""
    import torch  # type: ignore[import-not-found]
    import transformers  # type: ignore[import-not-found]

    torch.manual_seed(seed)
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]))
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
    return transformers.pipeline(
        "text-classification",
        model=transformers.BertForSequenceClassification(config).eval(),
        tokenizer=transformers.BertTokenizerFast(str(vocabulary)),
    )


def main() -> None:
    os.environ["HF_HUB_OFFLINE"] = "1"  # MLflow would look for the model's license there
    with tempfile.TemporaryDirectory(prefix="hugging-face-") as name:
        folder = Path(name)
        for seed in range(100):
            pipeline = tiny_pipeline(folder, seed)
            answers = pipeline(TEXTS)
            if len({answer["label"] for answer in answers}) == 2:
                break
        print(f"the pipeline returns {answers[0]}")
        mlflow.transformers.save_model(
            pipeline,
            folder / "model",
            signature=infer_signature("a text", answers[0]),
            pip_requirements=["transformers", "torch"],
        )
        with (folder / "items.jsonl").open("w") as file:
            for number, (text, answer) in enumerate(zip(TEXTS, answers, strict=True)):
                item = {"id": f"i{number}", "prompt": text, "expected": answer["label"]}
                file.write(json.dumps({**item, "buckets": {"all": "x"}}) + "\n")
        for column in ("label", None):
            print(f"answer_column {column}: {evaluated(folder, column)}")


def evaluated(folder: Path, answer_column: str | None) -> str:
    """What an evaluation with this setting says."""
    try:
        counts = evaluate(
            folder / "model",
            read_eval_file(folder / "items.jsonl", EXACT),
            folder / str(answer_column) / EVAL,
            replace(EvaluationSettings(workers=1), answer_column=answer_column),
            candidate=None,
            env=Env.DEV,
            warn=print,
            progress=lambda *_: None,
        ).evaluation.counts
    except BadInput as error:
        return str(error)
    return f"{counts.correct} of {counts.n} right"


if __name__ == "__main__":
    main()
