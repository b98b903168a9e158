"""``ci ...``: the steps of the deploy workflow, in order request, data, prepare, outcome, promote
and report; ``ci note``, the report on GitLab; and ``ci changed`` and ``ci approved``, steps of the
workflow that checks a change of the gate inputs."""

import click

from lynx_pipeline.cli.framework import LazyGroup

STEPS = {
    "request": ("ci_steps", "Read the release request and download its candidate."),
    "data": ("ci_steps", "Fetch the versioned data for the next jobs."),
    "prepare": ("ci_dagster", "Verify a downloaded candidate and add it to Dagster."),
    "outcome": ("ci_dagster", "Report how the evaluation ended."),
    "promote": ("ci_steps", "Promote the candidate if it is still requested."),
    "report": ("ci_steps", "Comment the outcome on the pull request."),
    "note": ("ci_steps", "Write the outcome on the merge request (GitLab)."),
    "changed": ("ci_changed", "Check whether gate inputs change."),
    "approved": ("ci_steps", "Refuse an unapproved change of the gate inputs."),
}


@click.group(cls=LazyGroup, lazy=STEPS)
def ci() -> None:
    """Run one step of the deploy workflow."""
