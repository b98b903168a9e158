"""``run``: evaluate and promote a candidate through Dagster, for a person who reads the result."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from lynx_pipeline.adapters import actions
from lynx_pipeline.adapters.files import write_atomic
from lynx_pipeline.cli.framework import (
    CANDIDATE_FORMS,
    Command,
    model_option,
    path_option,
    with_json,
)
from lynx_pipeline.cli.output import print_json
from lynx_pipeline.cli.request import check_dev
from lynx_pipeline.config import Settings, load_settings
from lynx_pipeline.defs.gate import gate_of
from lynx_pipeline.defs.launch import Finished, launch
from lynx_pipeline.domain.release.request import Request
from lynx_pipeline.domain.text import COUNTS, FULL
from lynx_pipeline.domain.versioning import check_semver
from lynx_pipeline.errors import LynxError, Refused, paragraph
from lynx_pipeline.evaluation.candidate import candidate as candidate_folder
from lynx_pipeline.evaluation.candidate import choose
from lynx_pipeline.evaluation.judgement import Judged, judge_evidence
from lynx_pipeline.registry import Registry
from lynx_pipeline.reports.junit import junit
from lynx_pipeline.reports.markdown import markdown
from lynx_pipeline.reports.report import PAGE, build_report
from lynx_pipeline.reports.terminal import print_report
from lynx_pipeline.reports.verdict_json import verdict_json

_FLIPS = 5


@click.command(
    cls=Command,
    data=True,
    example="lynx-pipeline run 0123456789abcdef0123456789abcdef v0.2.0-dev",
    help=f"""Evaluate a candidate through Dagster, and promote it.

    Without VERSION it is only evaluated. Exits with 0 if the candidate passed, and was promoted if
    VERSION is given; with 1 if it was refused.

    CANDIDATE is {CANDIDATE_FORMS}.""",
)
@click.argument("candidate")
@click.argument("version", required=False)
@model_option
@click.option("--verbose", is_flag=True, help="Show Dagster's log.")
@path_option("--junit", "junit_file", metavar="FILE", help="Also write the result as JUnit XML.")
@with_json
def run(
    candidate: str,
    version: str | None,
    model: str | None,
    verbose: bool,
    junit_file: Path | None,
    as_json: bool,
) -> int:
    settings = load_settings()
    output = junit_file.absolute() if junit_file else None
    if version is not None:
        check_semver(version, settings.env)
        check_dev(settings, Request(candidate, version, model))
    key = str(choose(settings, candidate, model).key)
    finished = launch(gate_of(settings), key, version, verbose=verbose)
    folder = candidate_folder(settings, key)
    judged = judge_evidence(settings, folder.evidence) if finished.evaluated else None
    error = _error(finished, judged)
    if output is not None:
        name = f"{settings.model} {version or key}"
        broken = None if error is None or isinstance(error, _RefusedByGate) else paragraph(error)
        write_atomic(output, junit(name, judged.verdict if judged else None, broken))
    if as_json:
        print_json(_as_json(settings, key, version, finished, judged, error))
    elif judged:
        report = build_report(settings, judged)
        actions.summary(markdown(report, shows=settings.pull_request_shows))
        shows = settings.pull_request_shows if actions.is_workflow() else FULL
        if shows == COUNTS:
            report = replace(report, corpus=None)
        print_report(report, flips=_FLIPS if shows == FULL else 0)
        print(f"Report: {folder.folder / PAGE}")
    if error is not None:
        raise error
    if version is not None and not as_json:
        _print_promotion(settings, version, finished)
    return 0


class _RefusedByGate(Refused):
    """The gate refused, and the report that was printed says why."""


def _error(finished: Finished, judged: Judged | None) -> LynxError | None:
    """Why the candidate did not pass, or was not promoted."""
    if judged and not judged.verdict.passed:
        names = ", ".join(bucket.name for bucket in judged.verdict.failed)
        return _RefusedByGate(f"the gate refused because of: {names}.")
    return finished.failure


def _print_promotion(settings: Settings, version: str, finished: Finished) -> None:
    entry = Registry.open(settings).promoted(version)
    fact, when = entry.fact, "" if finished.is_new else f" before, at {entry.fact.time}"
    print(
        f"PROMOTED{when}: {fact.model} {version} is {fact.canonical_sha}, ledger entry {entry.seq}."
    )


def _as_json(
    settings: Settings,
    key: str,
    version: str | None,
    finished: Finished,
    judged: Judged | None,
    error: LynxError | None,
) -> dict[str, Any]:
    entry = Registry.open(settings).promoted(version) if version and finished.promoted else None
    return {
        "candidate": key,
        "semver": version,
        "dagster_run": finished.run_id,
        "verdict": verdict_json(judged.verdict) if judged else None,
        "promotion": entry.to_json() if entry else None,
        "is_new": finished.is_new,
        "error": paragraph(error) if error else None,
        "exit_code": error.exit_code if error else 0,
    }
