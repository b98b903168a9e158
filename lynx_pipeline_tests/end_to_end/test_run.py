"""``run``: the command with which people evaluate and promote a candidate."""

import json
import shutil
import signal
import subprocess
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest

from lynx_pipeline_tests.end_to_end.conftest import Demo, Place, files_in

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A copy of the demo's state. Its candidates were evaluated before."""
    return demo.copy(tmp_path_factory.mktemp("run") / "home")


def test_a_good_candidate_is_promoted(place: Place, demo: Demo) -> None:
    """The steps report on standard error, one line each; the table and the result follow."""
    done = place.lynx("run", demo.good, "v0.5.0-dev")
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stderr.splitlines()] == [
        "Candidate",
        "Eval",
        "Reused",
        "PASSED:",
        "Promoted:",
    ]
    assert "PASSED: all 28 buckets kept their floor.\n" in done.stdout
    assert "PROMOTED: grammar-tutor v0.5.0-dev is " in done.stdout.splitlines()[-1]
    again = place.lynx("run", demo.good, "v0.5.0-dev", "--json")
    found = json.loads(again.stdout)
    assert (again.returncode, found["exit_code"], found["is_new"]) == (0, 0, False)
    assert (found["promotion"]["semver"], found["verdict"]["passed"]) == ("v0.5.0-dev", True)


def test_a_bad_candidate_is_refused(place: Place, demo: Demo, tmp_path: Path) -> None:
    """Also from a subfolder. No byte of the registry changes, and the refusal is the last line."""
    before = files_in(place.registry)
    done = subprocess.run(
        ["lynx-pipeline", "run", demo.bad, "v0.5.1-dev", "--junit", str(tmp_path / "junit.xml")],
        cwd=place.root / "docs",
        env={**place.environ, "LYNX_HOME": str(place.home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "REFUSED: 12 of 28 buckets fell below their floor.\n" in done.stdout
    last = done.stderr.splitlines()[-1]
    assert last.startswith("lynx-pipeline: the gate refused because of: verb.do, ")
    assert last.endswith("person.3sg. Nothing was changed.")
    assert "Traceback" not in done.stderr + done.stdout
    assert "expected '" in done.stdout
    assert files_in(place.registry) == before
    suite = ElementTree.parse(tmp_path / "junit.xml").getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("28", "12", "0")


def test_a_workflow_shows_no_expected_answers(place: Place, demo: Demo, tmp_path: Path) -> None:
    """Neither in its log nor in its summary, which strangers may read."""
    summary = tmp_path / "summary.md"
    variables = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(summary)}
    done = subprocess.run(
        ["lynx-pipeline", "run", demo.bad],
        cwd=place.root,
        env={**place.environ, "LYNX_HOME": str(place.home), **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "REFUSED: 12 of 28 buckets" in done.stdout
    assert "expected '" not in done.stdout
    text = summary.read_text()
    assert "| prompt | candidate |\n" in text
    assert "leaves out the expected answers" in text


def test_prod_is_not_changed_by_this_command(place: Place, demo: Demo) -> None:
    """The identity policy refuses. The reason says only once that nothing was changed."""
    done = place.with_variables(LYNX_ENV="prod").lynx("run", demo.good, "v0.5.0")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].count("Nothing was changed.") == 1


def test_without_a_version_nothing_is_promoted(place: Place, demo: Demo) -> None:
    """The candidate is only evaluated, and the exit code is the gate's."""
    before = files_in(place.registry)
    for candidate, code in ((demo.good, 0), (demo.bad, 1)):
        found = place.lynx("run", candidate, "--json")
        assert found.returncode == code
        assert json.loads(found.stdout)["exit_code"] == code
    assert files_in(place.registry) == before


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["0" * 32], 2, "not found in MLflow"),
        (["RUN", "v1"], 2, "expected vX.Y.Z-dev"),
        (["RUN", "--model", "other"], 2, "has 0 models named 'other'"),
    ],
)
def test_a_mistake_is_reported_before_dagster_runs(
    place: Place, demo: Demo, arguments: list[str], code: int, message: str
) -> None:
    """One paragraph and the usual exit code; no run appears in Dagster."""
    with place.instance() as instance:
        before = instance.get_runs_count()
    done = place.lynx("run", *(each.replace("RUN", demo.good) for each in arguments))
    assert (done.returncode, done.stdout) == (code, "")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    with place.instance() as instance:
        assert instance.get_runs_count() == before


def test_an_interrupted_run_says_so(demo: Demo, tmp_path: Path) -> None:
    """Ctrl+C ends it with the exit code of a failed system, without a traceback."""
    place, log = demo.copy(tmp_path / "home"), tmp_path / "log"
    shutil.rmtree(place.evidence(demo.good))  # so that it takes seconds after the first line
    process = place.start("lynx-pipeline", "run", demo.good, log=log)
    while process.poll() is None and b"Candidate" not in log.read_bytes():
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 3
    text = log.read_text()
    assert text.splitlines()[-1].startswith("lynx-pipeline: interrupted. ")
    assert "Traceback" not in text


def test_a_broken_step_is_no_refusal(place: Place, demo: Demo, tmp_path: Path) -> None:
    """The exit code tells them apart, and the JUnit file has an error instead of a verdict."""
    file = place.home / "candidates" / demo.bad / "evidence"
    shutil.rmtree(file)
    file.write_text("in the way")
    junit = tmp_path / "junit.xml"
    done = place.lynx("run", demo.bad, "--junit", str(junit))
    assert done.returncode == 3
    assert str(file) in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    suite = ElementTree.parse(junit).getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("1", "0", "1")
