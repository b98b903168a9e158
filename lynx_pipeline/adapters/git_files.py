"""Git: files at a commit, the commits that changed them, and the tip of a remote's branch."""

from collections.abc import Sequence
from pathlib import Path

from lynx_pipeline.adapters.git import ref_of, run, stderr_line, without_user
from lynx_pipeline.errors import BadInput, Refused, SystemFailed


def file_at(root: Path, ref: str, path: Path) -> bytes | None:
    """The bytes of ``path`` at commit ``ref``; None if the commit does not have it.

    Raises:
        BadInput: there is no such commit, or the project is not a git checkout.
        SystemFailed: git is not installed, or took too long.
    """
    commit = run(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
    if commit.returncode != 0:
        raise BadInput(
            f"{root}: git has no commit {ref!r}. Name an existing commit; in CI, check out the "
            "whole history (fetch-depth: 0)."
        )
    sha = commit.stdout.decode().strip()
    name = f"./{path.relative_to(root).as_posix()}"
    listed = run(root, "ls-tree", sha, "--", name)
    if listed.returncode == 0 and not listed.stdout.strip():
        return None
    shown = run(root, "show", f"{sha}:{name}")
    if shown.returncode != 0:
        raise SystemFailed(
            f"{root}: git show {ref}:{name} failed: {stderr_line(shown)}. Check the repository "
            "with 'git fsck'."
        )
    return shown.stdout


def head(root: Path) -> str:
    """The checked-out commit.

    Raises:
        BadInput: ``root`` is not a git checkout, or it has no commit yet.
        SystemFailed: git is not installed, or took too long.
    """
    found = run(root, "rev-parse", "--verify", "--quiet", "HEAD^{commit}")
    if found.returncode != 0:
        raise BadInput(
            f"{root} is not a git checkout with a commit: {stderr_line(found) or 'no HEAD'}. Run "
            "this in a clone of the project."
        )
    return found.stdout.decode().strip()


def tip(root: Path, ref: str) -> str:
    """The current commit of ``ref`` on the checkout's remote ``origin``, fetched if it is missing
    locally.

    Raises:
        Refused: git's configuration redirects to another remote than the checkout's.
        SystemFailed: the remote can't be reached, or has no such ref.
    """
    own = run(root, "config", "--local", "--get", "remote.origin.url").stdout.decode().strip()
    used = run(root, "ls-remote", "--get-url", "origin").stdout.decode().strip()
    if own and without_user(used) != without_user(own):
        raise Refused(
            f"git's configuration (url.*.insteadOf) redirects {without_user(own)} to "
            f"{without_user(used)}. In prod only the checkout's own remote may be used. Remove "
            "that setting."
        )
    listed = run(root, "ls-remote", "origin", ref)
    commit = ref_of(listed.stdout, ref)
    if listed.returncode != 0 or commit is None:
        raise SystemFailed(
            f"{root}: can't read {ref} from the remote 'origin': "
            f"{stderr_line(listed) or 'it has no such ref'}. Check the remote with 'git ls-remote "
            "origin'."
        )
    if run(root, "cat-file", "-e", f"{commit}^{{commit}}").returncode != 0:
        fetched = run(root, "fetch", "--quiet", "--no-tags", "origin", ref)
        if fetched.returncode != 0:
            raise SystemFailed(
                f"{root}: git fetch origin {ref} failed: {stderr_line(fetched)}. Check the remote, "
                "then run this again."
            )
    return commit


def changed(root: Path, old: str, new: str, paths: Sequence[str]) -> list[str]:
    """The files at or below ``paths`` that differ between two commits.

    Raises:
        SystemFailed: git failed.
    """
    done = run(root, "diff", "--name-only", "--no-renames", "-z", old, new, "--", *paths)
    if done.returncode != 0:
        raise SystemFailed(
            f"{root}: git diff {old[:12]} {new[:12]} failed: {stderr_line(done)}. In CI, check out "
            "the whole history (fetch-depth: 0)."
        )
    return [name for name in done.stdout.decode(errors="replace").split("\0") if name]


def commits_of(root: Path, path: Path) -> list[str]:
    """The commits reachable from HEAD that changed ``path``, oldest first.

    Raises:
        SystemFailed: git failed.
    """
    done = run(root, "log", "--format=%H", "--first-parent", "--", str(path))
    if done.returncode != 0:
        raise SystemFailed(
            f"{root}: git log of {path} failed: {stderr_line(done)}. Check the repository with "
            "'git fsck'."
        )
    return done.stdout.decode().split()[::-1]
