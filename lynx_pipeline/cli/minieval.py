"""``minieval``: evaluate a bundle outside Dagster."""

import os
import re
import sys
from contextlib import ExitStack
from pathlib import Path

import click

from lynx_pipeline.cli.framework import (
    CANDIDATE_FORMS,
    Command,
    model_option,
    path_option,
    with_json,
)
from lynx_pipeline.cli.output import inform, print_json, warn
from lynx_pipeline.config import EvaluationSettings, find_settings, load_settings, read_env
from lynx_pipeline.domain.candidate_key import is_model_id
from lynx_pipeline.domain.scorers import EXACT
from lynx_pipeline.domain.text import silent
from lynx_pipeline.errors import BadInput
from lynx_pipeline.evaluation.candidate import choose, fresh_bundle
from lynx_pipeline.evaluation.inputs import read_eval_file, read_eval_set
from lynx_pipeline.evaluation.run import evaluate, hidden_folders
from lynx_pipeline.reports.progress import shown


@click.command(
    cls=Command,
    data=True,
    example=(
        "lynx-pipeline minieval --run-id models:/tutor@champion --output out/candidate_eval.json"
    ),
)
@path_option("--bundle", metavar="DIR", help="An MLflow model directory.")
@click.option(
    "--run-id",
    metavar="CANDIDATE",
    help=f"A model in MLflow instead of a directory: {CANDIDATE_FORMS}.",
)
@model_option
@path_option(
    "--eval-set",
    metavar="FILE",
    help="A bucketed JSONL eval set to use instead of the project's.",
)
@path_option(
    "--output",
    metavar="FILE",
    required=True,
    help="The candidate eval to write; predictions, timings and manifest go beside it.",
)
@click.option("--progress", is_flag=True, help="Print progress lines when not on a TTY.")
@with_json
def minieval(
    bundle: Path | None,
    run_id: str | None,
    model: str | None,
    eval_set: Path | None,
    output: Path,
    progress: bool,
    as_json: bool,
) -> int:
    """Evaluate a bundle on an eval set, by default the project's.

    The bundle is a directory, or a model that is downloaded from the project's MLflow. Runs the
    model in the sandbox and writes the candidate eval, the predictions, the timings and the
    bundle's manifest.
    """
    if (bundle is None) == (run_id is None):
        raise BadInput("give either --bundle or --run-id.")
    if model and run_id is None:
        raise BadInput("--model chooses one of a run's models, so it needs --run-id.")
    if bundle is not None and not bundle.exists() and _is_in_mlflow(str(bundle)):
        raise BadInput(
            f"--bundle takes a folder, and {str(bundle)!r:.200} names a model in MLflow. Give it "
            "as --run-id."
        )
    settings = load_settings() if bundle is None else find_settings()
    if eval_set is None and settings is None:
        raise BadInput(
            "no eval set is given, and there is no project here, whose eval set would be used. "
            "Give --eval-set, or run this inside the project."
        )
    output = output.absolute()
    hidden = [output.parent]
    if eval_set is not None:
        hidden.append(eval_set.absolute().parent)
    env, options, scorer = read_env(os.environ), EvaluationSettings(), EXACT
    if settings is not None:
        options, scorer = settings.evaluation, settings.scorer
        hidden += hidden_folders(settings)
    say = inform if progress or sys.stderr.isatty() else silent
    with ExitStack() as stack:
        if eval_set is not None:
            items = read_eval_file(eval_set.absolute(), scorer)
        else:
            assert settings is not None  # checked above
            items = read_eval_set(settings)
        key = None
        if settings is not None and run_id is not None:
            key = str(choose(settings, run_id, model).key)
            bundle, _, _ = stack.enter_context(fresh_bundle(settings, key, say))
        assert bundle is not None  # checked above
        report = stack.enter_context(shown(always=progress))
        evidence = evaluate(
            bundle.absolute(),
            items,
            output,
            options,
            candidate=key,
            env=env,
            hidden=hidden,
            warn=warn,
            say=say,
            progress=report,
        )
    result = evidence.evaluation
    if as_json:
        print_json(result.to_json())
    else:
        counts = result.counts
        print(
            f"{counts.correct} of {counts.n} right ({counts.correct / counts.n:.2%}), isolation: "
            f"{result.isolation}. Written to {output}"
        )
    return 0


def _is_in_mlflow(text: str) -> bool:
    """Whether it has the form of a run's or a model's name in MLflow."""
    usual = re.fullmatch("[0-9a-f]{32}", text) is not None  # others look like folders, too
    return text.startswith(("models:/", "runs:/")) or usual or is_model_id(text)
