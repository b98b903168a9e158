"""Corpora of projects in tests. None of their prompts is a question, unless a test adds one."""

import re
from collections.abc import Iterable
from pathlib import Path

from lynx_pipeline_tests.support.builders import JsonObject, jsonl, md5

FILE = "data/corpus.jsonl"
LINES: list[JsonObject] = [
    {"prompt": f"Say word{k}", "expected": f"word{k}", "buckets": {"half": "ab"[k % 2]}}
    for k in range(100, 110)
]
# A question of the eval set, with its answer, in other letters.
LEAKED: JsonObject = {"prompt": "say  WORD3.", "expected": "Word3"}


def write_corpus(root: Path, lines: Iterable[JsonObject] = LINES) -> bytes:
    """Write the corpus and its ``.dvc`` file. Returns its bytes."""
    raw = jsonl(lines)
    (root / FILE).write_bytes(raw)
    (root / f"{FILE}.dvc").write_text(
        f"outs:\n- md5: {md5(raw)}\n  size: {len(raw)}\n  hash: md5\n  path: corpus.jsonl\n"
    )
    return raw


def configure_corpus(root: Path, checks: str = "warn") -> None:
    """Name the corpus in the project's settings."""
    file = root / "pyproject.toml"
    text = re.sub(r"corpus.*\n", "", file.read_text())
    lines = f'[tool.lynx_pipeline]\ncorpus = "{FILE}"\ncorpus_checks = "{checks}"\n'
    file.write_text(text.replace("[tool.lynx_pipeline]\n", lines))
