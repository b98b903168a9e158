"""The deploy workflow's steps around Dagster: ``ci prepare`` and ``ci outcome``."""

import shutil
from pathlib import Path

import click

from lynx_pipeline.adapters import actions
from lynx_pipeline.cli.framework import Command, path_option
from lynx_pipeline.config import load_settings
from lynx_pipeline.defs.gate import EVALUATE, gate_of
from lynx_pipeline.defs.outcome import failure_of
from lynx_pipeline.defs.requests import add_candidate, fetched, write_config
from lynx_pipeline.deploy_workflow.release_request import check_first_attempt
from lynx_pipeline.evaluation.candidate import candidate, take_over
from lynx_pipeline.evaluation.evidence import EVAL
from lynx_pipeline.evaluation.judgement import GateRefused, judge_evidence
from lynx_pipeline.reports.markdown import markdown
from lynx_pipeline.reports.report import build_report


@click.command(
    cls=Command,
    example=(
        "lynx-pipeline ci prepare KEY --from candidate --bundle-digest DIGEST --output run.json"
    ),
)
@click.argument("key")
@path_option(
    "--from", "folder", metavar="DIR", required=True, help="The folder that the job request wrote."
)
@click.option(
    "--bundle-digest",
    metavar="DIGEST",
    required=True,
    help="The bundle's digest, as the job request reported it.",
)
@path_option("--output", metavar="FILE", required=True, help="The run config to write.")
def prepare(key: str, folder: Path, bundle_digest: str, output: Path) -> int:
    """Verify a downloaded candidate and add it to Dagster.

    Checks that the bundle has the requested digest, and that nobody has re-run the workflow run.
    """
    check_first_attempt()
    settings, config = load_settings(), output.absolute()
    take_over(settings, key, folder.absolute(), bundle_digest)
    gate = gate_of(settings)
    write_config(config, fetched(gate))
    add_candidate(gate, key)
    actions.output(job=gate.prefixed(EVALUATE))
    print(f"Candidate {key} can be evaluated. Run config: {config}")
    return 0


@click.command(cls=Command, example="lynx-pipeline ci outcome KEY --output evidence")
@click.argument("key")
@path_option(
    "--output", metavar="DIR", required=True, help="The folder for a copy of the evidence."
)
def outcome(key: str, output: Path) -> int:
    """Report how the evaluation ended.

    Exits with 0 if the candidate passed the gate and with 1 if the gate refused. Writes the report
    to the job's summary, for the people who approve the deployment, and copies the evidence for the
    next jobs.
    """
    settings = load_settings()
    evaluated = candidate(settings, key)
    failure = failure_of(gate_of(settings), key)
    if (evaluated.evidence / EVAL).is_file():
        judged = judge_evidence(settings, evaluated.evidence)
        shutil.copytree(evaluated.evidence, output)
        actions.output(evidence_sha256=judged.evidence.sha256)
        report = build_report(settings, judged)
        actions.summary(markdown(report, shows=settings.pull_request_shows))
        if not judged.verdict.passed:
            raise GateRefused(judged.verdict)
    if failure is not None:
        raise failure
    print("The candidate passed the gate.")
    return 0
