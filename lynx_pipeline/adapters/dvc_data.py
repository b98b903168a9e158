"""DVC: reads the data file that a ``.dvc`` file names, pulling it first if it is missing.

DVC trusts a read-only cached file without reading it, so this module hashes the bytes on disk
every time. DVC itself is imported only when it is needed.
"""

import hashlib
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lynx_pipeline.adapters.files import LONGEST_FILE, locked, read_bytes
from lynx_pipeline.errors import BadInput, SystemFailed

PULL_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class DataFile:
    """A file's bytes and their two digests, in hex. ``dvc_hash`` is the MD5 that DVC uses."""

    raw: bytes
    dvc_hash: str
    sha256: str


def dvc_file(path: Path) -> Path:
    """The ``.dvc`` file beside a data file."""
    return path.with_name(path.name + ".dvc")


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


def read_versioned(root: Path, path: Path, limit: int = LONGEST_FILE) -> DataFile:
    """The bytes of ``path``, verified against its ``.dvc`` file. Pulls the file if it is missing.

    Raises:
        BadInput: there is no usable ``.dvc`` file, or the bytes on disk don't match it, or are
            more than ``limit``.
        SystemFailed: the disk failed, or DVC could not pull the file.
    """
    expected = pulled(root, path)
    data = digest(read_bytes(path, "the versioned data", limit))
    check_hash(path, data.dvc_hash, expected)
    return data


def pulled(root: Path, path: Path) -> str:
    """The MD5 that the ``.dvc`` file of ``path`` records. Pulls ``path`` if it is missing, but
    does not verify it.

    Raises:
        BadInput: there is no usable ``.dvc`` file.
        SystemFailed: the disk failed, or DVC could not pull the file.
    """
    file = dvc_file(path)
    raw = read_bytes(file, "the data is not under DVC")
    expected = tracked_hash(raw, str(file), path.name)
    if not path.exists():
        with _dvc_lock(root):
            if not path.exists():
                pull(root, path)
    return expected


def check_hash(path: Path, found: str, expected: str) -> None:
    """Check that ``found``, the MD5 of ``path``, is ``expected``.

    Raises:
        BadInput: it is not.
    """
    if found != expected:
        raise BadInput(
            f"{path}: the file was changed: its MD5 is {found}, expected {expected} as in "
            f"{path.name}.dvc. To restore the versioned file, run 'dvc checkout --force "
            f"{path}.dvc'. If that does not help, the cache is damaged: remove .dvc/cache and run "
            "'dvc pull'."
        )


def pull(root: Path, path: Path) -> None:
    """Fetch ``path`` from the project's DVC remote.

    Raises:
        SystemFailed: DVC failed.
    """
    with _repo(root, f"{path}: DVC could not pull it") as repo:
        repo.pull(targets=[str(dvc_file(path))])


def read_object(root: Path, md5: str) -> bytes:
    """The bytes that DVC stores under this hash, from the local cache or the default remote. The
    caller has to verify them.

    Raises:
        BadInput: neither has them.
        SystemFailed: DVC failed.
    """
    with _repo(root, f"{root}: DVC could not look up {md5}") as repo:
        for find in (lambda: repo.cache.local, repo.cloud.get_remote_odb):
            store = find()
            path = store.oid_to_path(md5)
            if store.fs.exists(path):
                return bytes(store.fs.cat_file(path))
    raise BadInput(
        f"{root}: neither DVC's cache nor its default remote has {md5}. Run 'dvc push' where the "
        "file exists, then run this again."
    )


def track(root: Path, path: Path) -> None:
    """Add ``path`` to DVC and push it to the project's default remote.

    Raises:
        SystemFailed: DVC failed.
    """
    with _dvc_lock(root), _repo(root, f"{path}: DVC could not add and push it") as repo:
        repo.add([str(path)])
        repo.push(targets=[str(dvc_file(path))])


@contextmanager
def _repo(root: Path, failure: str) -> Iterator[Any]:
    """DVC's repository."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc.scm import SCMError

    try:
        with silenced(), Repo(str(root)) as repo:
            yield repo
    except (DvcException, SCMError, OSError) as error:
        raise SystemFailed(
            f"{failure}: {' '.join(str(error).split())}. Check that this is a full clone with a "
            ".git folder, and check the remote with 'dvc remote list'."
        ) from None


@contextmanager
def silenced() -> Iterator[None]:
    """Turn off DVC's logging while the block runs: its handlers keep the stream that was standard
    output at import time, and it may be closed by now."""
    import logging

    log = logging.getLogger("dvc")
    handlers, log.handlers = log.handlers, [logging.NullHandler()]
    try:
        yield
    finally:
        log.handlers = handlers


def _dvc_lock(root: Path) -> AbstractContextManager[None]:
    """Our own lock, which waits. DVC gives up at once when another process has its lock, and two
    runs may start together."""
    return locked(
        root / ".dvc" / "tmp" / "lynx-pull.lock",
        PULL_SECONDS,
        f"{root}: another process has been using DVC for {PULL_SECONDS:.0f} seconds. Wait until "
        "it ends, then run this again.",
    )


def tracked_hash(raw: bytes, where: str, name: str) -> str:
    """The MD5 that the ``.dvc`` file with the bytes ``raw`` records for its only output, ``name``.

    Raises:
        BadInput: it is not a ``.dvc`` file for that output.
    """
    import yaml

    try:
        (out,) = yaml.safe_load(raw)["outs"]
        md5, path = out["md5"], out["path"]
    except Exception:  # PyYAML's constructors let AttributeError and others through
        raise BadInput(
            f"{where}: expected one output with an md5 and a path. Restore the file from git, or "
            "run 'dvc add' again."
        ) from None
    if path != name or not re.fullmatch(r"[0-9a-f]{32}", str(md5)):
        raise BadInput(
            f"{where}: expected the md5 (32 hex digits) of {name}. Restore the file from git, or "
            "run 'dvc add' again."
        )
    return str(md5)
