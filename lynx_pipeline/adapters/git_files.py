"""Git: files as they stood at a commit, the commits that changed them, and what a remote has."""

import os
import subprocess
from pathlib import Path

from lynx_pipeline.errors import BadInput, SystemFailed

# Variables that a git hook sets and that would send our commands into its repository.
NOT_OURS = (
    *("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR"),
    *("GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_NAMESPACE", "GIT_QUARANTINE_PATH", "GIT_PREFIX"),
)


def file_at(root: Path, ref: str, path: Path) -> bytes | None:
    """The bytes of ``path`` at commit ``ref``; None if it was not there.

    Raises:
        BadInput: there is no such commit, or the project is no git checkout.
        SystemFailed: git is not installed.
    """
    commit = _git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
    if commit.returncode != 0:
        raise BadInput(
            f"git knows no commit {ref!r} in {root}. Name one that is here; in CI, check out the "
            "whole history (fetch-depth: 0)."
        )
    sha = commit.stdout.decode().strip()
    name = f"./{path.relative_to(root).as_posix()}"
    listed = _git(root, "ls-tree", sha, "--", name)
    if listed.returncode == 0 and not listed.stdout.strip():
        return None
    shown = _git(root, "show", f"{sha}:{name}")
    if shown.returncode != 0:
        raise SystemFailed(f"git show {ref}:{name} failed: {shown.stderr.decode().strip()}.")
    return shown.stdout


def head(root: Path) -> str:
    """The checked-out commit.

    Raises:
        BadInput: there is none.
        SystemFailed: git is not installed.
    """
    found = _git(root, "rev-parse", "--verify", "--quiet", "HEAD^{commit}")
    if found.returncode != 0:
        said = found.stderr.decode().strip() or "it has none"
        raise BadInput(f"{root}: is no git checkout with a commit: {said}.")
    return found.stdout.decode().strip()


def tip(root: Path, ref: str) -> str:
    """The commit of ``ref`` on the checkout's remote ``origin`` now, fetched if it isn't here.

    Raises:
        SystemFailed: the remote could not be asked, or has no such ref.
    """
    listed = _git(root, "ls-remote", "--exit-code", "origin", ref)
    if listed.returncode != 0:
        raise SystemFailed(
            f"{root}: the remote 'origin' does not say what {ref} is now: "
            f"{listed.stderr.decode().strip() or 'it has no such ref'}."
        )
    commit = listed.stdout.decode().split()[0]
    if _git(root, "cat-file", "-e", f"{commit}^{{commit}}").returncode != 0:
        fetched = _git(root, "fetch", "--quiet", "--no-tags", "origin", ref)
        if fetched.returncode != 0:
            raise SystemFailed(f"{root}: git fetch failed: {fetched.stderr.decode().strip()}.")
    return commit


def commits_of(root: Path, path: Path) -> list[str]:
    """The commits reachable from HEAD that changed ``path``, oldest first.

    Raises:
        SystemFailed: git failed.
    """
    done = _git(root, "log", "--format=%H", "--first-parent", "--", str(path))
    if done.returncode != 0:
        raise SystemFailed(f"git log failed in {root}: {done.stderr.decode().strip()}.")
    return done.stdout.decode().split()[::-1]


def _git(root: Path, *arguments: str) -> "subprocess.CompletedProcess[bytes]":
    # No substitutes for commits (git replace), and no other repository that a hook has set.
    command = ["git", "--no-replace-objects", "-C", str(root), *arguments]
    environ = {k: v for k, v in os.environ.items() if k not in NOT_OURS}
    environ |= {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    try:
        return subprocess.run(command, capture_output=True, check=False, env=environ)
    except OSError as error:
        raise SystemFailed(f"git can't be run: {error.strerror}. Install it.") from None
