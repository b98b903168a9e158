"""The deploy workflow's steps that need no Dagster: ``ci request``, ``promote``, ``report``,
``note`` and ``approved``. On GitHub the jobs communicate through the outputs of these steps."""

import os
from pathlib import Path

import click

from lynx_pipeline.adapters import actions, dvc, gitlab
from lynx_pipeline.adapters.dvc_data import hand_on
from lynx_pipeline.adapters.dvc_files import own_record
from lynx_pipeline.adapters.github import GitHub
from lynx_pipeline.adapters.gitlab import GitLab
from lynx_pipeline.cli.framework import Command, path_option, with_json
from lynx_pipeline.cli.output import inform
from lynx_pipeline.cli.registry import mirror_now, print_entry
from lynx_pipeline.config import load_each, load_model, load_settings
from lynx_pipeline.deploy_workflow.comment import NAME
from lynx_pipeline.deploy_workflow.outcome import (
    REQUEST,
    has_evaluated,
    in_force,
    read_needs,
    render_comment,
    render_note,
)
from lynx_pipeline.deploy_workflow.release_request import (
    approval,
    check_first_attempt,
    check_limit_per_candidate,
    check_limit_per_person,
    check_still_requested,
    valid_request,
)
from lynx_pipeline.domain.ledger.facts import Actor
from lynx_pipeline.domain.release.request import read_comment
from lynx_pipeline.domain.versioning import check_semver
from lynx_pipeline.evaluation.baseline import reference_file
from lynx_pipeline.evaluation.candidate import choose, hand_over
from lynx_pipeline.evaluation.evidence import check_handed_over
from lynx_pipeline.registry import Registry
from lynx_pipeline.registry.gate_inputs import reviewed_changes


@click.command(cls=Command, example="lynx-pipeline ci request --output candidate")
@path_option(
    "--output", metavar="DIR", required=True, help="The folder to create for the candidate."
)
def request(output: Path) -> int:
    """Read the release request and download its candidate.

    The folder has the bundle and its manifest, for the job that evaluates it. Refuses a workflow
    run that somebody has re-run, and one request too many.
    """
    event = actions.read_event()
    # All models have the same workflow, and so the same people who may make a request.
    settings, github = load_each()[0], GitHub()
    comment = valid_request(settings, github, event.pull_request, event.comment)
    check_first_attempt()  # the report of the first one remains
    # From here on the pull request gets a report, because an authorized person made a request.
    actions.output(pull_request=event.pull_request, comment=comment.id)
    inform(check_limit_per_person(settings, github))
    asked = read_comment(comment)
    settings = load_model(asked.gate)
    check_semver(asked.semver, settings.env)
    candidate = str(choose(settings, asked.reference, asked.model).key)
    bundle = hand_over(settings, candidate, output.absolute(), inform)
    check_limit_per_candidate(settings, github, bundle.canonical_sha)
    actions.output(
        candidate=candidate,
        semver=asked.semver,
        gate=asked.gate,
        canonical_sha=bundle.canonical_sha,
        bundle_digest=bundle.digest,
    )
    print(
        f"{comment.author} requests candidate {candidate} as {asked.semver}: bundle "
        f"{bundle.canonical_sha}, digest {bundle.digest}, {bundle.files} files, "
        f"{bundle.size} bytes."
    )
    return 0


@click.command(cls=Command, example="lynx-pipeline ci data --output data-objects")
@path_option("--output", metavar="DIR", required=True, help="The folder to create for the data.")
def data(output: Path) -> int:
    """Fetch the versioned data for the next jobs.

    They have no access to the DVC remote. The folder is laid out like DVC's cache. The variable
    DVC_CONFIG_LOCAL may contain the text of .dvc/config.local. The file is deleted again when this
    command ends.
    """
    settings = load_settings()
    with dvc.local_config(settings.root / "pyproject.toml", os.environ.get("DVC_CONFIG_LOCAL", "")):
        reference = reference_file(settings)
        paths = [settings.eval_set, *([reference] if own_record(reference).exists() else [])]
        for path in (*paths, *([settings.corpus] if settings.corpus else [])):
            hand_on(path, output.absolute())
            print(f"{path.relative_to(settings.root)}: fetched and verified.")
    return 0


@click.command(
    cls=Command,
    data=True,
    example=(
        "lynx-pipeline ci promote --pull-request 7 --comment 1234 --candidate KEY "
        "--semver v0.3.1 --sha SHA --bundle-digest DIGEST --evidence evidence/ "
        "--evidence-sha256 SHA256"
    ),
)
@click.option("--pull-request", type=int, required=True, help="The pull request's number.")
@click.option("--comment", type=int, required=True, help="The id of the requesting comment.")
@click.option("--candidate", metavar="KEY", required=True, help="The candidate's key.")
@click.option("--semver", metavar="VERSION", required=True, help="The version to promote it as.")
@click.option("--sha", metavar="SHA", required=True, help="The bundle's canonical sha.")
@click.option(
    "--bundle-digest",
    metavar="DIGEST",
    required=True,
    help="The bundle's digest, as the job request reported it.",
)
@path_option("--evidence", metavar="DIR", required=True, help="The evidence folder.")
@click.option(
    "--evidence-sha256",
    metavar="SHA256",
    required=True,
    help="The SHA-256 of the folder's candidate_eval.json, as the job evaluate reported it.",
)
@with_json
def promote(
    pull_request: int,
    comment: int,
    candidate: str,
    semver: str,
    sha: str,
    bundle_digest: str,
    evidence: Path,
    evidence_sha256: str,
    as_json: bool,
) -> int:
    """Promote the candidate if it is still requested.

    Checks that the evidence is the one that the job evaluate handed over, and judges it again.
    """
    settings, github = load_settings(), GitHub()
    folder = evidence.absolute()

    def confirm() -> None:
        check_still_requested(settings, github, pull_request, comment, candidate, semver)

    check_handed_over(folder, evidence_sha256, candidate)
    registry = Registry.open(settings)
    entry = registry.promote(
        sha,
        semver,
        evidence=folder,
        candidate=candidate,
        bundle_digest=bundle_digest,
        confirm=confirm,
        say=inform,
    ).entry
    actor = entry.fact.actor
    # A re-run job finds the entry that its first attempt wrote. The pull request has no report of
    # that entry yet, so it counts as new.
    new = actions.is_this_run(actor.run_id if isinstance(actor, Actor) else None)
    actions.output(entry=entry.to_line().decode().rstrip("\n"), new=str(new).lower())
    mirror_now(registry, semver)
    print_entry(entry, as_json)
    return 0


@click.command(cls=Command, example="lynx-pipeline ci report --evidence evidence/")
@path_option(
    "--evidence", metavar="DIR", required=True, help="The evidence folder; it need not exist."
)
def report(evidence: Path) -> int:
    """Comment the outcome on the pull request.

    Also writes the text to the run's summary.
    """
    needs = read_needs(os.environ.get("NEEDS", ""))
    # A request that names none of the project's models is reported as well.
    gate = needs.outputs[REQUEST].get("gate")
    settings = load_model(gate) if gate else load_each()[0]
    if actions.run_attempt() != 1 and not has_evaluated(needs):
        print("This attempt evaluated nothing, so the report of an earlier one was not changed.")
        return 0
    announced = os.environ.get("ANNOUNCED", "")
    text = render_comment(settings, needs, evidence.absolute(), announced)
    actions.summary(text)
    # A report on the version in force replaces even a later run's comment.
    latest = in_force(needs, announced)
    address = GitHub().upsert_comment(
        needs.pull_request, NAME, actions.run_id(), text, overwrite_later=latest
    )
    print(address or "A later run wrote the comment, so it was not changed.")
    return 0


@click.command(
    cls=Command,
    example=(
        "lynx-pipeline ci note --merge-request 7 --candidate KEY --semver v0.3.1 "
        "--evidence evidence/ --entry promotion.json"
    ),
)
@click.option(
    "--merge-request",
    type=click.IntRange(min=1),
    required=True,
    help="The merge request's number in the project (IID).",
)
@click.option("--candidate", metavar="KEY", required=True, help="The candidate's key.")
@click.option("--semver", metavar="VERSION", required=True, help="The requested version.")
@path_option(
    "--evidence", metavar="DIR", required=True, help="The evidence folder; it need not exist."
)
@path_option(
    "--entry",
    metavar="FILE",
    required=True,
    help="What 'registry promote --json' printed; it need not exist.",
)
def note(merge_request: int, candidate: str, semver: str, evidence: Path, entry: Path) -> int:
    """Write the outcome on the merge request (GitLab).

    There is one note, which each pipeline updates. One that a later pipeline wrote is kept.
    """
    text = render_note(load_settings(), candidate, semver, evidence.absolute(), entry.absolute())
    address = GitLab().upsert_note(merge_request, NAME, gitlab.pipeline_id(), text)
    print(address or "A later pipeline wrote the note, so it was not changed.")
    return 0


@click.command(cls=Command, example="lynx-pipeline ci approved --base origin/main")
@click.option("--base", metavar="GIT_REF", required=True, help="The commit to compare with.")
def approved(base: str) -> int:
    """Refuse an unapproved change of the gate inputs.

    An owner of the baseline who did not write the change must have approved it.
    """
    event = actions.read_event()
    for settings, changed in reviewed_changes(base):
        if changed:
            login = approval(settings, GitHub(), event.pull_request, base)
            print(f"{', '.join(changed)}: changed, and approved by {login}.")
        else:
            print(f"The gate inputs are unchanged since {base}: no approval is needed.")
    return 0
