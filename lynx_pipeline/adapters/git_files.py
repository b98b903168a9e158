"""Git: files as they stood at a commit, the commits that changed them, and what a remote has."""

from collections.abc import Sequence
from pathlib import Path

from lynx_pipeline.adapters.git import ref_of, run, said, without_user
from lynx_pipeline.errors import BadInput, Refused, SystemFailed


def file_at(root: Path, ref: str, path: Path) -> bytes | None:
    """The bytes of ``path`` at commit ``ref``; None if it was not there.

    Raises:
        BadInput: there is no such commit, or the project is no git checkout.
        SystemFailed: git is not installed, or took too long.
    """
    commit = run(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
    if commit.returncode != 0:
        raise BadInput(
            f"git knows no commit {ref!r} in {root}. Name one that is here; in CI, check out the "
            "whole history (fetch-depth: 0)."
        )
    sha = commit.stdout.decode().strip()
    name = f"./{path.relative_to(root).as_posix()}"
    listed = run(root, "ls-tree", sha, "--", name)
    if listed.returncode == 0 and not listed.stdout.strip():
        return None
    shown = run(root, "show", f"{sha}:{name}")
    if shown.returncode != 0:
        raise SystemFailed(f"git show {ref}:{name} failed: {said(shown)}.")
    return shown.stdout


def head(root: Path) -> str:
    """The checked-out commit.

    Raises:
        BadInput: there is none.
        SystemFailed: git is not installed, or took too long.
    """
    found = run(root, "rev-parse", "--verify", "--quiet", "HEAD^{commit}")
    if found.returncode != 0:
        raise BadInput(f"{root}: is no git checkout with a commit: {said(found) or 'no HEAD'}.")
    return found.stdout.decode().strip()


def tip(root: Path, ref: str) -> str:
    """The commit of ``ref`` on the checkout's remote ``origin`` now, fetched if it isn't here.

    Raises:
        Refused: git's configuration leads to another remote than the checkout's.
        SystemFailed: the remote could not be asked, or has no such ref.
    """
    own = run(root, "config", "--local", "--get", "remote.origin.url").stdout.decode().strip()
    place = run(root, "ls-remote", "--get-url", "origin").stdout.decode().strip()
    if own and without_user(place) != without_user(own):
        raise Refused(
            f"git's configuration (url.*.insteadOf) leads from {without_user(own)} to "
            f"{without_user(place)}. In prod the checkout's remote is asked itself."
        )
    listed = run(root, "ls-remote", "origin", ref)
    commit = ref_of(listed.stdout, ref)
    if listed.returncode != 0 or commit is None:
        raise SystemFailed(
            f"{root}: the remote 'origin' does not say what {ref} is now: "
            f"{said(listed) or 'it has no such ref'}."
        )
    if run(root, "cat-file", "-e", f"{commit}^{{commit}}").returncode != 0:
        fetched = run(root, "fetch", "--quiet", "--no-tags", "origin", ref)
        if fetched.returncode != 0:
            raise SystemFailed(f"{root}: git fetch failed: {said(fetched)}.")
    return commit


def changed(root: Path, old: str, new: str, paths: Sequence[str]) -> list[str]:
    """The files in or below ``paths`` that differ between two commits.

    Raises:
        SystemFailed: git failed.
    """
    done = run(root, "diff", "--name-only", "--no-renames", "-z", old, new, "--", *paths)
    if done.returncode != 0:
        raise SystemFailed(f"git diff {old[:12]} {new[:12]} failed: {said(done)}.")
    return [name for name in done.stdout.decode(errors="replace").split("\0") if name]


def commits_of(root: Path, path: Path) -> list[str]:
    """The commits reachable from HEAD that changed ``path``, oldest first.

    Raises:
        SystemFailed: git failed.
    """
    done = run(root, "log", "--format=%H", "--first-parent", "--", str(path))
    if done.returncode != 0:
        raise SystemFailed(f"git log failed in {root}: {said(done)}.")
    return done.stdout.decode().split()[::-1]
