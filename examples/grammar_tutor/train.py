"""Trains a tutor from the corpus into a folder, and logs that folder to MLflow.

Guarantees that training twice from the same corpus, commit and config writes the same bytes (no
times, no absolute paths), and that logging one checkpoint twice stores the same model except for
the ids and times in ``MLmodel``. Leaves to others: what is learned (``learner``), judging the
result.
"""

import argparse
import hashlib
import json
import platform
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from examples.grammar_tutor import grammar_tutor
from examples.grammar_tutor.configs import CONFIGS, TrainConfig
from examples.grammar_tutor.corpus import TRAIN_FILE
from examples.grammar_tutor.learner import Lesson, learn
from lynx_pipeline.adapters import git, mlflow_tracking
from lynx_pipeline.adapters.dvc_data import read_versioned
from lynx_pipeline.config import Settings, load_settings
from lynx_pipeline.domain.bundle import MANIFEST
from lynx_pipeline.domain.eval_set import parse_eval_set
from lynx_pipeline.errors import BadInput, SystemFailed


def train_tutor(corpus: Path, config: TrainConfig, out: Path) -> Path:
    """Write ``tutor.json`` and ``train_manifest.json`` into the folder ``out`` and return it.

    Raises:
        BadInput: the corpus has no rows labelled with tense and person, or the config drops
            all of them.
    """
    try:
        raw = corpus.read_bytes()
    except OSError as error:
        raise BadInput(f"{corpus}: can't read the training corpus: {error.strerror}.") from None
    lessons = read_lessons(raw, str(corpus))
    try:
        checkpoint, rows_used = learn(lessons, config)
    except ValueError as error:
        raise BadInput(f"{corpus}: {error}.") from None
    git_sha, path = _origin(corpus)
    manifest = {
        "name": config.name,
        "seed": config.seed,
        "config": asdict(config),
        "versions": {"python": platform.python_version(), "checkpoint": checkpoint["format"]},
        "git_sha": git_sha,
        "data": {"path": path, "sha256": hashlib.sha256(raw).hexdigest(), "rows_used": rows_used},
        "parent_sha": config.parent_sha,
    }
    out.mkdir(parents=True, exist_ok=True)
    _write(out / grammar_tutor.CHECKPOINT, checkpoint, indent=None)
    _write(out / MANIFEST, manifest, indent=2)
    return out


def read_lessons(raw: bytes, where: str) -> list[Lesson]:
    """The rows of a training corpus, which has the eval set's format.

    Raises:
        BadInput: it has another format, or no dimensions tense and person.
    """
    lessons = []
    for item in parse_eval_set(raw.split(b"\n"), where):
        labels = dict(bucket.split(".", 1) for bucket in item.buckets)
        if not {"tense", "person"} <= labels.keys():
            raise BadInput(f"{where}: {item.id!r} needs the buckets tense and person for training.")
        lessons.append(
            Lesson(item.id, item.prompt, item.answers[0], labels["tense"], labels["person"])
        )
    return lessons


def _write(path: Path, content: Mapping[str, Any], *, indent: int | None) -> None:
    separators = (",", ":") if indent is None else None
    text = json.dumps(content, sort_keys=True, indent=indent, separators=separators)
    path.write_text(text + "\n", "utf-8")


def _origin(corpus: Path) -> tuple[str | None, str]:
    """The commit of the checkout that contains the corpus and the path inside it, or None and the
    file name where there is no checkout."""
    path = corpus.resolve()
    root = _rev_parse(path.parent, "--show-toplevel")
    if root is None:
        return None, path.name
    return _rev_parse(path.parent, "HEAD"), path.relative_to(Path(root).resolve()).as_posix()


def _rev_parse(folder: Path, what: str) -> str | None:
    try:
        done = git.run(folder, "rev-parse", what)
    except SystemFailed:
        return None  # git is not installed
    if done.returncode == 0:
        return done.stdout.decode().strip()
    expected = (b"not a git repository", b"unknown revision")  # no checkout, or no commit yet
    if not any(text in done.stderr for text in expected):
        warnings.warn(
            f"the manifest names no commit: git says: {git.stderr_line(done)}.", stacklevel=2
        )
    return None


def log_tutor(
    checkpoint: Path,
    *,
    tracking_uri: str,
    experiment: str,
    artifact_root: Path | None,
    run_name: str,
    tags: Mapping[str, str],
) -> str:
    """Log a folder written by :func:`train_tutor` as a run with one model; return the run id.

    A new experiment stores its files below ``artifact_root``.
    """
    manifest = json.loads((checkpoint / MANIFEST).read_text("utf-8"))
    config = {key: value for key, value in manifest["config"].items() if value is not None}
    # MLmodel records the name of the data folder, so every checkpoint must use the same one.
    with mlflow_tracking.connected(tracking_uri), tempfile.TemporaryDirectory() as scratch:
        import mlflow
        from mlflow.models import ModelSignature
        from mlflow.types import ColSpec, Schema

        bundled = Path(scratch, "tutor")
        bundled.mkdir()
        for name in (grammar_tutor.CHECKPOINT, MANIFEST):
            shutil.copyfile(checkpoint / name, bundled / name)
        known = mlflow.get_experiment_by_name(experiment)
        location = artifact_root.resolve().as_uri() if artifact_root else None
        with mlflow.start_run(
            experiment_id=(
                known.experiment_id if known else mlflow.create_experiment(experiment, location)
            ),
            run_name=run_name,
            tags=dict(tags),
        ) as run:
            mlflow.log_params({**config, "git_sha": manifest["git_sha"]})
            mlflow.log_metric("rows_used", manifest["data"]["rows_used"])
            mlflow.pyfunc.log_model(
                name="model",
                loader_module="grammar_tutor",
                data_path=str(bundled),
                code_paths=[grammar_tutor.__file__],
                signature=ModelSignature(
                    Schema([ColSpec("string", "prompt")]), Schema([ColSpec("string")])
                ),
                pip_requirements=[f"mlflow=={mlflow.__version__}"],
            )
    return str(run.info.run_id)


def train_and_log(settings: Settings, config: TrainConfig, tags: Mapping[str, str]) -> str:
    """Train from the project's corpus and log to its MLflow; return the run id.

    Raises:
        BadInput: the corpus differs from the versioned one or can't be used for training.
        SystemFailed: DVC or MLflow failed.
    """
    corpus = settings.root / "data" / TRAIN_FILE
    read_versioned(corpus)
    with tempfile.TemporaryDirectory(prefix="tutor-") as scratch:
        return log_tutor(
            train_tutor(corpus, config, Path(scratch)),
            tracking_uri=settings.tracking_uri,
            experiment=settings.model,
            artifact_root=mlflow_tracking.artifact_root(settings),
            run_name=config.name,
            tags=tags,
        )


def main(arguments: list[str] | None = None) -> None:
    """``python -m examples.grammar_tutor.train reference`` prints the MLflow run id."""
    parser = argparse.ArgumentParser(description="Train a shipped tutor and log it to MLflow.")
    parser.add_argument("config", choices=sorted(CONFIGS))
    options = parser.parse_args(arguments)
    print(train_and_log(load_settings(), CONFIGS[options.config], {}))


if __name__ == "__main__":
    main()
