"""``gate power``: what the gate of a project can and cannot see."""

import json
from pathlib import Path

from lynx_pipeline.cli import main
from lynx_pipeline.config import Settings
from lynx_pipeline_tests.cli.helpers import Capsys, one_paragraph


def test_power_needs_no_options_in_a_project(promoted: Settings, capsys: Capsys) -> None:
    """The command takes the project's eval set and baseline, and prints JSON or a table."""
    assert main(["gate", "power", "--json"]) == 0
    buckets = json.loads(capsys.readouterr().out)["buckets"]
    assert {it["name"] for it in buckets} == {"half.a", "half.b", "all.x"}
    assert main(["gate", "power", "--tolerance", "0.05", "--figure", "new/power.svg"]) == 0
    assert "half.a" in capsys.readouterr().out
    assert "<svg" in Path("new/power.svg").read_text()


def test_an_invalid_tolerance_is_bad_input(promoted: Settings, capsys: Capsys) -> None:
    """Two is a common mistake for two points."""
    assert main(["gate", "power", "--tolerance", "2"]) == 2
    assert "write 0.02" in one_paragraph(capsys)
