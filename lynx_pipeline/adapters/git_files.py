"""Git: files at a commit, the commits that changed them, and the tip of a remote's branch."""

import re
from collections.abc import Sequence
from pathlib import Path

from lynx_pipeline.adapters.git import Done, ref_of, run, stderr_line, stderr_sentence, without_user
from lynx_pipeline.domain.text import without_secrets
from lynx_pipeline.errors import BadInput, Refused, SystemFailed

_CONVERTING = ("filter", "ident", "working-tree-encoding")


def file_at(root: Path, ref: str, path: Path) -> bytes | None:
    """The bytes of ``path`` at commit ``ref``; None if the commit does not have it.

    Raises:
        BadInput: there is no such commit, or the project is not a git checkout.
        SystemFailed: git failed.
    """
    sha = _commit(root, ref)
    if sha is None:
        raise BadInput(
            f"{root}: git has no commit {ref!r}. Name an existing commit; in CI, check out the "
            "whole history (fetch-depth: 0)."
        )
    name = f"./{path.relative_to(root).as_posix()}"
    if not _git(root, "ls-tree", sha, "--", name).strip():
        return None
    return _git(root, "show", f"{sha}:{name}")


def checked_out(blob: bytes) -> tuple[bytes, bytes]:
    """What git may write on disk for a committed text: its bytes, or the same with CRLF at the end
    of each line (``core.autocrlf`` and the attribute ``eol=crlf``)."""
    return blob, re.sub(rb"\r?\n", b"\r\n", blob)


def conversion(root: Path, path: Path) -> str | None:
    """The attribute by which git converts ``path`` at checkout in any other way, such as
    ``filter=lfs``; None if there is none.

    Raises:
        SystemFailed: git failed.
    """
    listed = _git(root, "check-attr", "-z", *_CONVERTING, "--", path.relative_to(root).as_posix())
    fields = listed.decode(errors="replace").split("\0")  # path, attribute and value of each
    for name, value in zip(fields[1::3], fields[2::3], strict=True):
        if value not in ("unspecified", "unset"):
            return name if value == "set" else f"{name}={value}"
    return None


def head(root: Path) -> str:
    """The checked-out commit.

    Raises:
        BadInput: ``root`` is not a git checkout, or it has no commit yet.
        SystemFailed: git failed.
    """
    sha = _commit(root, "HEAD")
    if sha is None:
        raise BadInput(
            f"{root}: the git repository has no commit yet. Commit the project, or run this in a "
            "clone of it."
        )
    return sha


def tip(root: Path, ref: str) -> str:
    """The current commit of ``ref`` on the checkout's remote ``origin``, fetched if it is missing
    locally.

    Raises:
        Refused: git's configuration redirects to another remote than the checkout's.
        SystemFailed: the remote can't be reached, or has no such ref.
    """
    head(root)  # in a checkout that git refuses, the other commands' errors name another cause
    local = ("config", "--local", "--get", "--default=", "remote.origin.url")
    own = _git(root, *local).decode().strip()
    used = _git(root, "ls-remote", "--get-url", "origin").decode().strip()
    if own and without_user(used) != without_user(own):
        raise Refused(
            f"git's configuration (url.*.insteadOf) redirects {without_secrets(own)} to "
            f"{without_secrets(used)}. In prod only the checkout's own remote may be used. Remove "
            "that setting."
        )
    listed = run(root, "ls-remote", "origin", ref)
    commit = ref_of(listed.stdout, ref)
    if listed.returncode != 0 or commit is None:
        raise SystemFailed(
            f"{root}: can't read {ref} from the remote 'origin': "
            f"{stderr_sentence(listed, 'it has no such ref')} Check the remote with 'git ls-remote "
            "origin'."
        )
    if run(root, "cat-file", "-e", f"{commit}^{{commit}}").returncode != 0:
        fetched = run(root, "fetch", "--quiet", "--no-tags", "origin", ref)
        if fetched.returncode != 0:
            raise SystemFailed(
                f"{root}: git fetch origin {ref} failed: {stderr_sentence(fetched)} Check the "
                "remote, then run this again."
            )
    return commit


def changed(root: Path, old: str, new: str, paths: Sequence[str]) -> list[str]:
    """The files at or below ``paths`` that differ between two commits. All paths are from the root
    of the repository, whatever folder of it ``root`` is.

    Raises:
        SystemFailed: git failed.
    """
    options = ("-r", "--name-only", "--no-renames", "-z")
    literally = [f":(top,literal){path}" for path in paths]
    return _list(root, "diff-tree", *options, old, new, "--", *literally)


def existing(root: Path, commit: str, paths: Sequence[str]) -> list[str]:
    """Those of ``paths``, from the root of the repository, that the commit has: files and folders.

    Raises:
        SystemFailed: git failed.
    """
    if not paths:
        return []
    listed = _list(root, "ls-tree", "--full-tree", "--name-only", "-z", commit, "--", *paths)
    return [path for path in paths if path in listed]


def beside(root: Path, commit: str) -> list[str]:
    """What the commit has directly in ``root`` and in the root of the repository, as paths from
    there.

    Raises:
        SystemFailed: git failed.
    """
    listing = ("ls-tree", "--full-name", "--name-only", "-z")
    here = _list(root, *listing, commit)
    return sorted({*here, *_list(root, *listing, "--full-tree", commit)})


def commits_of(root: Path, *paths: Path) -> list[str]:
    """The commits reachable from HEAD that changed one of ``paths``, oldest first.

    Raises:
        SystemFailed: git failed.
    """
    log = _git(root, "log", "--format=%H", "--first-parent", "--", *map(str, paths))
    return log.decode().split()[::-1]


def names(root: Path, ref: str | None = None) -> list[str]:
    """The files below the folder ``root`` that git tracks, or that the commit ``ref`` has. None
    outside of a git repository, which DVC works without, too.

    Raises:
        SystemFailed: git failed.
    """
    listing = ("ls-files", "-z") if ref is None else ("ls-tree", "-r", "-z", "--name-only", ref)
    done = run(root, *listing)
    if done.returncode == 0:
        return done.stdout.decode(errors="surrogateescape").split("\0")[:-1]
    if b"not a git repository" in done.stderr:
        return []
    raise _failed(root, listing[0], done)


def _commit(root: Path, ref: str) -> str | None:
    """The commit that ``ref`` names; None if there is none."""
    found = run(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
    if found.returncode == 0:
        return found.stdout.decode().strip()
    if not stderr_line(found):  # git says nothing if there is only no such commit
        return None
    if b"not a git repository" in found.stderr:
        raise BadInput(
            f"{root} is not a git checkout: git says: {stderr_sentence(found)} Run this in a clone "
            "of the project."
        )
    raise _failed(root, "rev-parse", found)


def _list(root: Path, *arguments: str) -> list[str]:
    names = _git(root, *arguments).decode(errors="replace")
    return [name for name in names.split("\0") if name]


def _git(root: Path, *arguments: str) -> bytes:
    done = run(root, *arguments)
    if done.returncode != 0:
        raise _failed(root, arguments[0], done)
    return done.stdout


def _failed(root: Path, command: str, done: Done) -> SystemFailed:
    """The error for a failed command, with what git itself says about it."""
    words = stderr_sentence(done, f"exit code {done.returncode}")
    if b"dubious ownership" in done.stderr:
        advice = "Or run this as the user who owns the checkout"
    elif b"bad object" in done.stderr:
        advice = "Check out the whole history (in CI, fetch-depth: 0), or see 'git fsck'"
    else:
        advice = "Check the repository with 'git fsck'"
    return SystemFailed(f"{root}: git {command} failed: {words} {advice}.")
