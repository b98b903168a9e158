"""Puts into the wheel the example project, where ``lynx-pipeline demo`` finds it, and the workflows
with their lock files, which ``lynx-pipeline init`` writes into other repositories.

A clone that has replaced the example by a project of its own lacks some of these files, and its
jobs install it all the same. What is in this project's own wheel is tested.
"""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

EXAMPLE = (
    *(".dvc/.gitignore", ".dvc/config", "dagster.yaml", "dvc.yaml", "workspace.yaml"),
    *("pyproject.toml", "eval_baseline.json", "examples/__init__.py", "examples/grammar_tutor"),
    *("data/dvc-remote", "data/eval/.gitignore", "data/eval/phase-20.jsonl.dvc"),
    *("data/eval/phase-20.reference.parquet.dvc", "data/processed/.gitignore"),
    "data/processed/train.jsonl.dvc",
)
REPOSITORY = (
    *(".github/CODEOWNERS", ".github/workflows/baseline.yml"),
    *(".github/workflows/deploy-grammar-tutor.yml", "requirements.lock"),
    *("requirements-changes.lock", "requirements-promote.lock"),
    *("requirements-report.lock", "requirements-request.lock"),
)


class OtherFiles(BuildHookInterface[Any]):
    """An editable installation needs no copy: it uses the clone's own files."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version != "editable":
            files = {name: f"lynx_pipeline/example/{name}" for name in EXAMPLE}
            files |= {name: f"lynx_pipeline/repository/{name}" for name in REPOSITORY}
            there = {name: to for name, to in files.items() if Path(self.root, name).exists()}
            build_data["force_include"].update(there)
