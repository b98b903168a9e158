"""What git itself says is in the error, whichever command failed."""

from collections.abc import Callable
from pathlib import Path

import pytest

from lynx_pipeline.adapters import git_files
from lynx_pipeline.adapters.git import Done, run, stderr_line, stderr_sentence
from lynx_pipeline.errors import BadInput, LynxError, SystemFailed
from lynx_pipeline_tests.support.places import git

READS: dict[str, Callable[[Path], object]] = {
    "file_at": lambda root: git_files.file_at(root, "HEAD", root / "file"),
    "head": git_files.head,
    "tip": lambda root: git_files.tip(root, "refs/heads/main"),
    "changed": lambda root: git_files.changed(root, "HEAD", "HEAD", ["file"]),
    "names": git_files.names,
    "names in a commit": lambda root: git_files.names(root, "HEAD"),
    "commits_of": lambda root: git_files.commits_of(root, root / "file"),
}
every_read = pytest.mark.parametrize("read", READS.values(), ids=READS.keys())


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A clone with one commit."""
    root = tmp_path / "checkout"
    root.mkdir()
    (root / "file").write_text("text\n")
    git(root, "init", "--quiet", "--initial-branch=main")
    git(root, "add", "file")
    git(root, "commit", "--quiet", "--message", "x")
    git(root, "remote", "add", "origin", str(root))
    return root


def failure(read: Callable[[Path], object], root: Path, kind: type[LynxError]) -> str:
    """The message of the error, which is one paragraph."""
    with pytest.raises(kind) as caught:
        read(root)
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    return str(caught.value)


@every_read
def test_a_checkout_of_another_user_is_explained_in_gits_words(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[Path], object]
) -> None:
    """Jobs in containers run as another user than the one who checked out."""
    read(checkout)
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    message = failure(read, checkout, SystemFailed)
    assert "detected dubious ownership in repository" in message
    assert f"`git config --global --add safe.directory {checkout}`. Or run this as" in message
    assert "fetch-depth" not in message


@every_read
def test_a_broken_configuration_is_explained_in_gits_words(
    checkout: Path, read: Callable[[Path], object]
) -> None:
    """The error names the file and the line."""
    with (checkout / ".git/config").open("a") as file:
        file.write("[broken\n")
    assert "bad config line" in failure(read, checkout, SystemFailed)


def test_a_folder_outside_any_checkout_is_bad_input(tmp_path: Path) -> None:
    """The user is in the wrong folder."""
    for name in ("file_at", "head", "tip"):
        assert "not a git repository" in failure(READS[name], tmp_path, BadInput)


def test_a_commit_that_a_shallow_clone_does_not_have_is_explained(
    checkout: Path, tmp_path: Path
) -> None:
    """actions/checkout fetches one commit unless it is told otherwise."""
    old = git(checkout, "rev-parse", "HEAD")
    git(checkout, "commit", "--quiet", "--allow-empty", "--message", "y")
    git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{checkout}", "shallow")
    shallow = tmp_path / "shallow"
    message = failure(lambda root: git_files.file_at(root, old, root / "file"), shallow, BadInput)
    assert "fetch-depth: 0" in message
    message = failure(
        lambda root: git_files.changed(root, old, "HEAD", ["."]), shallow, SystemFailed
    )
    assert "fetch-depth: 0" in message


def test_a_missing_object_is_explained_in_gits_words(checkout: Path) -> None:
    """The commit is there, and a file's bytes are not."""
    blob = git(checkout, "rev-parse", "HEAD:file")
    (checkout / ".git/objects" / blob[:2] / blob[2:]).unlink()
    message = failure(READS["file_at"], checkout, SystemFailed)
    assert "git show failed: fatal: " in message
    assert "git fsck" in message


def test_what_git_prints_is_shown_without_secrets_and_control_characters(checkout: Path) -> None:
    """A server's messages and the checkout's remote are not ours."""
    script = r"printf 'a\033[31mb https://x:hunter2@host/y\n' >&2; exit 1"
    done = run(checkout, "-c", f"alias.fail=!{script}", "fail")
    assert stderr_line(done) == "a?[31mb https://host/y"


def printed(text: str) -> Done:
    """A failed command that wrote this to standard error."""
    return Done(["git"], 128, b"", text.encode())


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param("", "nothing.", id="nothing"),
        pytest.param("fatal: no commit\n", "fatal: no commit.", id="one line"),
        pytest.param("fatal: no commit.\n", "fatal: no commit.", id="its own full stop"),
        pytest.param("fatal: is it a directory?\n", "fatal: is it a directory?", id="a question"),
        pytest.param(
            "fatal: detected dubious ownership in repository at '/x'\n"
            "To add an exception for this directory, call:\n\n"
            "\tgit config --global --add safe.directory '/x y'\n",
            "fatal: detected dubious ownership in repository at '/x'. To add an exception for this "
            "directory, call: `git config --global --add safe.directory '/x y'`.",
            id="a command",
        ),
        pytest.param(
            "git@host: Permission denied (publickey).\n"
            "fatal: Could not read from remote repository.\n\n"
            "Please make sure you have the correct access rights\nand the repository exists.\n",
            "git@host: Permission denied (publickey). fatal: Could not read from remote "
            "repository. Please make sure you have the correct access rights and the repository "
            "exists.",
            id="a wrapped sentence",
        ),
        pytest.param(
            "remote: error: GH006: Protected branch update failed for refs/heads/r.        \n"
            "remote: \n"
            "remote: - Commits must have verified signatures.        \n"
            "error: failed to push some refs to 'https://host/r'\n"
            "hint: Updates were rejected because the remote contains work that you do not\n"
            "hint: have locally.\n",
            "remote: error: GH006: Protected branch update failed for refs/heads/r. - Commits must "
            "have verified signatures. error: failed to push some refs to 'https://host/r'. hint: "
            "Updates were rejected because the remote contains work that you do not have locally.",
            id="prefixes",
        ),
        pytest.param(
            "Switched to a branch\nfatal: no commit\n",
            "Switched to a branch. fatal: no commit.",
            id="two messages",
        ),
    ],
)
def test_what_git_prints_on_several_lines_becomes_sentences(text: str, shown: str) -> None:
    """Whatever git's own punctuation is, and a command in them can be copied."""
    assert stderr_sentence(printed(text), "nothing") == shown
