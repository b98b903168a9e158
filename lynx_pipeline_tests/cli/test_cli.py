"""The command line: exit codes, one paragraph for an error, and what it costs to start."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lynx_pipeline.adapters.ledgers.directory import DirectoryLedger
from lynx_pipeline.cli import main
from lynx_pipeline.config import Settings
from lynx_pipeline.registry import registry
from lynx_pipeline.sandbox.inside import worker
from lynx_pipeline_tests.support.builders import (
    PROMOTED,
    RUN,
    SHA,
    baseline_json,
    bucket,
    bundle,
    candidate_json,
    eval_items,
    fact,
    jsonl,
    project,
)

Capsys = pytest.CaptureFixture[str]
# Right answers out of 100 in each of 99 buckets, from next to none to all.
FLOORS = {f"d.b{k:02d}": 3 + k % 98 for k in range(99)}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder that is no project."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(baseline: Any, candidate: Any) -> None:
    """The two files; text and bytes as they are, the rest as JSON."""
    for name, value in (("b.json", baseline), ("c.json", candidate)):
        raw = value if isinstance(value, bytes) else json.dumps(value).encode()
        Path(name).write_bytes(raw)


def compare(*arguments: str) -> int:
    """The gate on the two files."""
    return main(["compare-baseline", "--candidate", "c.json", "--baseline", "b.json", *arguments])


def dropped(points: int) -> dict[str, Any]:
    """All buckets, each ``points`` right answers below its floor."""
    return {name: bucket(k - points, 100) for name, k in FLOORS.items()}


def one_paragraph(capsys: Capsys) -> str:
    """What was said on standard error, which has to be one paragraph and all there is."""
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("lynx-pipeline: ")
    assert err.endswith("\n")
    assert "\n" not in err[:-1]
    assert "Traceback" not in err
    return err


# ----- compare-baseline ---------------------------------------------------------------------


def test_every_bucket_exactly_on_the_tolerance_passes(capsys: Capsys) -> None:
    """With doubles, most of these would be refused."""
    write(baseline_json(dropped(0)), candidate_json(dropped(2)))
    assert compare() == 0
    assert capsys.readouterr().err == ""
    assert compare("--tolerance", "0.02") == 0
    assert compare("--tolerance", "2e-2") == 0


def test_one_item_more_fails_every_bucket_by_name(capsys: Capsys) -> None:
    """All 99 of them."""
    write(baseline_json(dropped(0)), candidate_json(dropped(3)))
    assert compare() == 1
    out, err = capsys.readouterr()
    assert all(f" {name}" in err for name in FLOORS)
    assert all(name in out for name in FLOORS)
    assert err.count("\n") == 1


@pytest.mark.parametrize("name", ["d.b00", "d.b50", "d.b98"])
def test_one_item_in_one_bucket_is_enough(capsys: Capsys, name: str) -> None:
    """Whatever the other 98 gained."""
    buckets = {**{n: bucket(100, 100) for n in FLOORS}, name: bucket(FLOORS[name] - 3, 100)}
    write(baseline_json(dropped(0)), candidate_json(buckets))
    assert compare() == 1
    assert capsys.readouterr().err.endswith(f"because of: {name}.\n")


def test_a_missing_bucket_is_refused_and_named(capsys: Capsys) -> None:
    """It was not measured, so it did not pass."""
    buckets = dropped(0)
    del buckets["d.b42"]
    write(baseline_json(dropped(0)), candidate_json(buckets))
    assert compare() == 1
    assert capsys.readouterr().err.endswith("because of: d.b42.\n")


def test_a_bucket_without_a_floor_is_shown_and_passes(capsys: Capsys) -> None:
    """Not gated is not hidden."""
    write(baseline_json(), candidate_json({"half.a": bucket(90, 100), "new.x": bucket(0, 9)}))
    assert compare() == 0
    assert "new.x" in capsys.readouterr().out


def test_no_floats_where_only_digits_are_given() -> None:
    """0.81 to 0.79 is two points; 0.7899 is more."""
    floor = {"d.a": {"accuracy": 0.81, "n": 240}}
    write(baseline_json(floor), candidate_json({"d.a": {"accuracy": 0.79, "n": 240}}))
    assert compare() == 0
    write(baseline_json(floor), candidate_json({"d.a": {"accuracy": 0.7899, "n": 240}}))
    assert compare() == 1


GOOD = json.dumps(baseline_json()).encode()
FINE = json.dumps(candidate_json()).encode()


@pytest.mark.parametrize(
    ("baseline", "candidate", "says"),
    [
        pytest.param(GOOD, FINE.replace(b"0.9", b"NaN"), "c.json: NaN", id="NaN"),
        pytest.param(GOOD, FINE.replace(b"0.9", b"1e999"), "c.json", id="1e999"),
        pytest.param(GOOD, FINE.replace(b"0.9", b"0.95"), "disagree", id="accuracy lies"),
        pytest.param(
            GOOD,
            FINE.replace(b'"n": 100', b'"n": 100, "n": 9'),
            "duplicate key 'n'",
            id="key twice",
        ),
        pytest.param(GOOD, candidate_json(eval_set_dvc_hash="0" * 32), "dvc_hash", id="other hash"),
        pytest.param(GOOD, candidate_json({"half.a": bucket(9, 10)}), "n = 10", id="other n"),
        pytest.param(GOOD, candidate_json({}), "buckets", id="no buckets"),
        pytest.param(GOOD, b"", "not JSON", id="empty"),
        pytest.param(GOOD, FINE[:-1], "not JSON", id="cut"),
        pytest.param(GOOD, b"[" * 99_999, "nested", id="deep"),
        pytest.param(GOOD, b"\xff" + FINE, "UTF-8", id="not UTF-8"),
        pytest.param(baseline_json(tolerance_pp=2), FINE, "write 0.02", id="tolerance 2"),
        pytest.param(GOOD.replace(b"0.02", b"9" * 400), FINE, "tolerance_pp", id="tolerance huge"),
        pytest.param(baseline_json(tolerance_pp="0.02"), FINE, "tolerance_pp", id="tolerance text"),
        pytest.param(baseline_json(force=True), FINE, "'force'", id="force"),
        pytest.param(baseline_json({}), FINE, "buckets", id="no floors"),
    ],
)
def test_bad_input_is_exit_code_2_and_one_paragraph(
    capsys: Capsys, baseline: Any, candidate: Any, says: str
) -> None:
    """Neither passed nor refused, and no traceback."""
    write(baseline, candidate)
    assert compare() == 2
    assert says in one_paragraph(capsys)


@pytest.mark.parametrize(
    ("n", "code"), [(2**53 - 1, 0), (2**53, 2), (10**400, 2)], ids=["most", "more", "huge"]
)
def test_counts_are_what_a_double_can_hold(capsys: Capsys, n: int, code: int) -> None:
    """The figures beside the verdict are doubles; no count may break them."""
    buckets = {"d.a": {"accuracy": 1, "n": n, "correct": n}}
    write(baseline_json(buckets), candidate_json(buckets))
    assert compare() == code
    assert code == 0 or "whole number" in one_paragraph(capsys)


@pytest.mark.parametrize(
    "tolerance", ["0.03", "0", "2", "0.0200001", "x", "", "nan", "inf", "-0.02", "1e-9999999999"]
)
def test_another_tolerance_is_an_error(capsys: Capsys, tolerance: str) -> None:
    """Not even a stricter one: there is one rule, and it is committed."""
    write(baseline_json(), candidate_json())
    assert compare(f"--tolerance={tolerance}") == 2
    assert "--tolerance" in one_paragraph(capsys)


@pytest.mark.parametrize("missing", ["b.json", "c.json"])
@pytest.mark.parametrize("how", ["missing", "a folder", "below a file"])
def test_a_missing_file_is_bad_input(capsys: Capsys, missing: str, how: str) -> None:
    """No baseline means no promotion, first time or not."""
    write(baseline_json(), candidate_json())
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


def test_a_report_is_written_for_a_refusal_too(capsys: Capsys) -> None:
    """It is what the pull request shows."""
    write(baseline_json(dropped(0)), candidate_json(dropped(3)))
    assert compare("--report", "new/report.md") == 1
    text = Path("new/report.md").read_text()
    assert all(name in text for name in FLOORS)
    assert compare("--report", "report.html") == 1
    assert "<html" in Path("report.html").read_text()


def test_a_report_of_another_kind_is_bad_input(capsys: Capsys) -> None:
    """Before anything is printed that looks like a verdict."""
    write(baseline_json(), candidate_json())
    assert compare("--report", "report.pdf") == 2
    assert "report.pdf" in one_paragraph(capsys)


def test_a_report_that_cannot_be_written_is_the_system_failing(capsys: Capsys) -> None:
    """Exit code 3: the gate itself said nothing."""
    write(baseline_json(), candidate_json())
    Path("file").write_text("x")
    assert compare("--report", "file/report.md") == 3
    assert "file/report.md" in one_paragraph(capsys)


def test_json_is_data(capsys: Capsys) -> None:
    """And the exit code is still the verdict."""
    write(baseline_json(dropped(0)), candidate_json(dropped(3)))
    assert compare("--json") == 1
    said = json.loads(capsys.readouterr().out)
    assert said["passed"] is False
    assert set(said["failed"]) == set(said["buckets"]) == set(FLOORS)


# ----- usage, errors, environment -----------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        *([], ["nothing"], ["compare-baseline"], ["compare-baseline", "--force"], ["registry"]),
        *(["registry", "promote", SHA], ["registry", "list", "--env", "staging"]),
        *(["registry", "promote", SHA, "v0.1.0-dev", "--force"], ["minieval"]),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_exit_code_2(capsys: Capsys, arguments: list[str]) -> None:
    """There is no force flag either."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_debug_shows_the_traceback(capsys: Capsys) -> None:
    """For whoever mends the pipeline; the exit code is the same."""
    assert main(["--debug", "compare-baseline", "--candidate", "x", "--baseline", "y"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("Traceback")
    assert "\nlynx-pipeline: no baseline: " in err


def test_a_bug_keeps_its_traceback_and_does_not_say_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: Capsys
) -> None:
    """Python would exit with 1, which is the gate's no."""

    def broken(version: str) -> None:
        raise ZeroDivisionError(version)

    monkeypatch.setattr(registry, "resolve", broken)
    assert main(["registry", "resolve"]) == 3
    assert "ZeroDivisionError: latest" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        ["registry", "register", RUN],
        ["request", "--run-id", RUN, "--semver", "v0.1.0-dev"],
        ["ci", "prepare", RUN, "--output", "run.yaml"],
    ],
    ids=" ".join,
)
def test_a_state_folder_that_cannot_be_made_is_a_system_failure(
    here: Path, command: list[str]
) -> None:
    """Where it should have been, in the one paragraph on standard error beside warnings."""
    project(here / "p")
    (here / "p" / "dagster.yaml").write_text("")
    (here / "file").write_text("")
    done = subprocess.run(
        [sys.executable, "-m", "lynx_pipeline", *command],
        cwd=here / "p",
        env={**os.environ, "LYNX_HOME": str(here / "file" / "home")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3
    errors = [line for line in done.stderr.splitlines() if "WARNING" not in line]
    assert len(errors) == 1
    assert errors[0].startswith(f"lynx-pipeline: the folder {here}/file/home")
    assert "Not a directory" in errors[0]


def test_what_only_the_system_knows_of_is_a_system_failure(here: Path, capsys: Capsys) -> None:
    """The file, what the system says of it, and what to do."""
    name = "e" * 300
    command = ["minieval", "--bundle", "b", "--eval-set", name, "--output", "o"]
    assert main(command) == 3
    assert f"{here}/{name}: File name too long. Check that" in one_paragraph(capsys)
    here.rmdir()
    assert main(["registry", "list"]) == 3
    assert "No such file or directory" in one_paragraph(capsys)


@pytest.mark.parametrize("value", ["Prod", "prod ", "", "staging"])
@pytest.mark.parametrize(
    "arguments",
    [
        ["registry", "resolve"],
        ["registry", "list"],
        ["registry", "verify"],
        ["registry", "promote", SHA, "v0.1.0-dev"],
        ["registry", "register", RUN],
        ["registry", "rollback", "v0.1.0-dev"],
        ["request", "--run-id", RUN, "--semver", "v0.1.0-dev"],
        ["minieval", "--bundle", "b", "--eval-set", "e", "--output", "o"],
        ["gate", "power"],
        ["demo"],
    ],
    ids=" ".join,
)
def test_an_unknown_environment_is_bad_input(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capsys, value: str, arguments: list[str]
) -> None:
    """Before anything happens."""
    project(here / "p")
    monkeypatch.chdir(here / "p")
    monkeypatch.setenv("LYNX_ENV", value)
    assert main(arguments) == 2
    assert "LYNX_ENV" in one_paragraph(capsys)


def test_outside_a_project_it_says_so(capsys: Capsys) -> None:
    """With where it looked."""
    assert main(["registry", "list"]) == 2
    assert "no project here" in one_paragraph(capsys)


# ----- registry -----------------------------------------------------------------------------


@pytest.fixture
def promoted(here: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A project with two promotions in dev; the working folder is in it."""
    settings = project(here / "p")
    monkeypatch.chdir(here / "p")
    assert isinstance(settings.registry, Path)
    store = DirectoryLedger(settings.registry)
    for number in (1, 2):
        new = fact(event=PROMOTED, semver=f"v0.{number}.0-dev", canonical_sha=f"{number}" * 64)
        store.append(lambda _, new=new: new)  # type: ignore[misc]
    return settings


def test_resolve_says_what_a_serving_process_needs(promoted: Settings, capsys: Capsys) -> None:
    """For latest, for a version, as lines and as JSON."""
    assert main(["registry", "resolve", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "model": "tiny",
        "semver": "v0.2.0-dev",
        "canonical_sha": "2" * 64,
        "mlflow_run_id": RUN,
        "artifact_uri": f"runs:/{RUN}/model",
    }
    assert main(["registry", "resolve", "v0.1.0-dev"]) == 0
    assert f"canonical_sha: {'1' * 64}" in capsys.readouterr().out
    assert main(["registry", "resolve", "v0.3.0-dev"]) == 1
    assert "never promoted" in one_paragraph(capsys)


def test_rollback_list_show_and_verify(promoted: Settings, capsys: Capsys) -> None:
    """A rollback is seen in all of them."""
    assert main(["registry", "rollback", "v0.1.0-dev"]) == 0
    assert main(["registry", "rollback", "v0.9.0-dev"]) == 1
    capsys.readouterr()
    assert main(["registry", "list", "--json"]) == 0
    events = [entry["event"] for entry in json.loads(capsys.readouterr().out)]
    assert events == ["promoted", "promoted", "rolled_back"]
    assert main(["registry", "list", "--env", "prod", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert main(["registry", "list"]) == 0
    assert capsys.readouterr().out.count("WITHOUT EVIDENCE") == 2
    assert main(["registry", "show", "v0.1.0-dev"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 2
    assert main(["registry", "show", "v0.9.0-dev"]) == 1
    capsys.readouterr()
    assert main(["registry", "verify"]) == 0
    assert "3 entries" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["verify", "list", "resolve", "show v0.1.0-dev"])
def test_a_damaged_registry_is_bad_input(promoted: Settings, capsys: Capsys, command: str) -> None:
    """The line is named."""
    assert isinstance(promoted.registry, Path)
    file = promoted.registry / "index.jsonl"
    file.write_bytes(file.read_bytes().replace(b"v0.1.0-dev", b"v0.7.0-dev"))
    assert main(["registry", *command.split()]) == 2
    assert "index.jsonl, line 1" in one_paragraph(capsys)


@pytest.mark.filterwarnings("ignore")
def test_the_escape_hatch_warns_on_standard_error(promoted: Settings, capsys: Capsys) -> None:
    """Also when it then refuses, and when warnings are filtered away."""
    assert main(["registry", "promote", SHA, "v0.3.0-dev"]) == 1
    err = capsys.readouterr().err
    assert "WARNING: THIS IS NOT THE CI PATH" in err
    assert "is not registered" in err


@pytest.mark.parametrize(
    "command",
    [
        f"promote {SHA} v0.3.0",
        f"promote {SHA} v0.3.0 --evidence .",
        f"register {RUN}",
        "rollback v0.3.0",
    ],
)
def test_in_prod_every_write_is_refused(
    promoted: Settings, monkeypatch: pytest.MonkeyPatch, capsys: Capsys, command: str
) -> None:
    """With exit code 1, whatever CI the caller says to be."""
    monkeypatch.setenv("LYNX_ENV", "prod")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert main(["registry", *command.split()]) == 1
    assert "verified identity" in capsys.readouterr().err


HEAVY = "dagster mlflow dvc pandas numpy pyarrow scipy yaml rich jinja2"


@pytest.mark.parametrize(
    "arguments",
    [["registry", "resolve"], ["registry", "list"], ["registry", "verify"]],
    ids=" ".join,
)
def test_reading_the_registry_imports_nothing_heavy(
    promoted: Settings, arguments: list[str]
) -> None:
    """A serving process waits for it at every start."""
    code = f"import sys\nfrom lynx_pipeline.cli import main\nassert main({arguments!r}) == 0\n"
    code += "print(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stderr.split()) & set(HEAVY.split()) == set()


def test_the_module_runs_as_a_program(promoted: Settings) -> None:
    """``python -m lynx_pipeline`` is the console script, exit code and all."""
    command = [sys.executable, "-m", "lynx_pipeline", "registry", "resolve", "v9.9.9-dev"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("lynx-pipeline: 'v9.9.9-dev' was never promoted")


# ----- minieval and request -----------------------------------------------------------------

SPEAKS = """
import json, sys
print(json.dumps({"ready": 0.5}), flush=True)
for line in sys.stdin:
    batch = json.loads(line)
    answers = [p.removeprefix("Say ") for p in batch["prompts"]]
    answer = {"ids": batch["ids"], "predictions": answers, "seconds": 0.1, "peak_mib": 1}
    print(json.dumps(answer), flush=True)
"""


def test_minieval_needs_no_project(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capsys
) -> None:
    """A bundle and an eval set are all it takes, and the gate reads what it writes."""
    (here / "script.py").write_text(SPEAKS)
    monkeypatch.setattr(worker, "__file__", str(here / "script.py"))
    bundle(here / "bundle")
    Path("e.jsonl").write_bytes(jsonl(eval_items()))
    command = ["minieval", "--bundle", "bundle", "--eval-set", "e.jsonl", "--output", "o/c.json"]
    assert main(command) == 0
    assert "12 of 12 right" in capsys.readouterr().out
    measured = json.loads(Path("o/c.json").read_bytes())
    kept = {key: measured[key] for key in ("eval_set_dvc_hash", "eval_set_sha256", "buckets")}
    write(baseline_json(**kept), measured)
    assert compare() == 0
    assert {path.name for path in Path("o").iterdir()} == {
        "c.json",
        "predictions.parquet",
        "timings.parquet",
    }


@pytest.mark.parametrize(
    ("bundle_name", "eval_text", "says"),
    [
        pytest.param("none", jsonl(eval_items()), "no bundle", id="no bundle"),
        pytest.param("empty", jsonl(eval_items()), "no MLmodel", id="no model"),
        pytest.param("bundle", b"", "no items", id="empty eval set"),
        pytest.param("bundle", b"{}", "line 1", id="no eval set"),
        pytest.param("bundle", None, "e.jsonl", id="missing eval set"),
    ],
)
def test_minieval_refuses_what_it_cannot_use(
    here: Path, capsys: Capsys, bundle_name: str, eval_text: bytes | None, says: str
) -> None:
    """And writes nothing."""
    bundle(here / "bundle")
    (here / "empty").mkdir()
    if eval_text is not None:
        Path("e.jsonl").write_bytes(eval_text)
    command = ["minieval", "--bundle", bundle_name, "--eval-set", "e.jsonl", "--output", "o/c.json"]
    assert main(command) == 2
    assert says in one_paragraph(capsys)
    assert not Path("o").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param([], id="nothing"),
        pytest.param(["--run-id", RUN], id="no version"),
        pytest.param(["--semver", "v0.1.0-dev"], id="no run"),
        pytest.param(["--from-comment", "comment", "--run-id", RUN], id="both"),
        pytest.param(["--from-comment", "comment"], id="a comment without a request"),
        pytest.param(["--from-comment", "missing"], id="no comment"),
        pytest.param(["--run-id", RUN, "--semver", "v0.1.0"], id="a prod version in dev"),
        pytest.param(["--run-id", RUN, "--semver", "$(id)"], id="a shell command"),
    ],
)
def test_a_request_that_is_none_is_refused(
    promoted: Settings, capsys: Capsys, arguments: list[str]
) -> None:
    """Before MLflow is asked."""
    Path("comment").write_text("please deploy\n")
    assert main(["request", *arguments]) == 2
    one_paragraph(capsys)
