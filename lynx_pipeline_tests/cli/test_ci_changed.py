"""``ci changed``: whether a pull request changes what judges, for each model."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lynx_pipeline.cli import main
from lynx_pipeline.errors import GATE_MODULES
from lynx_pipeline_tests.cli.helpers import Capsys, one_paragraph
from lynx_pipeline_tests.support.builders import project
from lynx_pipeline_tests.support.places import GIT_ENV, git

MODELS = """\
[tool.lynx_pipeline]
[[tool.lynx_pipeline.models]]
name = "tutor"
eval_set = "data/eval.jsonl"
baseline = "eval_baseline.json"
[[tool.lynx_pipeline.models]]
name = "router"
eval_set = "router/data/eval.jsonl"
baseline = "router/eval_baseline.json"
"""


@pytest.fixture
def root(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with two models, in which this process works."""
    root = project(folder / "p").root
    project(folder / "other").root.rename(root / "router")
    (root / "pyproject.toml").write_text(MODELS)
    for name, value in GIT_ENV.items():
        monkeypatch.setenv(name, value)
    git(root, "init", "--quiet")
    commit(root)
    monkeypatch.chdir(root)
    return root


def commit(root: Path) -> None:
    """Commit everything."""
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "x")


def edit(name: str, old: str, new: str) -> Callable[[Path], object]:
    """Replace a text in a file."""

    def change(root: Path) -> None:
        text = (root / name).read_text()
        assert old in text
        (root / name).write_text(text.replace(old, new, 1))

    return change


@pytest.mark.parametrize(
    ("change", "tutor", "router"),
    [
        pytest.param(lambda root: (root / "README.md").write_text("x"), "", "", id="another file"),
        pytest.param(
            edit("eval_baseline.json", "{", "{ "), "eval_baseline.json", "", id="a baseline"
        ),
        pytest.param(
            edit("router/data/eval.jsonl.dvc", "md5: ", "md5: f"),
            "",
            "router/data/eval.jsonl.dvc",
            id="an eval set",
        ),
        pytest.param(
            edit("pyproject.toml", '"router"', '"router"\nscorer = "normalised-exact-match/1"'),
            "",
            "[tool.lynx_pipeline] in pyproject.toml",
            id="one model's settings",
        ),
        pytest.param(
            edit("pyproject.toml", "_pipeline]", '_pipeline]\nscorer = "normalised-exact-match/1"'),
            "[tool.lynx_pipeline] in pyproject.toml",
            "[tool.lynx_pipeline] in pyproject.toml",
            id="everybody's settings",
        ),
        pytest.param(
            edit("pyproject.toml", 'name = "router"', 'name = "guide"'),
            "",
            "[tool.lynx_pipeline] in pyproject.toml",
            id="a name",
        ),
    ],
)
def test_each_models_changes_are_listed(
    root: Path,
    change: Callable[[Path], object],
    tutor: str,
    router: str,
    capsys: Capsys,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The output is true if there are any."""
    change(root)
    commit(root)
    output = root.parent / "output"
    monkeypatch.setenv("GITHUB_OUTPUT", str(output))
    assert main(["ci", "changed", "--base", "HEAD^1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    nothing = "no gate input differs from HEAD^1"
    assert lines[0] == f"tutor: {tutor or nothing}."
    assert lines[1].partition(": ")[2] == f"{router or nothing}."
    expected = "true" if tutor or router else "false"
    assert re.fullmatch(rf"changed<<(\w+)\n{expected}\n\1\n", output.read_text())


def output_after(root: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Commit everything. Returns the step's output."""
    commit(root)
    file = root.parent / "output"
    file.unlink(missing_ok=True)
    monkeypatch.setenv("GITHUB_OUTPUT", str(file))
    assert main(["ci", "changed", "--base", "HEAD^1"]) == 0
    return file.read_text().splitlines()[1]


def test_a_removed_model_counts(
    root: Path, capsys: Capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise its baseline could be loosened unseen, and the model added again."""
    (root / "pyproject.toml").write_text(MODELS[: MODELS.rindex("[[")])
    edit("router/eval_baseline.json", "{", "{ ")(root)
    assert output_after(root, monkeypatch) == "true"
    assert "router: router/eval_baseline.json, [tool.lynx_pipeline]" in capsys.readouterr().out


def test_an_added_model_has_a_first_baseline(
    root: Path, capsys: Capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if its file was there before, when nothing checked it."""
    (root / "pyproject.toml").write_text(MODELS[: MODELS.rindex("[[")])
    commit(root)
    (root / "pyproject.toml").write_text(MODELS)
    assert output_after(root, monkeypatch) == "true"
    capsys.readouterr()
    assert main(["baseline", "check", "--base", "HEAD^1"]) == 1
    refused = capsys.readouterr()
    assert "eval_baseline.json is unchanged since HEAD^1." in refused.out
    assert "refused: it has no justification." in refused.err


def test_a_baseline_that_git_converts_counts(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checks read the file, not what is committed."""
    (root / ".gitattributes").write_text("eval_baseline.json working-tree-encoding=UTF-16\n")
    git(root, "add", ".gitattributes")
    git(root, "commit", "--quiet", "--message", "x")
    (root / "eval_baseline.json").unlink()
    git(root, "checkout", "--", "eval_baseline.json")
    file = root.parent / "output"
    monkeypatch.setenv("GITHUB_OUTPUT", str(file))
    assert main(["ci", "changed", "--base", "HEAD^1"]) == 0
    assert file.read_text().splitlines()[1] == "true"


def test_a_baseline_behind_a_link_counts(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """git has the link, and no file below it."""
    (root / "router").rename(root / "routers")
    (root / "router").symlink_to("routers")
    commit(root)
    edit("routers/eval_baseline.json", "{", "{ ")(root)
    assert output_after(root, monkeypatch) == "true"


def test_an_unknown_base_is_bad_input(root: Path, capsys: Capsys) -> None:
    """There is no output, so the workflow checks everything, or stops here."""
    assert main(["ci", "changed", "--base", "nothing"]) == 2
    assert "git has no commit 'nothing'" in one_paragraph(capsys)


def test_it_imports_no_package_of_the_gate(root: Path) -> None:
    """The job installs them only if something has changed."""
    code = (
        "import sys; from lynx_pipeline.cli import main\n"
        "code = main(['ci', 'changed', '--base', 'HEAD'])\n"
        "print(code, *{it.partition('.')[0] for it in sys.modules})"
    )
    done = subprocess.check_output([sys.executable, "-c", code], text=True)
    code, *imported = done.splitlines()[-1].split()
    assert code == "0"
    assert not GATE_MODULES & {*imported}
