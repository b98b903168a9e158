"""Two gates in somebody else's Dagster project: the page "In your own Dagster project", command by
command."""

import json
import shlex
from pathlib import Path

import pytest
from dagster import RunsFilter

from lynx_pipeline_tests.conftest import Tracking
from lynx_pipeline_tests.end_to_end.conftest import files_in
from lynx_pipeline_tests.end_to_end.test_docs import blocks
from lynx_pipeline_tests.support.builders import GOOD, bundle, eval_items, project
from lynx_pipeline_tests.support.dagster_project import DagsterProject

pytestmark = pytest.mark.slow

PAGE = "docs/component.md"
WRONG = "return ['wrong' for _ in prompts]"


@pytest.fixture
def acme(tmp_path: Path, tracking: Tracking) -> DagsterProject:
    """The project, without a gate, and beside it the projects of two models."""
    for name, items in (("tutor", 12), ("quiz", 6)):
        settings = project(tmp_path / "models" / name, eval_items(items))
        file = settings.root / "pyproject.toml"
        file.write_text(file.read_text().replace('"tiny"', f'"{name}"'))
    return DagsterProject.new(tmp_path / "acme", MLFLOW_TRACKING_URI=tracking.uri)


def typed(acme: DagsterProject, command: str, code: int = 0, **words: str) -> str:
    """Type a command of the page; returns its whole output."""
    for word, value in words.items():
        command = command.replace(word, value)
    done = acme.run(*shlex.split(command))
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def shell_blocks() -> list[list[str]]:
    """The lines of each shell block."""
    return [text.splitlines() for language, text in blocks(PAGE) if language == "shell"]


@pytest.mark.slow(seconds=150)
def test_two_gates_in_one_dagster_project(
    acme: DagsterProject, tracking: Tracking, tmp_path: Path
) -> None:
    """One promotes, the other refuses, each in its own project. The project's own assets, which
    have the same names, are untouched."""
    (list_components,), scaffold, (add, launch) = shell_blocks()
    assert "lynx_pipeline.component.DeployGate" in typed(acme, list_components)
    for command in scaffold:
        assert "Traceback" not in typed(acme, command)
    (shown,) = (text for language, text in blocks(PAGE) if language == "yaml")
    assert (acme.root / "src/acme/defs/tutor/defs.yaml").read_text().strip() == shown.strip()

    tutor, quiz = (tmp_path / "models" / name for name in ("tutor", "quiz"))
    before = files_in(quiz)
    good = tracking.run({"model": bundle(tmp_path / "good", body=GOOD)})
    bad = tracking.run({"model": bundle(tmp_path / "bad", body=WRONG)})
    typed(acme, add, RUN_ID=good)
    assert "Promoted: tutor v0.1.0-dev, ledger entry 1." in typed(acme, launch, RUN_ID=good)
    assert files_in(quiz) == before
    promoted = files_in(tutor / ".lynx/registry")

    def of_quiz(command: str) -> str:
        return command.replace("tutor", "quiz").replace("RUN_ID", bad)

    typed(acme, of_quiz(add))
    assert "REFUSED: 3 of 3 buckets fell below their floor." in typed(acme, of_quiz(launch), 1)
    # The promotion alone, with the project's own executor, is refused as well.
    alone = of_quiz(launch).replace(
        "--job quiz_eval_and_promote", "--assets quiz/promotion_decision"
    )
    output = typed(acme, alone, 1)
    assert "using multiprocess executor" in output
    assert "the gate refused: 3 of 3 buckets" in output
    assert not (quiz / ".lynx/registry/index.jsonl").exists()
    assert files_in(tutor / ".lynx/registry") == promoted

    with acme.instance() as instance:
        assert instance.get_dynamic_partitions("tutor_candidates") == [good]
        assert instance.get_dynamic_partitions("quiz_candidates") == [bad]
        instance.add_dynamic_partitions("candidates", ["monday"])
        ended = [
            (it.job_name, it.tags.get("lynx.outcome"), it.tags.get("lynx.semver"))
            for it in reversed(instance.get_runs(RunsFilter()))
        ]
    assert ended == [
        ("tutor_eval_and_promote", "promoted", "v0.1.0-dev"),
        ("quiz_eval_and_promote", "refused", "v0.1.0-dev"),
        ("__ASSET_JOB", None, None),
    ]
    tags = json.dumps({"dagster/partition": "monday"})
    own = acme.run("dagster", "job", "execute", "-m", "acme.definitions", "-j", "evaluate",
                   "--tags", tags)  # fmt: skip
    assert own.returncode == 0, own.stderr
    assert "monday in Ghent" in own.stderr
    assert "using multiprocess executor" in own.stderr
