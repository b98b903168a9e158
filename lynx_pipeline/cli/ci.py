"""The steps of the deploy workflow, in order: ci request, prepare, outcome, promote, report; and
ci approved, of the workflow that checks a change of the baseline.

What the jobs tell each other are outputs of these steps.
"""

import os
from argparse import Namespace
from pathlib import Path

from lynx_pipeline.adapters import actions


def request(_: Namespace) -> int:
    """Choose the comment, read its request, and fetch the candidate it names."""
    from lynx_pipeline.adapters.github import GitHub
    from lynx_pipeline.config import load_settings
    from lynx_pipeline.deploy_workflow.release_request import valid_request
    from lynx_pipeline.domain.release.request import read_comment
    from lynx_pipeline.domain.versioning import check_semver
    from lynx_pipeline.evaluation.candidate import fetch

    settings, event = load_settings(), actions.read_event()
    comment = valid_request(settings, GitHub(), event.pull_request, event.comment)
    # From here on the pull request is told how it ends: somebody asked who may.
    actions.output(pull_request=event.pull_request, comment=comment.id)
    asked = read_comment(comment)
    check_semver(asked.semver, settings.env)
    bundle = fetch(settings, asked.mlflow_run_id)
    actions.output(
        run_id=asked.mlflow_run_id, semver=asked.semver, canonical_sha=bundle.canonical_sha
    )
    print(
        f"{comment.author} asks for run {asked.mlflow_run_id} as {asked.semver}: bundle "
        f"{bundle.canonical_sha}, {bundle.files} files, {bundle.size} bytes."
    )
    return 0


def prepare(arguments: Namespace) -> int:
    """Let Dagster know a candidate whose bundle was fetched by a job before."""
    from lynx_pipeline.config import load_settings
    from lynx_pipeline.defs.requests import FETCHED, add_candidate, write_config
    from lynx_pipeline.evaluation.candidate import candidate

    here = candidate(load_settings(), arguments.run_id)
    output = Path(arguments.output).absolute()
    write_config(output, FETCHED)
    add_candidate(here.run_id)
    print(f"Candidate {here.run_id} can be evaluated. Run config: {output}")
    return 0


def outcome(arguments: Namespace) -> int:
    """Say how a candidate's evaluation ended, with the exit code that says the same. The job's
    summary gets the report, for whoever has to let the promotion through."""
    from lynx_pipeline.config import load_settings
    from lynx_pipeline.defs.outcome import failure_of
    from lynx_pipeline.evaluation.candidate import candidate
    from lynx_pipeline.evaluation.evidence import EVAL
    from lynx_pipeline.evaluation.judgement import GateRefused, judge_evidence
    from lynx_pipeline.reports.build import build_report
    from lynx_pipeline.reports.markdown import markdown

    settings = load_settings()
    here = candidate(settings, arguments.run_id)
    failure = failure_of(here.run_id)
    if (here.evidence / EVAL).is_file():
        judged = judge_evidence(settings, here.evidence)
        actions.output(evidence_sha256=judged.evidence.sha256)
        actions.summary(markdown(build_report(settings, judged)))
        if not judged.verdict.passed:
            raise GateRefused(judged.verdict)
    if failure is not None:
        raise failure
    print("The candidate passed the gate.")
    return 0


def promote(arguments: Namespace) -> int:
    """Promote what was asked for, if it is still asked for, on evidence that is what was found."""
    from lynx_pipeline.adapters.github import GitHub
    from lynx_pipeline.cli.ledger import mirror_now, print_entry
    from lynx_pipeline.config import load_settings
    from lynx_pipeline.deploy_workflow.release_request import check_still_requested
    from lynx_pipeline.domain.ledger.facts import Actor
    from lynx_pipeline.evaluation.evidence import check_handed_over
    from lynx_pipeline.registry import Registry

    settings, github = load_settings(), GitHub()
    evidence, run_id = Path(arguments.evidence).absolute(), arguments.run_id

    def confirm() -> None:
        check_still_requested(
            settings,
            github,
            arguments.pull_request,
            arguments.comment,
            run_id,
            arguments.semver,
        )

    check_handed_over(evidence, arguments.evidence_sha256, run_id)
    registry = Registry.open(settings)
    entry = registry.promote(
        arguments.sha, arguments.semver, evidence=evidence, run_id=run_id, confirm=confirm
    ).entry
    actor = entry.fact.actor
    new = actions.is_this_run(actor.run_id if isinstance(actor, Actor) else None)
    actions.output(entry=entry.to_line().decode().rstrip("\n"), new=str(new).lower())
    mirror_now(registry, entry.fact.semver)
    print_entry(entry, arguments)
    return 0


def report(arguments: Namespace) -> int:
    """Tell the pull request and the run's summary how it ended."""
    from lynx_pipeline.adapters.github import GitHub
    from lynx_pipeline.config import load_settings
    from lynx_pipeline.deploy_workflow.comment import NAME
    from lynx_pipeline.deploy_workflow.outcome import in_force, read_needs, render_comment

    settings = load_settings()
    needs = read_needs(os.environ.get("NEEDS", ""))
    announced = os.environ.get("ANNOUNCED", "")
    text = render_comment(settings, needs, Path(arguments.evidence).absolute(), announced)
    actions.summary(text)
    # What is in production now is said over whatever a later run has come to.
    now = in_force(needs, announced)
    address = GitHub().say(needs.pull_request, NAME, actions.run_id(), text, over_later=now)
    print(address or "A later run has written the comment; it stays as it is.")
    return 0


def approved(arguments: Namespace) -> int:
    """Fail a change of what verdicts are by that nobody but its author has approved."""
    from lynx_pipeline.adapters.github import GitHub
    from lynx_pipeline.config import load_settings
    from lynx_pipeline.deploy_workflow.release_request import approval
    from lynx_pipeline.registry.gate_inputs import changes

    settings, event = load_settings(), actions.read_event()
    changed = changes(settings, arguments.base, "HEAD")
    if not changed:
        print(f"What verdicts are by is as at {arguments.base}: no approval is needed.")
        return 0
    by = approval(settings, GitHub(), event.pull_request, arguments.base)
    print(f"{', '.join(changed)}: changed, and approved by {by}.")
    return 0
