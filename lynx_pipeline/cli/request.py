"""``request``: validate a release request and prepare its run."""

from pathlib import Path

import click

from lynx_pipeline.adapters.files import read_bytes, write_atomic
from lynx_pipeline.cli.framework import (
    CANDIDATE_FORMS,
    Command,
    model_option,
    path_option,
    with_json,
)
from lynx_pipeline.cli.output import command_line, print_json
from lynx_pipeline.config import Settings, load_model, load_settings
from lynx_pipeline.defs.known import look_up
from lynx_pipeline.defs.requests import prepare
from lynx_pipeline.domain.release.request import LABEL, Request, parse_comment
from lynx_pipeline.domain.versioning import Env, check_semver
from lynx_pipeline.errors import BadInput, Refused
from lynx_pipeline.evaluation.candidate import candidate, choose, fresh_bundle
from lynx_pipeline.evaluation.evidence import BUNDLE_MANIFEST


@click.command(
    cls=Command,
    data=True,
    example=("lynx-pipeline request --run-id 0123456789abcdef0123456789abcdef --semver v0.2.0-dev"),
)
@click.option(
    "--run-id",
    metavar="CANDIDATE",
    help=f"The candidate: {CANDIDATE_FORMS}.",
)
@model_option
@click.option("--semver", metavar="VERSION", help="The version to promote it as.")
@path_option(
    "--from-comment",
    metavar="FILE",
    help="A file with a comment's text; read candidate and version from it.",
)
@path_option(
    "--output", metavar="FILE", help="The run config to write; by default in the state folder."
)
@with_json
def request(
    run_id: str | None,
    model: str | None,
    semver: str | None,
    from_comment: Path | None,
    output: Path | None,
    as_json: bool,
) -> int:
    """Validate a release request and prepare its run.

    Downloads the candidate to compute its digest, adds its partition, writes the run config, and
    prints the command that evaluates and promotes it. The run refuses a bundle with another digest.
    """
    asked = _requested(run_id, model, semver, from_comment)
    settings = load_model(asked.gate) if asked.gate else load_settings()
    check_semver(asked.semver, settings.env)
    check_dev(settings, asked)
    found = choose(settings, asked.reference, asked.model)
    key = str(found.key)
    with fresh_bundle(settings, key) as (_, bundle, _):
        digest = bundle.digest
        write_atomic(candidate(settings, key).folder / BUNDLE_MANIFEST, bundle.manifest)
    config = output.absolute() if output else None
    command = ["dagster", *prepare(settings, key, asked.semver, digest, config)]
    if as_json:
        print_json(
            {
                "candidate": key,
                "mlflow_run_id": found.run_id,
                "semver": asked.semver,
                "bundle_digest": digest,
                "config": command[-1],
                "command": command,
                "folder": str(settings.root),
            }
        )
    else:
        named = look_up(settings, key).describe(key)
        print(f"Request accepted: candidate {named} as {asked.semver}, digest {digest}.")
        print("To run it:")
        print(f"  {command_line(settings, command)}")
    return 0


def check_dev(settings: Settings, asked: Request) -> None:
    """Check that a run on this machine can promote.

    Raises:
        Refused: this is ``prod``.
    """
    if settings.env is not Env.PROD:
        return
    model = f" model={asked.model}" if asked.model else ""
    model += f" gate={settings.model}" if settings.gate else ""
    raise Refused(
        "LYNX_ENV is prod, where only the deploy workflow can promote; a run on this machine would "
        f"be refused at its end. Label a pull request {LABEL!r} and write the comment "
        f"'mlflow_run_id={asked.reference} semver={asked.semver}{model}' there. To try the "
        "candidate on this machine, unset LYNX_ENV and request a version such as v0.1.0-dev."
    )


def _requested(
    run_id: str | None, model: str | None, semver: str | None, from_comment: Path | None
) -> Request:
    if from_comment is not None:
        if run_id or model or semver:
            raise BadInput("give either --from-comment or --run-id and --semver, not both.")
        return parse_comment(read_bytes(from_comment, "no comment"))
    if not (run_id and semver):
        raise BadInput("give --run-id and --semver, or --from-comment.")
    return Request(run_id, semver, model)
