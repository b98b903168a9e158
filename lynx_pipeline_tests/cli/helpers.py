"""Helpers that the tests of the commands share."""

import json
from pathlib import Path
from typing import Any

import pytest

from lynx_pipeline.cli import main

Capsys = pytest.CaptureFixture[str]


def write_files(baseline: Any, candidate: Any) -> None:
    """Write ``b.json`` and ``c.json``: bytes as they are, everything else as JSON."""
    for name, value in (("b.json", baseline), ("c.json", candidate)):
        raw = value if isinstance(value, bytes) else json.dumps(value).encode()
        Path(name).write_bytes(raw)


def compare(*arguments: str) -> int:
    """Run ``compare-baseline`` on the two files."""
    return main(["compare-baseline", "--candidate", "c.json", "--baseline", "b.json", *arguments])


def one_paragraph(capsys: Capsys) -> str:
    """Standard error, which must be one paragraph and the only output."""
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("lynx-pipeline: ")
    assert err.endswith("\n")
    assert "\n" not in err[:-1]
    assert "Traceback" not in err
    return err
