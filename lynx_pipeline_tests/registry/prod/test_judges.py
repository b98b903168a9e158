"""The paths whose change stops a promotion: all that matter are named, and a change is noticed."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace

import pytest

from lynx_pipeline.adapters import git_files
from lynx_pipeline.config import load_settings
from lynx_pipeline.errors import Refused
from lynx_pipeline.registry.judges import check_judges
from lynx_pipeline_tests.registry.prod.conftest import PYPROJECT, Prod
from lynx_pipeline_tests.simulators.actions.stage import WORKFLOW
from lynx_pipeline_tests.support import REPO
from lynx_pipeline_tests.support.fake_issuer import policy

pytestmark = pytest.mark.slow

LIST = 'judges = [".github"]'


def commit(prod: Prod, judges: Sequence[str], files: Sequence[str]) -> str:
    """Commit these files and this list, and run the job for that commit."""
    for name in files:
        file = prod.root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{name}\n")
    prod.edit(PYPROJECT, LIST, f"judges = {json.dumps(judges)}")
    made = prod.commit()
    prod.issue_tokens_for_head()
    return made


@pytest.mark.parametrize(
    ("judges", "files", "changed"),
    [
        pytest.param([".github", "data"], [], ".github/CODEOWNERS", id="a new file in a folder"),
        pytest.param([".github", "src"], ["src/a/b.py"], "src/a/b.py", id="deep in a folder"),
        pytest.param([".github", "uv.lock"], ["uv.lock"], "uv.lock", id="a lock file"),
        pytest.param([".github", "a*"], ["a*"], "a*", id="a name like a pattern"),
    ],
)
def test_a_change_since_the_workflows_commit_is_a_refusal(
    prod: Prod, judges: list[str], files: list[str], changed: str
) -> None:
    """A run that is repeated weeks later has the old judges, and one that takes an hour has those
    from before a fix."""
    old = commit(prod, judges, files)
    good = prod.candidate("good")
    (prod.root / changed).write_text("as it is now\n")
    (prod.root / "abc").write_text("no judge\n")
    new = prod.commit()
    prod.git("checkout", "--quiet", old)
    with pytest.raises(Refused) as caught:
        prod.promote(good, "v0.1.0")
    assert f"to {new[:12]}, which changes {changed}: " in str(caught.value)
    assert prod.place.all() == {}


def test_a_lock_file_bumped_after_the_evaluation_is_a_refusal(prod: Prod) -> None:
    """Somebody merges another version of this package, whose gate is open, and runs the job of the
    promotion again: it checks out the old commit, and the new lock file is not what judges."""
    old = commit(prod, [".github", "requirements.lock"], ["requirements.lock"])
    good = prod.candidate("evaluated before")
    (prod.root / "requirements.lock").write_text("lynx-pipeline==9.9.9\n")
    prod.commit()
    prod.git("checkout", "--quiet", old)
    with pytest.raises(Refused, match=r"which changes requirements\.lock: "):
        prod.promote(good, "v0.1.0")
    assert prod.place.all() == {}


WORKFLOW_FILE = policy().workflow


@pytest.mark.parametrize(
    ("judges", "files", "problem", "line"),
    [
        pytest.param([], [], "is missing", [WORKFLOW_FILE], id="empty"),
        pytest.param(
            [".github", "src"],
            [],
            "names 'src', which the commit COMMIT does not have",
            [".github"],
            id="a path that is not there",
        ),
        pytest.param(
            [".github", "data", "src"],
            [],
            "names 'src', which",
            [".github", "data"],
            id="one of several that is not there",
        ),
        pytest.param(
            [".git", "data"],
            [],
            "names '.git', which",
            ["data", WORKFLOW_FILE],
            id="a folder that git does not track",
        ),
        pytest.param(
            ["data"],
            [],
            f"does not cover '{WORKFLOW_FILE}'",
            ["data", WORKFLOW_FILE],
            id="no workflow",
        ),
        *(
            pytest.param(
                [".github"], [name], f"does not cover '{name}'", [".github", name], id=name
            )
            for name in (
                *("requirements.lock", "uv.lock", "poetry.lock", "requirements-gate.txt"),
                *("pylock.toml", "pylock.gate.toml", "CODEOWNERS", "docs/CODEOWNERS"),
            )
        ),
    ],
)
def test_an_incomplete_list_is_a_refusal(
    prod: Prod, judges: list[str], files: list[str], problem: str, line: list[str]
) -> None:
    """The message has the line that helps, and with it the promotion succeeds."""
    made = commit(prod, judges, files)
    good = prod.candidate("good")
    with pytest.raises(Refused) as caught:
        prod.promote(good, "v0.1.0")
    expected = f"judges = {json.dumps(line)}"
    assert f"'judges' {problem.replace('COMMIT', made[:12])}" in str(caught.value)
    assert f"Write {expected}, " in str(caught.value)
    assert prod.place.all() == {}
    prod.edit(PYPROJECT, f"judges = {json.dumps(judges)}", expected)
    prod.commit()
    prod.issue_tokens_for_head()
    assert prod.promote(good, "v0.1.0").seq == 1


def test_lock_files_that_judge_nothing_are_left_out(prod: Prod) -> None:
    """DVC's, whose eval set is compared anyway, and those of other projects in the repository."""
    commit(prod, [".github"], ["dvc.lock", "another/requirements.lock", "notes.txt"])
    assert prod.promote(prod.candidate("good"), "v0.1.0").seq == 1


def test_an_uncommitted_list_is_not_used(prod: Prod) -> None:
    """Nor is one that git would not compare."""
    good = prod.candidate("good")
    prod.edit(PYPROJECT, LIST, f'judges = ["{WORKFLOW_FILE}"]')
    with pytest.raises(Refused, match=r"^pyproject\.toml differs from the commit"):
        prod.promote(good, "v0.1.0")
    assert prod.place.all() == {}


def test_paths_are_from_the_root_also_for_a_project_in_a_subfolder(prod: Prod) -> None:
    """Its workflow is above it. Lock files at both places count."""
    root = prod.root / "team/tutor"
    root.mkdir(parents=True)
    for name in ("pyproject.toml", "eval_baseline.json", "data"):
        shutil.move(prod.root / name, root / name)
    (prod.root / ".gitignore").write_text("registry/\n.lynx/\ndata/eval.jsonl\n")
    below = replace(prod, settings=load_settings(root, {"MLFLOW_TRACKING_URI": prod.tracking.uri}))
    old = commit(below, [".github", "team/tutor/uv.lock"], ["uv.lock"])
    good = below.candidate("good")
    (prod.root / WORKFLOW_FILE).write_text("on: push\n")
    below.commit()
    prod.git("checkout", "--quiet", old)
    with pytest.raises(Refused, match=f"which changes {WORKFLOW_FILE}: "):
        below.promote(good, "v0.1.0")
    prod.git("checkout", "--quiet", "main")
    (prod.root / "poetry.lock").touch()
    below.commit()
    below.issue_tokens_for_head()
    with pytest.raises(Refused, match=r"does not cover 'poetry\.lock'"):
        below.promote(good, "v0.1.0")


def test_this_repositorys_own_list_is_complete() -> None:
    """With every lock file, the workflow and its owners, and what installs this project."""
    settings = load_settings(REPO, {})
    check_judges(settings, policy(workflow=WORKFLOW), git_files.head(REPO))
    assert {"action.yml", "hatch_build.py", "lynx_pipeline"} <= set(settings.judges)
