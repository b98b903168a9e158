"""DVC: reads a version of a file that need not be the one that is checked out.

Caches and remotes name an object by its hash. Two kinds of files are in no remote under their
hash: those that ``dvc import`` got from another repository, and those in a remote with versions
(``version_aware``), which names them by path and the storage's own version. Only DVC's record in a
commit says where they are, so they are looked for in the history.

DVC itself is imported only when it is needed.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

from lynx_pipeline.adapters import git_files
from lynx_pipeline.adapters.dvc import ADVICE, opened, repository
from lynx_pipeline.adapters.dvc_delivery import has_object, missing_bucket, named, why_not_delivered
from lynx_pipeline.adapters.dvc_files import (
    AtCommit,
    OnDisk,
    Tracked,
    find_if_tracked,
    possible_records,
)
from lynx_pipeline.errors import BadInput, SystemFailed


def read_object(path: Path, md5: str, remote: str | None = None) -> bytes | None:
    """The bytes that DVC stores under this hash in the repository of ``path``: in the cache, in
    ``remote``, or in the default remote, in the layout of DVC 3 or 2. None if none of them has
    bytes with this hash.

    Raises:
        SystemFailed: DVC failed.
    """
    failure = f"{path}: DVC could not look up {md5}"
    with opened(path, failure) as repo:
        for found, stores in _stores(repo, remote):
            for store in stores:
                with suppress(FileNotFoundError):
                    raw = bytes(store.fs.cat_file(store.oid_to_path(md5)))
                    if _md5(raw) == md5.removesuffix(".dir"):
                        return raw
            if found is not None and (missing := missing_bucket(found)):
                place = named(repo, found.name)
                raise SystemFailed(f"{failure} in {place}: {missing}. {ADVICE}")
    return None


def why_not_in_remote(path: Path, md5: str, remote: str | None) -> str | None:
    """Why ``remote``, or the default remote if that is None, has no bytes under this hash, as a
    sentence without its full stop; None if it has. The cache is not asked.

    Raises:
        SystemFailed: DVC failed.
    """
    with opened(path, f"{path}: DVC could not look up {md5} in its remote") as repo:
        if has_object(repo.cloud.get_remote(remote), md5):
            return None
        return why_not_delivered(repo, remote, [md5])


def read_version(path: Path, md5: str, sha256: str, what: str) -> bytes:
    """The bytes of the version of ``path`` with these digests, from DVC's cache or remote, or from
    where a commit's record says that it is. It may be another version than the one that is
    recorded now. ``what`` names it in messages.

    Raises:
        BadInput: it can't be found, or has another SHA-256.
        SystemFailed: DVC failed.
    """
    tracked = find_if_tracked(path, OnDisk())
    raw = read_object(path, md5, tracked.remote if tracked else None)
    if raw is None:
        records = possible_records(path) + ([tracked.record] if tracked else [])
        raw = _from_history(path, md5, records)
    if raw is None:
        advice = "Run 'dvc push' where the file exists"
        if tracked is not None and not tracked.by_hash:
            advice = "Check out a branch whose history has the commit that recorded it"
        raise BadInput(
            f"{path.parent}: neither DVC's cache nor its remote has {what} {md5}, and no commit in "
            f"the history of HEAD says where else it is. {advice}, then run this again."
        )
    found = hashlib.sha256(raw).hexdigest()
    if found != sha256:
        raise BadInput(
            f"{what} {md5}: DVC's copy has the SHA-256 {found}, expected {sha256}: it was changed. "
            "Restore it from a backup."
        )
    return raw


def _stores(repo: Any, remote: str | None) -> Iterator[tuple[Any, Iterable[Any]]]:
    """The stores of a repository, the nearest first: those of the cache, and those of each remote,
    with that remote. Each is opened when it is its turn."""
    yield None, (repo.cache.local, repo.cache.legacy)
    for name in dict.fromkeys((remote, repo.config["core"].get("remote"))):
        if name is not None:
            found = repo.cloud.get_remote(name)
            if not found.fs.version_aware:
                yield found, (found.odb, found.legacy_odb)


def _from_history(path: Path, md5: str, records: Sequence[Path]) -> bytes | None:
    """The bytes of ``path`` with this hash, read by DVC as the latest commit that changed one of
    ``records`` and may be about them says. None if there is none."""
    root = repository(path) or path.parent
    if not git_files.names(root):  # DVC works without git, too
        return None
    tried: set[Tracked] = set()
    for commit in reversed(git_files.commits_of(root, *records)):
        tracked = find_if_tracked(path, AtCommit(root, commit))
        if tracked is None or tracked.by_hash or tracked in tried:
            continue
        tried.add(tracked)
        if tracked.own_md5 not in (None, md5):
            continue
        raw = _read_at(path, commit, tracked)
        if _md5(raw) == md5:
            return raw
    return None


def _read_at(path: Path, commit: str, tracked: Tracked) -> bytes:
    """The bytes of ``path`` as recorded in ``commit``, from wherever DVC finds them."""
    failure = f"{path}: DVC could not read the version that the commit {commit[:12]} recorded"
    with opened(path, f"{failure}{tracked.where}", tracked.advice) as repo:
        from dvc.fs import GitFileSystem
        from dvc.repo import Repo

        root = Path(repo.root_dir).resolve()
        folder = PurePosixPath("/") / root.relative_to(Path(repo.scm.root_dir).resolve())
        files = GitFileSystem(scm=repo.scm, rev=commit)
        # With today's configuration: the commit may name a remote that has moved since.
        with Repo(str(folder), fs=files, scm=repo.scm, config=dict(repo.config)) as then:
            name = path.relative_to(repository(path) or root).as_posix()
            return bytes(then.dvcfs.read_bytes(name))


def _md5(raw: bytes) -> str:
    return hashlib.md5(raw, usedforsecurity=False).hexdigest()
