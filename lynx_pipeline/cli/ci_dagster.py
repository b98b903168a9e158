"""The deploy workflow's steps around Dagster: ``ci prepare`` and ``ci outcome``."""

from pathlib import Path

import click

from lynx_pipeline.adapters import actions
from lynx_pipeline.cli.framework import Command, path_option
from lynx_pipeline.config import load_settings
from lynx_pipeline.defs.outcome import failure_of
from lynx_pipeline.defs.requests import FETCHED, add_candidate, write_config
from lynx_pipeline.evaluation.candidate import candidate
from lynx_pipeline.evaluation.evidence import EVAL
from lynx_pipeline.evaluation.judgement import GateRefused, judge_evidence
from lynx_pipeline.reports.markdown import markdown
from lynx_pipeline.reports.report import build_report


@click.command(cls=Command, example="lynx-pipeline ci prepare RUN_ID --output run.json")
@click.argument("run_id")
@path_option("--output", metavar="FILE", required=True, help="The run config to write.")
def prepare(run_id: str, output: Path) -> int:
    """Add a downloaded candidate to Dagster."""
    prepared, config = candidate(load_settings(), run_id), output.absolute()
    write_config(config, FETCHED)
    add_candidate(prepared.run_id)
    print(f"Candidate {prepared.run_id} can be evaluated. Run config: {config}")
    return 0


@click.command(cls=Command, example="lynx-pipeline ci outcome RUN_ID")
@click.argument("run_id")
def outcome(run_id: str) -> int:
    """Report how the evaluation ended.

    Exits with 0 if the candidate passed the gate and with 1 if the gate refused. Writes the report
    to the job's summary, for the people who approve the deployment.
    """
    settings = load_settings()
    evaluated = candidate(settings, run_id)
    failure = failure_of(evaluated.run_id)
    if (evaluated.evidence / EVAL).is_file():
        judged = judge_evidence(settings, evaluated.evidence)
        actions.output(evidence_sha256=judged.evidence.sha256)
        actions.summary(markdown(build_report(settings, judged)))
        if not judged.verdict.passed:
            raise GateRefused(judged.verdict)
    if failure is not None:
        raise failure
    print("The candidate passed the gate.")
    return 0
