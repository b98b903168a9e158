"""DVC: the versioned data file that a ``.dvc`` file names, pulled if need be and verified.

DVC trusts a cached file that is marked read-only without reading it, so the bytes on disk
are hashed here, every time. DVC itself is imported only when something has to be pulled.
"""

import hashlib
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lynx_pipeline.adapters.files import locked, read_bytes
from lynx_pipeline.errors import BadInput, SystemFailed

PULL_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class DataFile:
    """A file's bytes and their two digests, in hex. ``dvc_hash`` is DVC's, an MD5."""

    raw: bytes
    dvc_hash: str
    sha256: str


def dvc_file(path: Path) -> Path:
    """The ``.dvc`` file of a data file, beside it."""
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


def read_versioned(root: Path, path: Path) -> DataFile:
    """The bytes of ``path`` that its ``.dvc`` file names, pulled first if they aren't there.

    Raises:
        BadInput: there is no usable ``.dvc`` file, or the bytes on disk are others.
        SystemFailed: DVC could not pull.
    """
    expected = pulled(root, path)
    data = digest(read_bytes(path, "the versioned data"))
    check_hash(path, data.dvc_hash, expected)
    return data


def pulled(root: Path, path: Path) -> str:
    """The MD5 that ``path`` is to have by its ``.dvc`` file; pulled if it isn't there.

    Raises:
        BadInput: there is no usable ``.dvc`` file.
        SystemFailed: DVC could not pull.
    """
    file = dvc_file(path)
    raw = read_bytes(file, "the data is not under DVC")
    expected = tracked_hash(raw, str(file), path.name)
    if not path.exists():
        with _one_at_a_time(root):
            if not path.exists():
                pull(root, path)
    return expected


def check_hash(path: Path, found: str, expected: str) -> None:
    """That the bytes of ``path`` have the MD5 ``expected``.

    Raises:
        BadInput: they don't.
    """
    if found != expected:
        raise BadInput(
            f"{path}: its bytes have the MD5 {found}, but {path.name}.dvc says {expected}: the "
            f"file was changed. To get the versioned one back, run 'dvc checkout --force "
            f"{path}.dvc'; if that does not help, the cache is damaged: remove .dvc/cache and run "
            "'dvc pull'."
        )


def pull(root: Path, path: Path) -> None:
    """Fetch ``path`` from the project's DVC remote.

    Raises:
        SystemFailed: DVC says it can't.
    """
    with _repo(root, f"{path}: DVC could not pull it") as repo:
        repo.pull(targets=[str(dvc_file(path))])


def read_object(root: Path, md5: str) -> bytes:
    """The bytes that DVC keeps under this hash, from the local cache or the default remote.
    They are not verified here.

    Raises:
        BadInput: neither has them.
        SystemFailed: DVC could not ask.
    """
    with _repo(root, f"DVC could not look for {md5}") as repo:
        for find in (lambda: repo.cache.local, repo.cloud.get_remote_odb):
            place = find()
            path = place.oid_to_path(md5)
            if place.fs.exists(path):
                return bytes(place.fs.cat_file(path))
    raise BadInput(f"{root}: neither DVC's cache nor its default remote has {md5}.")


def track(root: Path, path: Path) -> None:
    """Put ``path`` under DVC and push it to the project's default remote.

    Raises:
        SystemFailed: DVC says it can't.
    """
    with _one_at_a_time(root), _repo(root, f"{path}: DVC could not take it in") as repo:
        repo.add([str(path)])
        repo.push(targets=[str(dvc_file(path))])


@contextmanager
def _repo(root: Path, failure: str) -> Iterator[Any]:
    """DVC's repository, without its chatter: its log handlers keep the stream that standard
    output was when it was imported, which may be closed by now."""
    import logging

    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc.scm import SCMError

    log = logging.getLogger("dvc")
    handlers, log.handlers = log.handlers, [logging.NullHandler()]
    try:
        with Repo(str(root)) as repo:
            yield repo
    except (DvcException, SCMError, OSError) as error:
        raise SystemFailed(
            f"{failure}: {' '.join(str(error).split())}. Check that this is a clone with its "
            ".git folder, and the remote with 'dvc remote list'."
        ) from None
    finally:
        log.handlers = handlers


def _one_at_a_time(root: Path) -> AbstractContextManager[None]:
    """DVC gives up when another process holds its lock; two runs that start together wait."""
    return locked(
        root / ".dvc" / "tmp" / "lynx-pull.lock",
        PULL_SECONDS,
        f"{root}: another process has been pulling data for {PULL_SECONDS:.0f} seconds. Wait for "
        "it, then run this again.",
    )


def tracked_hash(raw: bytes, where: str, name: str) -> str:
    """The MD5 that a ``.dvc`` file's bytes give for the one output ``name``.

    Raises:
        BadInput: it is no ``.dvc`` file of that output.
    """
    import yaml

    try:
        (out,) = yaml.safe_load(raw)["outs"]
        md5, path = out["md5"], out["path"]
    except Exception:  # PyYAML's constructors let AttributeError and others through
        raise BadInput(f"{where}: expected one output with an md5 and a path.") from None
    if path != name or not re.fullmatch(r"[0-9a-f]{32}", str(md5)):
        raise BadInput(f"{where}: expected the md5 (32 hex digits) of {name}.")
    return str(md5)
