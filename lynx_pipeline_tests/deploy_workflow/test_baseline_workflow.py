"""The workflow *Baseline*: what its steps run, and when. Its runs are in end_to_end/test_act.py."""

import yaml

from lynx_pipeline_tests.deploy_workflow.workflow_rules import CLI
from lynx_pipeline_tests.support import REPO

BASELINE = REPO / ".github/workflows/baseline.yml"


def test_baseline_checks_unless_nothing_has_changed() -> None:
    """If its first step says nothing, everything is checked. All steps compare with one commit."""
    steps = yaml.safe_load(BASELINE.read_text())["jobs"]["baseline"]["steps"]
    first = next(number for number, step in enumerate(steps) if step.get("id") == "inputs")
    compared = "--base HEAD^1"
    assert steps[first]["run"] == f"{CLI} ci changed {compared}"
    assert [step.get("run") for step in steps[first + 1 :]] == [
        None,
        f"{CLI} baseline check {compared}",
        f"{CLI} ci approved {compared}",
    ]
    for number, step in enumerate(steps):
        condition = "${{ steps.inputs.outputs.changed != 'false' }}" if number > first else None
        assert step.get("if") == condition
        assert "continue-on-error" not in step
