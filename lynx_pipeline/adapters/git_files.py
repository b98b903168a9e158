"""Git: a file as it stood at a commit, and the commits that changed it."""

import subprocess
from pathlib import Path

from lynx_pipeline.errors import BadInput, SystemFailed


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
    try:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, check=False)
    except OSError as error:
        raise SystemFailed(f"git can't be run: {error.strerror}. Install it.") from None
