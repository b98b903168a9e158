"""Puts the example project into the wheel, where ``lynx-pipeline demo`` finds it."""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

EXAMPLE = (
    *(".dvc/.gitignore", ".dvc/config", "dagster.yaml", "dvc.yaml", "workspace.yaml"),
    *("pyproject.toml", "eval_baseline.json", "examples/__init__.py", "examples/grammar_tutor"),
    *("data/dvc-remote", "data/eval/.gitignore", "data/eval/phase-20.jsonl.dvc"),
    *("data/eval/phase-20.reference.parquet.dvc", "data/processed/.gitignore"),
    "data/processed/train.jsonl.dvc",
)


class ExampleProject(BuildHookInterface[Any]):
    """An editable installation needs no copy: it uses the clone's own files."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version != "editable":
            files = {name: f"lynx_pipeline/example/{name}" for name in EXAMPLE}
            build_data["force_include"].update(files)
