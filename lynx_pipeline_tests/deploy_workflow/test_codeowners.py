"""CODEOWNERS covers what the deploy workflow trusts."""

from lynx_pipeline.domain.release.owners import owners_of
from lynx_pipeline_tests.support import REPO

CODEOWNERS = (REPO / ".github/CODEOWNERS").read_text()


def test_codeowners_covers_every_file_that_the_workflow_trusts() -> None:
    """Each file affects who deploys, by which rules, or how."""
    for path in (
        *(f".github/workflows/{file.name}" for file in (REPO / ".github/workflows").iterdir()),
        ".github/CODEOWNERS",
        ".ci/run",
        "action.yml",
        "hatch_build.py",
        "dev",
        "eval_baseline.json",
        "data/eval/phase-20.jsonl.dvc",
        "pyproject.toml",
        "requirements.lock",
        "lynx_pipeline/registry/registry.py",
        ".dvc/config",
        "setup.py",  # the installation would run it
        "dagster.yaml",
        "a file nobody thought of",
    ):
        assert owners_of(CODEOWNERS, path), path


def test_codeowners_separates_requesters_from_approvers() -> None:
    """Each group has its own line, which no later line overrides."""
    lines = CODEOWNERS.splitlines()
    named = "\n".join(line.replace("@OWNER", f"@{k}") for k, line in enumerate(lines))
    requesters, approvers, others = (
        owners_of(named, path)
        for path in (".github/workflows/deploy-grammar-tutor.yml", "eval_baseline.json", "dev")
    )
    assert len(requesters) == len(approvers) == len(others) == 1
    assert len(requesters | approvers | others) == 3
