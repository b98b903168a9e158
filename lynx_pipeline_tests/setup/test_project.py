"""What is found out from a repository."""

from pathlib import Path

import pytest

from lynx_pipeline.errors import BadInput, LynxError
from lynx_pipeline.setup import project
from lynx_pipeline_tests.setup.conftest import Write
from lynx_pipeline_tests.support.builders import eval_items, jsonl
from lynx_pipeline_tests.support.places import git


@pytest.mark.parametrize(
    ("folder", "name"),
    [("shop", "shop"), ("My shop (2)", "My-shop-2"), ("a.lock", "a-lock"), ("язык", "model")],
)
def test_a_models_name_is_made_of_the_folders(folder: str, name: str) -> None:
    assert project.model_name(Path("/x") / folder) == name


@pytest.mark.parametrize(
    "url",
    [
        "https://github.com/octo/shop.git",
        "https://github.com/octo/shop",
        "git@github.com:octo/shop.git",
        "ssh://git@github.com/octo/shop",
    ],
)
def test_the_repository_on_github_is_the_remote_origin(repository: Path, url: str) -> None:
    assert project.github_repository(repository) is None
    git(repository, "remote", "add", "origin", url)
    assert project.github_repository(repository) == ("octo", "shop")


def test_the_only_jsonl_file_is_the_eval_set(repository: Path, write: Write) -> None:
    """Ignored files don't count; a file that only its record names does."""
    write(".gitignore", "/cache/\n/eval.jsonl\n")
    write("cache/other.jsonl", "")
    write("eval.jsonl.dvc", "outs: []\n")
    assert project.find_eval_set(repository) == repository / "eval.jsonl"


def test_several_jsonl_files_are_listed(repository: Path, write: Write) -> None:
    write("data/train.jsonl", "")
    with pytest.raises(BadInput) as caught:
        project.find_eval_set(repository)
    assert str(caught.value) == (
        "which of these is the eval set? data/train.jsonl, eval.jsonl. Name it: --eval-set FILE."
    )


def test_without_a_jsonl_file_the_error_says_how_to_make_one(repository: Path) -> None:
    (repository / "eval.jsonl").unlink()
    with pytest.raises(BadInput, match="lynx-pipeline eval-set import TABLE --prompt COLUMN"):
        project.find_eval_set(repository)


def test_an_eval_set_with_an_error_is_refused(repository: Path, write: Write) -> None:
    twice = [*eval_items(), eval_items()[0]]
    file = write("eval.jsonl", jsonl(twice).decode())
    with pytest.raises(BadInput) as caught:
        project.check_new_eval_set(file, repository)
    assert f"run: lynx-pipeline eval-set check {file}" in str(caught.value)
    with pytest.raises(BadInput, match="is not in the project's folder"):
        project.check_new_eval_set(Path("/elsewhere/eval.jsonl"), repository)


def test_a_folder_outside_git_is_named(tmp_path: Path, repository: Path) -> None:
    with pytest.raises(BadInput, match=r"is not in a git repository\. Run 'git init' first\."):
        project.git_root(tmp_path)
    (repository / "sub").mkdir()
    assert project.git_root(repository / "sub") == repository


def test_a_broken_repository_is_reported_in_gits_words(repository: Path) -> None:
    (repository / ".git/config").write_text("[broken\n")
    with pytest.raises(LynxError, match="bad config line 1") as caught:
        project.git_root(repository)
    assert caught.value.exit_code == 3


def test_lock_files_and_owners_are_judges(repository: Path, write: Write) -> None:
    for name in ("uv.lock", "requirements-dev.txt", "docs/CODEOWNERS", "a/uv.lock"):
        write(name, "")
    assert project.proposed_judges(repository) == [
        *(".github", "docs/CODEOWNERS", "requirements-dev.txt", "uv.lock")
    ]
