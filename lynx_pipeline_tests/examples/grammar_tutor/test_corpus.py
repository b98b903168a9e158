"""The files are reproducible, and no eval question leaks into the training corpus."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from examples.grammar_tutor import lessons, sentences
from examples.grammar_tutor.configs import REFERENCE
from examples.grammar_tutor.corpus import EVAL_FILE, TRAIN_FILE
from examples.grammar_tutor.lessons import LEFT_OUT, lesson_rows
from examples.grammar_tutor.sentences import eval_rows
from examples.grammar_tutor.train import train_tutor
from lynx_pipeline.domain.scorers import normalise
from lynx_pipeline_tests.support import REPO

DATA = REPO / "data"


@pytest.mark.parametrize(("index", "name"), enumerate((EVAL_FILE, TRAIN_FILE)))
def test_the_generator_writes_the_versioned_files(
    corpus: tuple[Path, Path], index: int, name: Path
) -> None:
    """The bytes equal those in the data folder, or match DVC's hash where they are not pulled."""
    written = corpus[index].read_bytes()
    kept, pointer = DATA / name, DATA / f"{name}.dvc"
    assert kept.exists() or pointer.exists()
    if kept.exists():
        assert kept.read_bytes() == written
    if pointer.exists():
        md5 = hashlib.md5(written, usedforsecurity=False).hexdigest()
        assert md5 in pointer.read_text("utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("seed", ["0", "4711"])
def test_hash_order_changes_nothing(corpus: tuple[Path, Path], tmp_path: Path, seed: str) -> None:
    """A process with a different hash seed writes the same files and the same checkpoint."""
    script = """
import sys
from pathlib import Path
from examples.grammar_tutor.configs import REFERENCE
from examples.grammar_tutor.corpus import write_corpus
from examples.grammar_tutor.train import train_tutor
out = Path(sys.argv[1])
train_tutor(write_corpus(out)[1], REFERENCE, out)
"""
    environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(DATA.parent)}
    subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], check=True, env=environment, timeout=60
    )
    for path, name in zip(corpus, (EVAL_FILE, TRAIN_FILE), strict=True):
        assert (tmp_path / name).read_bytes() == path.read_bytes()
    own = train_tutor(corpus[1], REFERENCE, tmp_path / "own")
    assert (own / "tutor.json").read_bytes() == (tmp_path / "tutor.json").read_bytes()


def test_no_eval_sentence_leaks_into_the_corpus() -> None:
    """No prompt is shared, ignoring case, spaces and the full stop."""
    evaluated = {normalise(row.prompt) for row in eval_rows()}
    taught = {normalise(row.prompt) for row in lesson_rows()}
    assert evaluated.isdisjoint(taught)


def test_frames_and_complements_are_not_shared() -> None:
    """Eval set and corpus have no sentence frame and no complement in common."""

    def frames(tables: dict[str, dict[str, tuple[str, ...]]]) -> set[str]:
        return {normalise(f) for kinds in tables.values() for fs in kinds.values() for f in fs}

    evaluated = frames({kind: dict(tenses) for kind, tenses in sentences.FRAMES.items()})
    assert len(evaluated) >= 4 * 5
    assert evaluated.isdisjoint(frames(lessons.FRAMES))
    complements = {normalise(c) for phrases in sentences.COMPLEMENTS.values() for c in phrases}
    assert complements.isdisjoint(
        normalise(c) for phrases in lessons.COMPLEMENTS.values() for c in phrases
    )


def test_only_the_left_out_pairs_are_missing_from_the_corpus() -> None:
    """The corpus never contains the forms that the tutors must infer."""
    taught = {(row.verb, row.tense) for row in lesson_rows()}
    missing = {(row.verb, row.tense) for row in eval_rows()} - taught
    assert missing == LEFT_OUT
    shown = {row.expected for row in lesson_rows()}
    assert shown.isdisjoint({"went", "saw", "written", "eaten", "goed", "seed", "writed", "eated"})


def test_the_corpus_is_a_few_thousand_distinct_rows() -> None:
    """No row occurs twice."""
    rows = list(lesson_rows())
    assert 2000 < len(rows) == len({row.prompt for row in rows}) == len({row.id for row in rows})
