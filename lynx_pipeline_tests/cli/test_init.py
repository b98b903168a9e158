"""``init``: a git repository becomes a project, and nothing in it is overwritten."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from lynx_pipeline.cli import main
from lynx_pipeline.config import load_settings
from lynx_pipeline_tests.cli.helpers import Capsys, one_paragraph
from lynx_pipeline_tests.conftest import Tracking
from lynx_pipeline_tests.support.builders import bundle
from lynx_pipeline_tests.support.places import git
from lynx_pipeline_tests.support.repositories import repository_with_eval_set
from lynx_pipeline_tests.support.wheels import imitation

EXISTING = {
    "pyproject.toml": '[project]\nname = "shop"\nversion = "1"\n\n[tool.dg]\nx = 1\n',
    "workspace.yaml": "load_from:\n  - python_module: shop.definitions\n",
    ".gitignore": "__pycache__/\n.lynx\n",
    ".github/CODEOWNERS": "* @someone\n",
    "docs/CODEOWNERS": "* @somebody\n",
    "uv.lock": "version = 1\n",
}


@pytest.fixture
def repository(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git repository with an eval set, which is the working directory."""
    root = repository_with_eval_set(folder / "shop")
    monkeypatch.chdir(root)
    return root


def content(root: Path) -> Mapping[str, bytes]:
    """Every file outside ``.git`` and DVC's own folders."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
        and not re.match(r"\.git/|\.dvc/(cache|tmp)/", str(path.relative_to(root)))
    }


def test_a_workflow_installs_a_wheel_or_the_action(repository: Path, capsys: Capsys) -> None:
    """Not both, and the action only at a commit."""
    action = f"octo-org/gate@{'a1' * 20}"
    assert main(["init", "--yes", "--wheel", "x.whl", "--action", action]) == 2
    assert "give either --wheel or --action" in one_paragraph(capsys)
    assert main(["init", "--yes", "--action", "octo-org/gate@v1"]) == 2
    assert "expected OWNER/REPO@COMMIT" in one_paragraph(capsys)
    assert main(["init", "--yes", "--action", action]) == 0
    assert not (repository / ".github/lynx-pipeline").exists()
    workflow = (repository / ".github/workflows/deploy-shop.yml").read_text()
    assert workflow.count(f"uses: {action} # v") == 4


@pytest.mark.slow
def test_an_empty_repository_becomes_a_project(
    repository: Path, tracking: Tracking, monkeypatch: pytest.MonkeyPatch, capsys: Capsys
) -> None:
    """A second run finds everything, and changes nothing."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking.uri)
    wheel = imitation(repository.parent)
    run_id = tracking.run({"model": bundle(repository.parent / "bundle")})
    command = ["init", "--yes", "--wheel", str(wheel), "--owner", "octocat"]
    assert main([*command, "--candidate", run_id]) == 0
    out = capsys.readouterr().out
    assert "new        pyproject.toml\n" in out
    assert "DVC tracks the eval set eval.jsonl.\n" in out
    assert "eval_baseline.json has 3 buckets: 12 of 12 right (100.00%).\n" in out
    assert "lynx-pipeline run RUN_ID v0.1.0-dev" in out
    settings = load_settings(repository)
    assert settings.model == "shop"
    assert settings.judges == (".github",)
    assert json.loads(settings.baseline.read_text())["justification"] == (
        f"The first baseline, measured on {run_id}."
    )
    config = (repository / ".dvc/config").read_text()
    assert "url = ../data/dvc-remote" in config
    assert len([*(repository / "data/dvc-remote").rglob("*")]) > 2
    assert git(repository, "check-ignore", ".lynx/", "mlruns/").split() == [".lynx/", "mlruns/"]
    before = content(repository)
    assert main(command) == 0
    assert {it.split()[0] for it in capsys.readouterr().out.split("Next:")[0].splitlines()} == {
        "unchanged"
    }
    assert content(repository) == before
    assert main([*command, "--candidate", run_id]) == 2
    assert "eval_baseline.json exists. A new one is proposed" in capsys.readouterr().err
    assert content(repository) == before


def test_nothing_that_exists_is_overwritten(repository: Path, capsys: Capsys) -> None:
    """The difference is shown. Where lines can be added, the others stay."""
    for name, text in EXISTING.items():
        (repository / name).parent.mkdir(parents=True, exist_ok=True)
        (repository / name).write_text(text)
    wheel = imitation(repository.parent)
    assert main(["init", "--yes", "--wheel", str(wheel), "--name", "router"]) == 0
    out = capsys.readouterr().out
    after = content(repository)
    for name in ("workspace.yaml", ".github/CODEOWNERS", "docs/CODEOWNERS", "uv.lock"):
        assert after[name].decode() == EXISTING[name]
    assert after["pyproject.toml"].decode().startswith(EXISTING["pyproject.toml"])
    ignored = "\n/mlruns/\n/.venv/\n/eval.jsonl\n"
    assert after[".gitignore"].decode() == f"{EXISTING['.gitignore']}{ignored}"
    assert "different  workspace.yaml\n" in out
    assert "           -  - python_module: shop.definitions\n" in out
    assert "           +  - python_module: lynx_pipeline.definitions\n" in out
    settings = load_settings(repository)
    assert settings.model == "router"
    assert settings.judges == (".github", "docs/CODEOWNERS", "uv.lock")


@pytest.mark.slow
def test_a_project_keeps_its_settings_and_its_dvc(repository: Path, capsys: Capsys) -> None:
    """What it lacks is added."""
    table = '[tool.lynx_pipeline]\nmodel = "old"\neval_set = "eval.jsonl"\nbaseline = "b.json"\n'
    (repository / "pyproject.toml").write_text(table)
    (repository / ".dvc").mkdir()
    config = "[core]\n    remote = here\n['remote \"here\"']\n    url = ../../remote\n"
    (repository / ".dvc/config").write_text(config)
    assert main(["init", "--yes", "--wheel", str(imitation(repository.parent))]) == 0
    assert (repository / ".dvc/config").read_text() == config
    assert (repository / "pyproject.toml").read_text().startswith(table)
    assert (repository / ".github/workflows/deploy-old.yml").is_file()
    assert "/b.json @OWNER" in (repository / ".github/CODEOWNERS").read_text()
    assert "[tool.dg]" in (repository / "pyproject.toml").read_text()
    assert [*(repository.parent / "remote").rglob("*")]
    assert "lynx-pipeline init --candidate RUN_ID" in capsys.readouterr().out


def test_a_project_in_a_subfolder_gets_no_workflow(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capsys
) -> None:
    """GitHub reads it at the root only."""
    sub = repository / "services/router"
    sub.mkdir(parents=True)
    (repository / "eval.jsonl").rename(sub / "eval.jsonl")
    monkeypatch.chdir(sub)
    assert main(["init", "--yes"]) == 0
    assert f"since the repository's root is {repository}" in capsys.readouterr().out
    assert not (repository / ".github").exists()
    assert not (sub / ".github").exists()
    assert (sub / ".dvc/config").is_file()


def test_without_a_wheel_there_is_no_workflow(repository: Path, capsys: Capsys) -> None:
    """Its jobs could install nothing."""
    assert main(["init", "--yes"]) == 0
    out = capsys.readouterr().out
    assert "not written: the workflow and .github/lynx-pipeline, since lynx-pipeline was not" in out
    assert "give --wheel FILE" in out
    assert [it.name for it in (repository / ".github").iterdir()] == ["CODEOWNERS"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param([], "nobody can be asked here whether to write this. Give --yes.", id="ask"),
        pytest.param(["--yes", "--eval-set", "no.jsonl"], "there is no eval set", id="eval set"),
        pytest.param(["--yes", "--owner", "@a/team"], "expected the login of a person", id="team"),
        pytest.param(["--yes", "--model", "m"], "so it needs --candidate", id="model"),
        pytest.param(["--yes", "--wheel", "no.whl"], "is not the wheel of", id="wheel"),
        pytest.param(["--yes", "--name", "my model"], "found 'my model'", id="name"),
        pytest.param(["--yes", "--name", "../../../../../esc"], "'model': expected", id="path"),
        pytest.param(["--yes", "--name", "a\nb: c"], "it would not be valid", id="lines"),
        pytest.param(
            ["--yes", "--eval-set", "../eval.jsonl"], "is not in the project's folder", id="outside"
        ),
        pytest.param(["--yes", "--dvc-remote", ""], "expected a URL, or a folder", id="no remote"),
        pytest.param(["--yes", "--dvc-remote", "./."], "expected a URL", id="root as remote"),
        pytest.param(
            ["--yes", "--dvc-remote", "s3://me:secret@b/c"], "would be committed", id="password"
        ),
    ],
)
def test_an_invalid_call_writes_nothing(
    repository: Path, capsys: Capsys, arguments: list[str], message: str
) -> None:
    """Nor outside the repository."""
    (repository.parent / "eval.jsonl").write_bytes((repository / "eval.jsonl").read_bytes())
    before = content(repository.parent)
    assert main(["init", *arguments]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert "secret" not in err
    assert content(repository.parent) == before


def _in_line(root: Path) -> None:
    (root / "pyproject.toml").write_text("tool = {ruff = {line-length = 100}}\n")


def _no_table(root: Path) -> None:
    (root / "pyproject.toml").write_text("tool = 3\n")


def _link(root: Path) -> None:
    (root / "shared").mkdir()
    (root / "shared/ignore").write_text("x\n")
    (root / ".gitignore").symlink_to("shared/ignore")


def _linked_folder(root: Path) -> None:
    (root.parent / "elsewhere").mkdir()
    (root / ".github").symlink_to(root.parent / "elsewhere")


def _linked_eval_set(root: Path) -> None:
    (root / "eval.jsonl").rename(root / "data.txt")
    (root / "eval.jsonl").symlink_to("data.txt")


def _tracked(root: Path) -> None:
    git(root, "add", "eval.jsonl")


def _ignored(root: Path) -> None:
    (root / ".gitignore").write_text("data/\n")


def _ignored_lock(root: Path) -> None:
    (root / ".gitignore").write_text("*.lock\n")


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (_in_line, "with our tables added, it would not be valid"),
        (_no_table, "with our tables added, it would not be valid"),
        (_link, ".gitignore is a symbolic link"),
        (_linked_folder, ".github is a symbolic link"),
        (_linked_eval_set, "eval.jsonl is a symbolic link"),
        (_tracked, "git rm --cached eval.jsonl"),
        (_ignored, "git ignores data/dvc-remote/any, so a commit would leave out"),
        (_ignored_lock, "git ignores .github/lynx-pipeline/requirements"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(
    repository: Path, capsys: Capsys, prepare: Callable[[Path], None], message: str
) -> None:
    prepare(repository)
    before = content(repository.parent)
    wheel = imitation(repository.parent)
    assert main(["init", "--yes", "--wheel", str(wheel)]) == 2
    assert message in one_paragraph(capsys)
    wheel.unlink()
    assert content(repository.parent) == before


@pytest.mark.slow
def test_a_run_that_failed_is_completed_by_the_next(repository: Path, capsys: Capsys) -> None:
    """The remote could not be reached when the eval set was to be pushed. Modes stay."""
    (repository / ".gitignore").write_bytes(b"caf\xe9\n")
    (repository / ".gitignore").chmod(0o600)
    config = repository / ".dvc/config"
    assert main(["init", "--yes", "--dvc-remote", "http://127.0.0.1:9/data"]) == 3
    assert "DVC could not add and push it" in capsys.readouterr().err
    assert main(["init", "--yes", "--dvc-remote", "data/dvc-remote"]) == 2
    assert "DVC has a default remote here, 'storage'" in capsys.readouterr().err
    config.write_text(config.read_text().replace("http://127.0.0.1:9/data", "../data/dvc-remote"))
    assert main(["init", "--yes"]) == 0
    assert "eval.jsonl is now in DVC's remote" in capsys.readouterr().out.replace("tracks", "is")
    assert [it for it in (repository / "data/dvc-remote").rglob("*") if it.is_file()]
    assert (repository / ".gitignore").stat().st_mode & 0o777 == 0o600
    assert main(["init", "--yes"]) == 0
    assert "remote" not in capsys.readouterr().out


def test_a_dvc_repository_without_a_remote_gets_one(repository: Path, capsys: Capsys) -> None:
    (repository / ".dvc").mkdir()
    (repository / ".dvc/config").write_text("[core]\n    autostage = true\n")
    assert main(["init", "--yes"]) == 0
    config = (repository / ".dvc/config").read_text()
    assert "autostage = true" in config
    assert "url = ../data/dvc-remote" in config
    assert [it for it in (repository / "data/dvc-remote").rglob("*") if it.is_file()]


def test_a_bare_repository_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capsys
) -> None:
    git(folder, "init", "--quiet", "--bare", "bare")
    monkeypatch.chdir(folder / "bare")
    assert main(["init", "--yes"]) == 2
    assert "is in a bare git repository. Run this in a clone of it." in one_paragraph(capsys)


def test_a_folder_outside_git_is_refused(folder: Path, capsys: Capsys) -> None:
    assert main(["init", "--yes"]) == 2
    assert "is not in a git repository. Run 'git init' first." in one_paragraph(capsys)


def test_a_folder_in_a_project_is_refused(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capsys
) -> None:
    (repository / "pyproject.toml").write_text('[tool.lynx_pipeline]\nmodel = "x"\n')
    (repository / "src").mkdir()
    monkeypatch.chdir(repository / "src")
    assert main(["init", "--yes"]) == 2
    assert f"is in the project {repository}. Run this there." in one_paragraph(capsys)
