"""The workflow *Baseline* under act: each scenario merges a pull request, asserts the results, and
returns the run."""

from collections.abc import Iterator
from contextlib import contextmanager

from lynx_pipeline_tests.simulators.act.runner import ActRun, check_pull_request
from lynx_pipeline_tests.simulators.actions.stage import NUMBER, Stage
from lynx_pipeline_tests.support.places import git

_CHECKS = ("Install", "The change is justified and supported", "The change is approved")


def unaffected(stage: Stage) -> ActRun:
    """A pull request that changes no gate input passes, and installs nothing that checks one."""
    with _merged(stage, "README.md", "# ", "# A better title: "):
        done = check_pull_request(stage)
    assert done.code == 0, done.log
    assert "grammar-tutor: no gate input differs from HEAD^1." in done.log
    assert not {it.name for it in done.steps if it.result != "skipped"} & {*_CHECKS}
    return done


def unapproved(stage: Stage) -> ActRun:
    """A change of a gate input that nobody has approved is refused."""
    with _merged(
        stage,
        "pyproject.toml",
        "[tool.lynx_pipeline]",
        "[tool.lynx_pipeline]\nrequests_per_day = 30",
    ):
        done = check_pull_request(stage)
    assert done.code == 1
    assert done.failed() == ["baseline/The change is approved"], done.log
    assert "[tool.lynx_pipeline] in pyproject.toml" in done.log
    return done


@contextmanager
def _merged(stage: Stage, name: str, old: str, new: str) -> Iterator[None]:
    """While the block runs, the team has checked out its branch with a pull request merged into
    it that changes this file."""
    stage.clear()
    root, before = stage.folder / "team", stage.sha
    file = root / name
    text = file.read_text()
    assert old in text
    origin = f"file://{stage.folder / 'served' / 'origin.git'}"
    try:
        git(root, "checkout", "--quiet", "-b", "topic")
        file.write_text(text.replace(old, new, 1))
        git(root, "commit", "--quiet", "--all", "--message", "A change")
        git(root, "checkout", "--quiet", "--detach", before)
        git(root, "merge", "--quiet", "--no-ff", "--message", "Merge", "topic")
        git(root, "push", "--quiet", "--force", origin, f"HEAD:refs/pull/{NUMBER}/merge")
        yield
    finally:
        git(root, "checkout", "--quiet", "--force", "main")
        git(root, "branch", "--quiet", "-D", "topic")


ALL = (unaffected, unapproved)
