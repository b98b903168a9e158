"""Git repositories of somebody who has no project yet."""

from pathlib import Path

from lynx_pipeline_tests.support.builders import eval_items, jsonl
from lynx_pipeline_tests.support.places import git


def repository_with_eval_set(root: Path) -> Path:
    """A new git repository at ``root`` that has only an eval set, ``eval.jsonl``."""
    root.mkdir()
    git(root, "init", "--quiet", "--initial-branch=main")
    (root / "eval.jsonl").write_bytes(jsonl(eval_items()))
    return root
