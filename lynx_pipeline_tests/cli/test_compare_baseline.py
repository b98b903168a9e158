"""``compare-baseline``: the gate on two files."""

import json
from pathlib import Path
from typing import Any

import pytest

from lynx_pipeline.cli import main
from lynx_pipeline_tests.cli.helpers import Capsys, compare, one_paragraph, write_files
from lynx_pipeline_tests.support.builders import baseline_json, bucket, candidate_json

# Right answers out of 100 in each of 99 buckets, from few to all.
FLOORS = {f"d.b{k:02d}": 3 + k % 98 for k in range(99)}


def dropped(points: int) -> dict[str, Any]:
    """All buckets, each ``points`` right answers below its floor."""
    return {name: bucket(k - points, 100) for name, k in FLOORS.items()}


def test_a_drop_of_exactly_the_tolerance_passes_in_every_bucket(capsys: Capsys) -> None:
    """With floats, most of these would be refused."""
    write_files(baseline_json(dropped(0)), candidate_json(dropped(2)))
    assert compare() == 0
    assert capsys.readouterr().err == ""
    assert compare("--tolerance", "0.02") == 0
    assert compare("--tolerance", "2e-2") == 0


def test_one_more_wrong_answer_fails_every_bucket_by_name(capsys: Capsys) -> None:
    """Both outputs name all 99 buckets."""
    write_files(baseline_json(dropped(0)), candidate_json(dropped(3)))
    assert compare() == 1
    out, err = capsys.readouterr()
    assert all(f" {name}" in err for name in FLOORS)
    assert all(name in out for name in FLOORS)
    assert err.count("\n") == 1


@pytest.mark.parametrize("name", ["d.b00", "d.b50", "d.b98"])
def test_one_failed_bucket_is_enough_to_refuse(capsys: Capsys, name: str) -> None:
    """Gains in the other 98 buckets do not make up for it."""
    buckets = {**{n: bucket(100, 100) for n in FLOORS}, name: bucket(FLOORS[name] - 3, 100)}
    write_files(baseline_json(dropped(0)), candidate_json(buckets))
    assert compare() == 1
    assert capsys.readouterr().err.endswith(f"because of: {name}.\n")


def test_a_missing_bucket_is_refused_and_named(capsys: Capsys) -> None:
    """A bucket that was not measured did not pass."""
    buckets = dropped(0)
    del buckets["d.b42"]
    write_files(baseline_json(dropped(0)), candidate_json(buckets))
    assert compare() == 1
    assert capsys.readouterr().err.endswith("because of: d.b42.\n")


def test_a_bucket_without_a_floor_is_shown_and_passes(capsys: Capsys) -> None:
    """The gate ignores it, but the report does not hide it."""
    write_files(baseline_json(), candidate_json({"half.a": bucket(90, 100), "new.x": bucket(0, 9)}))
    assert compare() == 0
    assert "new.x" in capsys.readouterr().out


def test_accuracies_without_counts_are_compared_exactly() -> None:
    """From 0.81 to 0.79 is exactly two points; to 0.7899 is more."""
    floor = {"d.a": {"accuracy": 0.81, "n": 240}}
    write_files(baseline_json(floor), candidate_json({"d.a": {"accuracy": 0.79, "n": 240}}))
    assert compare() == 0
    write_files(baseline_json(floor), candidate_json({"d.a": {"accuracy": 0.7899, "n": 240}}))
    assert compare() == 1


GOOD = json.dumps(baseline_json()).encode()
FINE = json.dumps(candidate_json()).encode()


@pytest.mark.parametrize(
    ("baseline", "candidate", "message"),
    [
        pytest.param(GOOD, FINE.replace(b"0.9", b"NaN"), "c.json: NaN", id="NaN"),
        pytest.param(GOOD, FINE.replace(b"0.9", b"1e999"), "c.json", id="1e999"),
        pytest.param(
            GOOD, FINE.replace(b"0.9", b"0.95"), "disagree", id="accuracy and counts disagree"
        ),
        pytest.param(
            GOOD,
            FINE.replace(b'"n": 100', b'"n": 100, "n": 9'),
            "duplicate key 'n'",
            id="duplicate key",
        ),
        pytest.param(
            GOOD, candidate_json(eval_set_dvc_hash="0" * 32), "dvc_hash", id="different hash"
        ),
        pytest.param(GOOD, candidate_json({"half.a": bucket(9, 10)}), "n = 10", id="different n"),
        pytest.param(GOOD, candidate_json({}), "buckets", id="no buckets"),
        pytest.param(GOOD, b"", "not JSON", id="empty"),
        pytest.param(GOOD, FINE[:-1], "not JSON", id="truncated"),
        pytest.param(GOOD, b"[" * 99_999, "nested", id="deeply nested"),
        pytest.param(GOOD, b"\xff" + FINE, "UTF-8", id="not UTF-8"),
        pytest.param(baseline_json(tolerance_pp=2), FINE, "write 0.02", id="tolerance 2"),
        pytest.param(GOOD.replace(b"0.02", b"9" * 400), FINE, "tolerance_pp", id="tolerance huge"),
        pytest.param(baseline_json(tolerance_pp="0.02"), FINE, "tolerance_pp", id="tolerance text"),
        pytest.param(baseline_json(force=True), FINE, "'force'", id="force"),
        pytest.param(baseline_json({}), FINE, "buckets", id="no floors"),
    ],
)
def test_an_invalid_file_is_exit_code_2_and_one_paragraph(
    capsys: Capsys, baseline: Any, candidate: Any, message: str
) -> None:
    """The candidate neither passes nor is refused, and there is no traceback."""
    write_files(baseline, candidate)
    assert compare() == 2
    assert message in one_paragraph(capsys)


@pytest.mark.parametrize(
    ("n", "code"), [(2**53 - 1, 0), (2**53, 2), (10**400, 2)], ids=["largest", "too large", "huge"]
)
def test_counts_must_fit_a_double(capsys: Capsys, n: int, code: int) -> None:
    """The statistics beside the verdict are doubles, and no count may break them."""
    buckets = {"d.a": {"accuracy": 1, "n": n, "correct": n}}
    write_files(baseline_json(buckets), candidate_json(buckets))
    assert compare() == code
    assert code == 0 or "whole number" in one_paragraph(capsys)


@pytest.mark.parametrize(
    "tolerance", ["0.03", "0", "2", "0.0200001", "x", "", "nan", "inf", "-0.02", "1e-9999999999"]
)
def test_a_tolerance_that_differs_from_the_baselines_is_an_error(
    capsys: Capsys, tolerance: str
) -> None:
    """Even a stricter tolerance is refused, because only the committed rule applies."""
    write_files(baseline_json(), candidate_json())
    assert compare(f"--tolerance={tolerance}") == 2
    assert "--tolerance" in one_paragraph(capsys)


@pytest.mark.parametrize("missing", ["b.json", "c.json"])
@pytest.mark.parametrize("how", ["missing", "a folder", "below a file"])
def test_a_missing_file_is_bad_input(capsys: Capsys, missing: str, how: str) -> None:
    """No baseline means no promotion, even the first time."""
    write_files(baseline_json(), candidate_json())
    Path(missing).unlink()
    if how == "a folder":
        Path(missing).mkdir()
    names = {"c.json": "c.json", "b.json": "b.json"}
    if how == "below a file":
        Path("file").write_text("x")
        names[missing] = f"file/{missing}"
    arguments = ["--candidate", names["c.json"], "--baseline", names["b.json"]]
    assert main(["compare-baseline", *arguments]) == 2
    assert missing in one_paragraph(capsys)


def test_a_refusal_also_writes_the_report(capsys: Capsys) -> None:
    """The file's suffix selects Markdown or HTML."""
    write_files(baseline_json(dropped(0)), candidate_json(dropped(3)))
    assert compare("--report", "new/report.md") == 1
    text = Path("new/report.md").read_text()
    assert all(name in text for name in FLOORS)
    assert compare("--report", "report.html") == 1
    assert "<html" in Path("report.html").read_text()


def test_a_report_in_an_unknown_format_is_bad_input(capsys: Capsys) -> None:
    """Nothing that looks like a verdict is printed."""
    write_files(baseline_json(), candidate_json())
    assert compare("--report", "report.pdf") == 2
    assert "report.pdf" in one_paragraph(capsys)


def test_a_report_that_cannot_be_written_is_a_system_failure(capsys: Capsys) -> None:
    """Exit code 3 can't be mistaken for a verdict of the gate."""
    write_files(baseline_json(), candidate_json())
    Path("file").write_text("x")
    assert compare("--report", "file/report.md") == 3
    assert "file/report.md" in one_paragraph(capsys)


def test_json_prints_the_verdict(capsys: Capsys) -> None:
    """The exit code still reports the verdict."""
    write_files(baseline_json(dropped(0)), candidate_json(dropped(3)))
    assert compare("--json") == 1
    verdict = json.loads(capsys.readouterr().out)
    assert verdict["passed"] is False
    assert set(verdict["failed"]) == set(verdict["buckets"]) == set(FLOORS)
