"""The workflows for other repositories are this project's own, with another installation."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from lynx_pipeline.domain.release.owners import owners_of
from lynx_pipeline.errors import BadInput
from lynx_pipeline.setup.workflows import (
    FOLDER,
    Action,
    action_in,
    installed_wheel,
    owners_file,
    workflow_files,
)
from lynx_pipeline_tests.deploy_workflow.pins import OWN_ACTION
from lynx_pipeline_tests.deploy_workflow.workflow_rules import LOCKS, findings
from lynx_pipeline_tests.support import REPO

REFERENCE = f"octo-org/lynx_pipeline@{'0123456789' * 4}"


@pytest.fixture
def written(repository: Path, wheel: Path) -> Path:
    """The repository with everything."""
    for file in workflow_files(repository, "reply.router", wheel):
        file.write()
    owners_file(repository, "reply.router", "floors.json", "@octocat @hubot").write()
    return repository


def _own_installation(found: re.Match[str]) -> str:
    return f"uses: {OWN_ACTION}\n        with:\n          lock: {found[1]}"


def test_the_deploy_workflow_follows_every_rule(written: Path) -> None:
    """With its installation put back to this project's own."""
    text = (written / ".github/workflows/deploy-reply.router.yml").read_text()
    own = re.sub(rf"run: {FOLDER}/install (\S+)", _own_installation, text)
    assert list(findings(own)) == []
    assert text.startswith("# The only path to production")
    assert "name: Deploy reply.router" in text
    assert f"uses: {OWN_ACTION}" not in text
    assert "grammar" not in text


def test_the_deploy_workflow_with_the_action_follows_every_rule(repository: Path) -> None:
    """Each job names the commit, and the lock file that this project's own job installs."""
    action = Action(REFERENCE)
    files = workflow_files(repository, "reply.router", action)
    deploy, baseline = (it.content.decode() for it in files)
    form = rf"uses: {REFERENCE} # v\S+\n +with:\n +lock: (\S+)"
    assert re.findall(form, deploy) == list(LOCKS.values())
    assert re.findall(form, baseline) == ["requirements-changes.lock", "requirements.lock"]
    assert list(findings(re.sub(form, _own_installation, deploy))) == []
    assert action_in(deploy.encode()) == action
    for file in files:
        file.write()
    test_the_linters_are_content(repository)


def test_a_workflow_without_the_action_names_none(written: Path) -> None:
    text = (written / ".github/workflows/deploy-reply.router.yml").read_bytes()
    assert action_in(text) is None


@pytest.mark.parametrize(
    "reference",
    [
        *("o/r@v1", "o/r@main", "o/r", "r@" + "a" * 40, "o/r@" + "a" * 39, "o/r@" + "A" * 40),
        *("o/r/x@" + "a" * 40, "o/r@" + "a" * 40 + "\n", "o/r @" + "a" * 40, ""),
    ],
)
def test_an_action_is_named_by_its_commit(reference: str) -> None:
    """A branch or a tag could be moved after the review."""
    with pytest.raises(BadInput, match="expected OWNER/REPO@COMMIT with the 40 digits"):
        Action(reference)


def test_the_linters_are_content(written: Path) -> None:
    files = [str(it) for it in sorted((written / ".github/workflows").iterdir())]
    assert len(files) == 2
    scripts = [str(it) for it in written.glob(f"{FOLDER}/install")]
    for command in (
        ["actionlint", *files],
        ["zizmor", "--offline", "--quiet", "--persona=auditor", *files],
        *([["shellcheck", *scripts]] if scripts else []),
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=written)
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_lock_file_that_a_job_installs_is_there(written: Path, wheel: Path) -> None:
    for name in {*LOCKS.values(), "requirements-changes.lock", "requirements.lock"}:
        assert (written / FOLDER / name).read_bytes() == (REPO / name).read_bytes()
    assert (written / FOLDER / wheel.name).read_bytes() == wheel.read_bytes()


@pytest.mark.parametrize(
    "path",
    ["a.py", "floors.json", ".github/workflows/deploy-reply.router.yml", f"{FOLDER}/install"],
)
def test_the_owners_own_everything(written: Path, path: str) -> None:
    text = (written / ".github/CODEOWNERS").read_text()
    assert owners_of(text, path) == {"octocat", "hubot"}
    assert "Replace @OWNER with" in text  # the comment stays


def test_another_file_than_the_installed_wheel_is_refused(repository: Path, wheel: Path) -> None:
    older = wheel.with_name("lynx_pipeline-0.0.9-py3-none-any.whl")
    renamed = wheel.with_name("another-1-py3-none-any.whl")
    for other in (older, renamed):
        shutil.copy(wheel, other)
    empty = wheel.with_name(wheel.name.replace("py3", "py4"))
    empty.write_bytes(b"")
    missing = wheel.with_name(wheel.name.replace("py3", "py5"))
    for file in (older, renamed, empty, missing):
        with pytest.raises(BadInput, match="is not the wheel of lynx-pipeline"):
            workflow_files(repository, "shop", file)


def test_a_clone_was_not_installed_from_a_wheel() -> None:
    assert installed_wheel() is None
