"""The generated rows, and the three shipped tutors trained once for all tests."""

from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

from examples.grammar_tutor.configs import CONFIGS
from examples.grammar_tutor.corpus import write_corpus
from examples.grammar_tutor.grammar_tutor import load
from examples.grammar_tutor.train import train_tutor
from lynx_pipeline.domain.eval_set import parse_eval_set
from lynx_pipeline.domain.scorers import normalise


class Trained(NamedTuple):
    """A trained tutor's folder, its answers by item id, and its right answers by bucket."""

    folder: Path
    answers: dict[str, str]
    correct: Counter[str]


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Paths of a freshly written eval set and training corpus."""
    return write_corpus(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def tutors(
    corpus: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Trained]:
    """The shipped tutors by name."""
    eval_file, train_file = corpus
    items = list(parse_eval_set(eval_file.read_bytes().split(b"\n"), "eval"))
    trained = {}
    for name, config in CONFIGS.items():
        folder = train_tutor(train_file, config, tmp_path_factory.mktemp(name))
        predicted = load(folder).predict([item.prompt for item in items])
        correct: Counter[str] = Counter()
        for item, answer in zip(items, predicted, strict=True):
            if normalise(answer) in {normalise(right) for right in item.answers}:
                correct.update(("all", *item.buckets))
        answers = {item.id: answer for item, answer in zip(items, predicted, strict=True)}
        trained[name] = Trained(folder, answers, correct)
    return trained
