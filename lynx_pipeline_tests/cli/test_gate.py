"""``gate power``: what the gate of a project can and cannot see."""

import json
import re
from pathlib import Path

import pytest

from lynx_pipeline.cli import main
from lynx_pipeline.config import Settings
from lynx_pipeline_tests.cli.helpers import Capsys, one_paragraph
from lynx_pipeline_tests.support.builders import eval_items, jsonl


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


def test_power_needs_no_baseline_with_an_assumed_accuracy(folder: Path, capsys: Capsys) -> None:
    """Nor a project. The tolerance is two points unless given."""
    (folder / "e.jsonl").write_bytes(jsonl(eval_items()))
    command = ["gate", "power", "--eval-set", "e.jsonl", "--accuracy", "0.9", "--json"]
    assert main(command) == 0
    power = json.loads(capsys.readouterr().out)
    assert power["tolerance"] == 0.02
    assert {(it["name"], it["accuracy"]) for it in power["buckets"]} == {
        ("half.a", 0.9), ("half.b", 0.9), ("all.x", 0.9)
    }  # fmt: skip
    assert main([*command, "--accuracy", "half.a=0.5", "--tolerance", "0.5"]) == 0
    power = json.loads(capsys.readouterr().out)
    assert power["tolerance"] == 0.5
    assert {it["name"]: round(it["accuracy"], 3) for it in power["buckets"]} == {
        "half.a": 0.5, "half.b": 0.9, "all.x": 0.7
    }  # fmt: skip


def test_several_tries_are_shown_with_their_chance_to_pass(folder: Path, capsys: Capsys) -> None:
    """As a table, and as data. A count that is none is refused."""
    (folder / "e.jsonl").write_bytes(jsonl(eval_items()))
    command = ["gate", "power", "--eval-set", "e.jsonl", "--accuracy", "0.9", "--tries", "3"]
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["tries"] == 3
    one = found["passes"]["all.x"]
    assert [*one] == ["0", "0.03", "0.05", "0.1"]
    assert sorted(one.values(), reverse=True) == [*one.values()]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert re.search(rf"all\.x +12 +{one['0']:.1%} ", out)
    assert "at least one of 3 candidates pass" in out
    assert main([*command[:-1], "0"]) == 2


def test_power_in_a_project_without_a_baseline_says_what_to_assume(
    promoted: Settings, capsys: Capsys
) -> None:
    """The README says to ask before there is one."""
    promoted.baseline.unlink()
    assert main(["gate", "power"]) == 2
    assert "assume the accuracy of a reference: --accuracy 0.9" in one_paragraph(capsys)
    assert main(["gate", "power", "--accuracy", "0.9"]) == 0
    assert "half.a" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param(["1"], "expected a number between 0 and 1", id="certain"),
        pytest.param(["0"], "expected a number between 0 and 1", id="hopeless"),
        pytest.param(["90"], "expected a number between 0 and 1", id="per cent"),
        pytest.param(["nan"], "expected a number between 0 and 1", id="no number"),
        pytest.param(["half.a="], "expected a number between 0 and 1", id="no value"),
        pytest.param(["half.a=0.9"], "give an accuracy for the other buckets", id="one bucket"),
        pytest.param(["0.9", "0.8"], "given twice for all buckets", id="twice"),
        pytest.param(["0.9", "half.c=0.8"], "has no bucket 'half.c'", id="no such bucket"),
    ],
)
def test_an_invalid_assumption_is_bad_input(
    promoted: Settings, capsys: Capsys, options: list[str], message: str
) -> None:
    """In one paragraph."""
    arguments = [word for option in options for word in ("--accuracy", option)]
    assert main(["gate", "power", *arguments]) == 2
    assert message in one_paragraph(capsys)


def test_a_perfect_reference_is_explained(promoted: Settings, capsys: Capsys) -> None:
    """Six of six right is no promise, and the table does not say 0 %."""
    assert main(["gate", "power"]) == 0
    out = capsys.readouterr().out
    assert "up to 95.0%" in out
    assert "6 of 6 right in half.a shows at least 60.7%, with 95 % confidence" in out
    assert main(["gate", "power", "--baseline", "eval_baseline.json", "--accuracy", "0.9"]) == 2
    assert "either --baseline or --accuracy" in one_paragraph(capsys)
