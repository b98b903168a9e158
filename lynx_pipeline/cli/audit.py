"""``audit``: everything about a version."""

import click

from lynx_pipeline.cli.framework import Command, with_json
from lynx_pipeline.cli.output import print_json
from lynx_pipeline.registry import Registry
from lynx_pipeline.registry.audit import audit as run_audit
from lynx_pipeline.reports.audit import audit_json, print_audit


@click.command(cls=Command, data=True, example="lynx-pipeline audit v0.1.0-dev")
@click.argument("version")
@with_json
def audit(version: str, as_json: bool) -> int:
    """Show everything about a version and replay its verdict.

    Needs the registry and the eval set, not MLflow. Exits with 1 if there are findings.
    """
    result = run_audit(Registry.open(), version)
    if as_json:
        print_json(audit_json(result))
    else:
        print_audit(result)
    return 1 if result.findings else 0
