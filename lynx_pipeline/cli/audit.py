"""``audit``: everything about a version."""

from pathlib import Path

import click

from lynx_pipeline.cli.framework import Command, path_option, with_json
from lynx_pipeline.cli.output import inform, print_json
from lynx_pipeline.registry import Registry
from lynx_pipeline.registry.audit import audit as run_audit
from lynx_pipeline.reports.audit import audit_json, print_audit


@click.command(cls=Command, data=True, example="lynx-pipeline audit v0.1.0-dev")
@click.argument("version")
@path_option(
    "--export",
    metavar="DIR",
    help="A folder to create, with the signed statements, the evidence, the model's signature for "
    "model_signing, a bill of materials (CycloneDX) and a model card.",
)
@with_json
def audit(version: str, export: Path | None, as_json: bool) -> int:
    """Show everything about a version and replay its verdict.

    Needs the registry and the eval set, not MLflow. Exits with 1 if there are findings.
    """
    registry = Registry.open()
    result = run_audit(registry, version)
    if as_json:
        print_json(audit_json(result))
    else:
        print_audit(result)
    if result.findings:
        return 1
    if export is not None:
        from lynx_pipeline.reports.export import MODEL_SIGNATURE
        from lynx_pipeline.reports.export import export as write

        names = write(registry, result, export)
        inform(f"Exported to {export}: {', '.join(names)}.")
        if MODEL_SIGNATURE not in names:
            inform(f"Without {MODEL_SIGNATURE}: {result.attestations.model_signature.missing}.")
    return 0
