"""DVC: reads the data files that DVC tracks, pulling them first if they are missing.

DVC trusts a read-only cached file without reading it, so this module hashes the bytes on disk
every time. How a file can be tracked is in :mod:`lynx_pipeline.adapters.dvc_files`, and how another
version of it is found in :mod:`lynx_pipeline.adapters.dvc_versions`. DVC itself is imported only
when it is needed.
"""

import hashlib
import json
import os
import shlex
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lynx_pipeline.adapters.dvc import opened, repository, translated
from lynx_pipeline.adapters.dvc_delivery import named, why_not_delivered
from lynx_pipeline.adapters.dvc_files import (
    OnDisk,
    Tracked,
    find,
    is_md5,
    own_record,
)
from lynx_pipeline.adapters.dvc_versions import read_object
from lynx_pipeline.adapters.files import (
    LONGEST_FILE,
    locked,
    make_folder,
    read_bytes,
    write_atomic,
)
from lynx_pipeline.errors import BadInput, SystemFailed, from_os_error

PULL_SECONDS = 600.0
_FIRST_REMOTE = "storage"
LONGEST_LIST = 1 << 30  # bytes, of the list of a folder's files


@dataclass(frozen=True, slots=True)
class DataFile:
    """A file's bytes and their two digests, in hex. ``dvc_hash`` is the MD5 that DVC uses."""

    raw: bytes
    dvc_hash: str
    sha256: str


def digests(path: Path) -> tuple[str, str]:
    """The MD5 and the SHA-256 of a file, read in blocks."""
    md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            md5.update(block)
            sha256.update(block)
    return md5.hexdigest(), sha256.hexdigest()


def digest(raw: bytes) -> DataFile:
    """``raw`` with its digests."""
    md5 = hashlib.md5(raw, usedforsecurity=False).hexdigest()
    return DataFile(raw, md5, hashlib.sha256(raw).hexdigest())


def read_versioned(path: Path, limit: int = LONGEST_FILE) -> DataFile:
    """The bytes of ``path``, verified against what DVC recorded. Pulls the file if it is missing.

    Raises:
        BadInput: DVC does not track it, or the bytes on disk are other ones than it recorded, or
            more than ``limit``.
        SystemFailed: the disk failed, or DVC could not pull the file.
    """
    tracked = pulled(path)
    data = digest(read_bytes(path, "the versioned data", limit))
    check_hash(tracked, data.dvc_hash)
    return data


def pulled(path: Path) -> Tracked:
    """How DVC tracks ``path``. Pulls it if it is missing, but does not verify it.

    Raises:
        BadInput: DVC does not track it.
        SystemFailed: the disk failed, or DVC could not pull the file.
    """
    tracked = find(path, OnDisk())
    if not path.exists():  # nor if it is a link into a cache that no longer has it
        with _dvc_lock(path):
            if not path.exists():
                _copy_from_cache(tracked)
            if not path.exists():
                _pull(tracked)
    return tracked


def hand_on(path: Path, folder: Path) -> None:
    """Copy what :func:`pulled` needs for ``path`` into ``folder``, laid out like DVC's cache. On
    another machine it goes to ``.dvc/cache``, which is trusted as little as any cache.

    Raises:
        BadInput: like :func:`read_versioned`.
        SystemFailed: likewise.
    """
    tracked = pulled(path)
    check_hash(tracked, digests(path)[0])

    def place(md5: str) -> Path:
        return make_folder(folder / "files" / "md5" / md5[:2]) / md5[2:]

    shutil.copyfile(path, place(recorded_md5(tracked)))
    if tracked.member is not None and tracked.member_md5 is None:
        write_atomic(place(tracked.md5), _folder_object(tracked))


def check_hash(tracked: Tracked, found: str) -> None:
    """Check that ``found``, the MD5 of the bytes on disk, is the one that DVC recorded.

    Raises:
        BadInput: it is not.
        SystemFailed: what DVC recorded of a folder can't be read.
    """
    path, expected = tracked.path, recorded_md5(tracked)
    if found == expected:
        return
    if tracked.legacy and _ignoring_line_endings(path) == expected:
        raise BadInput(
            f"{path}: {tracked.record.name} was written by DVC 2, whose MD5 of a text ignores "
            "Windows line endings (CRLF), so it does not say which bytes are the versioned ones. "
            "Run 'dvc pull', since DVC damages the records of data that is missing, then "
            "'dvc cache migrate --dvc-files' and 'dvc push', and commit the changed files."
        )
    cached = f".dvc/cache/files/md5/{expected[:2]}/{expected[2:]}"
    raise BadInput(
        f"{path}: the file was changed: its MD5 is {found}, expected {expected} as in "
        f"{tracked.record.name}. To keep the change, run '{tracked.keep}' and 'dvc push', commit, "
        f"and propose a new baseline.{tracked.upstream} To discard it, run '{tracked.discard}', "
        f"which overwrites the file. If that does not help, the cache is damaged: remove {cached} "
        f"and run 'dvc pull {shlex.quote(tracked.to_pull)}'."
    )


def recorded_md5(tracked: Tracked) -> str:
    """The MD5 of the file that DVC recorded. For a file in a tracked folder, the folder's object
    says it, which has to match the recorded MD5 itself.

    Raises:
        BadInput: the folder does not have this file.
        SystemFailed: neither the cache nor the remote has the folder's object.
    """
    if tracked.member is None:
        return tracked.md5
    if tracked.member_md5 is not None:
        return tracked.member_md5
    listed = [
        it.get("md5") for it in _folder_entries(tracked) if it.get("relpath") == tracked.member
    ]
    if len(listed) == 1 and is_md5(listed[0]):
        return str(listed[0])
    raise BadInput(
        f"the data is not under DVC: {tracked.record} tracks {tracked.output}, which does not "
        f"have exactly one file {tracked.member}. Run '{tracked.keep}' and 'dvc push', then commit."
    )


def _folder_object(tracked: Tracked) -> bytes:
    """The object that lists the files of the tracked folder."""
    if cached := _cached(tracked.path, tracked.md5):
        listed = read_bytes(cached, "DVC's cache", LONGEST_LIST)
        if digest(listed).dvc_hash == tracked.md5.removesuffix(".dir"):
            return listed
    raw = read_object(tracked.path, tracked.md5, tracked.remote)
    if raw is None:
        advice = "Run 'dvc push' where the folder exists"
        if not tracked.by_hash:
            advice = f"Run 'dvc fetch {shlex.quote(tracked.to_pull)}'"
        raise SystemFailed(
            f"{tracked.path}: neither DVC's cache nor its remote has the list of files of "
            f"{tracked.output}, {tracked.md5}. {advice}, then run this again."
        )
    return raw


def _folder_entries(tracked: Tracked) -> list[dict[str, Any]]:
    raw = _folder_object(tracked)
    try:
        return [entry for entry in json.loads(raw) if isinstance(entry, dict)]
    except (ValueError, TypeError, RecursionError):
        raise BadInput(
            f"{tracked.record}: {tracked.md5} is not DVC's list of a folder's files. Run "
            f"'{tracked.keep}' and 'dvc push', then commit."
        ) from None


def _cached(path: Path, md5: str) -> Path | None:
    """The undamaged object with this hash, if the cache is where it usually is. This saves
    importing DVC, and works without the package and the credentials of the remote."""
    cache = (repository(path) or path.parent) / ".dvc" / "cache"
    for file in (cache / "files" / "md5" / md5[:2] / md5[2:], cache / md5[:2] / md5[2:]):
        if file.is_file() and digests(file)[0] == md5.removesuffix(".dir"):
            return file
    return None


def _copy_from_cache(tracked: Tracked) -> None:
    path, listed = tracked.path, tracked.member is None or tracked.member_md5 is not None
    if not listed and _cached(path, tracked.md5) is None:
        return
    if cached := _cached(path, recorded_md5(tracked)):
        make_folder(path.parent)
        new = path.with_name(f".{path.name}.{os.urandom(16).hex()}")
        try:
            shutil.copyfile(cached, new)
            new.replace(path)
        except OSError as error:
            new.unlink(missing_ok=True)
            raise from_os_error(error) from None


def default_remote(root: Path) -> str | None:
    """The name of the default remote of the DVC repository that contains ``root``; None if there is
    no such remote or no repository.

    Raises:
        SystemFailed: DVC failed.
    """
    inside = root / "any"
    if repository(inside) is None:
        return None
    with opened(inside, f"{root}: DVC can't read its configuration") as repo:
        name = repo.config["core"].get("remote")
        return name if name in repo.config["remote"] else None


def start_repository(root: Path, remote: str) -> None:
    """Give ``root`` this default remote, a URL or a folder, and first make it a DVC repository
    unless it is in one.

    Raises:
        SystemFailed: DVC failed.
    """
    inside = root / "any"
    with translated(f"{root}: DVC could not start a repository there"):
        from dvc.config_schema import RelPath
        from dvc.repo import Repo

        if repository(inside) is None:
            Repo.init(str(root), subdir=not (root / ".git").exists()).close()
        # DVC writes it relative to its configuration, as 'dvc remote add' does.
        outside = "://" in remote or Path(remote).is_absolute()
        url = remote if outside else RelPath(os.fspath(root / remote))
        with Repo(str(repository(inside))) as repo, repo.config.edit("repo") as config:
            config["core"] |= {"analytics": False, "remote": _FIRST_REMOTE}
            config["remote"][_FIRST_REMOTE] = {"url": url}


def push(path: Path) -> None:
    """Push ``path``, which has a record of its own, to its remote.

    Raises:
        SystemFailed: DVC failed.
    """
    with _dvc_lock(path), opened(path, f"{path}: DVC could not push it") as repo:
        repo.push(targets=[str(own_record(path))])


def track(path: Path, remote: str | None) -> None:
    """Add ``path`` to DVC and push it to ``remote``, or to the default remote if that is None.

    Raises:
        SystemFailed: DVC failed.
    """
    with _dvc_lock(path), opened(path, f"{path}: DVC could not add and push it") as repo:
        for stage in repo.add([str(path)]):
            if remote is not None:
                stage.outs[0].remote = remote
                stage.dump()
        repo.push(targets=[str(own_record(path))])


def _pull(tracked: Tracked) -> None:
    path = tracked.path
    failure = f"{path}: DVC could not pull it{tracked.where}"
    with opened(path, failure, tracked.advice) as repo:
        from dvc.exceptions import CheckoutError, DvcException

        if tracked.source is not None:  # DVC looks there, too
            repo.pull(targets=[tracked.to_pull])
            if not path.exists():
                raise DvcException("it did not arrive")
            return
        if place := named(repo, tracked.remote):
            failure += f" from {place}"
        with translated(failure, tracked.advice):
            with suppress(CheckoutError):
                repo.pull(targets=[tracked.to_pull])
            if not path.exists():
                reason = why_not_delivered(repo, tracked.remote, _wanted(tracked))
                raise SystemFailed(f"{failure}: {reason}. {tracked.advice}")


def _wanted(tracked: Tracked) -> Iterator[str]:
    """The hashes of the objects that a pull needs."""
    yield tracked.md5
    if tracked.member is not None:
        yield recorded_md5(tracked)


def _ignoring_line_endings(path: Path) -> str:
    from dvc_data.hashfile.hash import file_md5

    return str(file_md5(str(path), name="md5-dos2unix"))


def _dvc_lock(path: Path) -> AbstractContextManager[None]:
    """Our own lock, which waits. DVC gives up at once when another process has its lock, and two
    runs may start together."""
    root = repository(path)
    if root is None:  # DVC's folder must not be created
        return nullcontext()
    return locked(
        root / ".dvc" / "tmp" / "lynx-pull.lock",
        PULL_SECONDS,
        f"{root}: another process has been using DVC for {PULL_SECONDS:.0f} seconds. Wait until "
        "it ends, then run this again.",
    )
