"""``minieval``: evaluate a bundle outside Dagster."""

import os
from pathlib import Path

import click

from lynx_pipeline.cli.framework import Command, path_option, with_json
from lynx_pipeline.cli.output import print_json, warn
from lynx_pipeline.config import EvaluationSettings, NoProject, load_settings, read_env
from lynx_pipeline.domain.scorers import EXACT
from lynx_pipeline.evaluation.inputs import read_eval_file
from lynx_pipeline.evaluation.run import evaluate
from lynx_pipeline.reports.progress import shown


@click.command(
    cls=Command,
    data=True,
    example=(
        "lynx-pipeline minieval --bundle model/ --eval-set data/eval/phase-20.jsonl --output "
        "out/candidate_eval.json"
    ),
)
@path_option("--bundle", metavar="DIR", required=True, help="An MLflow model directory.")
@path_option("--eval-set", metavar="FILE", required=True, help="A bucketed JSONL eval set.")
@path_option(
    "--output",
    metavar="FILE",
    required=True,
    help="The candidate eval to write; predictions and timings go beside it.",
)
@click.option("--progress", is_flag=True, help="Print progress lines when not on a TTY.")
@with_json
def minieval(bundle: Path, eval_set: Path, output: Path, progress: bool, as_json: bool) -> int:
    """Evaluate a bundle on an eval set.

    Runs the model in the sandbox and writes the candidate eval, the predictions and the timings.
    """
    eval_file, output = eval_set.absolute(), output.absolute()
    hidden = [eval_file.parent, output.parent]
    try:
        settings = load_settings()
    except NoProject:  # a bundle and an eval set are enough
        env, options, scorer = read_env(os.environ), EvaluationSettings(), EXACT
    else:
        env, options, scorer = settings.env, settings.evaluation, settings.scorer
        hidden += [settings.root, settings.home]
    with shown(always=progress) as report:
        evidence = evaluate(
            bundle.absolute(),
            read_eval_file(eval_file, scorer),
            output,
            options,
            candidate=None,
            env=env,
            hidden=hidden,
            warn=warn,
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
