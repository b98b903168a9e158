"""Bounded reads, atomic and durable writes, folders, and locks."""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from lynx_pipeline.domain.file_kinds import recognise
from lynx_pipeline.errors import BadInput, SystemFailed

# Bytes. Files that are read whole are small; somebody else may have written them.
LONGEST_FILE = 16 << 20


def read_bytes(path: Path, what: str, limit: int = LONGEST_FILE) -> bytes:
    """The file's bytes, at most ``limit``. Of a longer file nothing beyond that is read.

    Raises:
        BadInput: there is no such file, or it is longer.
        SystemFailed: it can't be read.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            raw = b"" if size > limit else file.read(limit + 1)
        if max(size, len(raw)) > limit:
            raise BadInput(
                f"{path}: it has more than {limit} bytes, the most that is expected of such a "
                "file. Check that it is the right one."
            )
        return raw
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise BadInput(f"{what}: there is no file {path}.") from None
    except OSError as error:
        raise SystemFailed(
            f"{what}: {path} can't be read: {error.strerror}. Check its permissions and the disk, "
            "then run this again."
        ) from None


def read_json_bytes(path: Path, what: str) -> bytes:
    """Like :func:`read_bytes`, for a file of JSON that people edit. A file that an editor saved in
    another encoding is refused here, where its path is known, with the command that converts it.

    Raises:
        BadInput: likewise, or it is another kind of file.
        SystemFailed: likewise.
    """
    raw = read_bytes(path, what)
    if kind := recognise(raw):
        raise BadInput(f"{path}: not JSON in UTF-8: {kind.sentence_for(str(path))}")
    return raw


def write_atomic(path: Path, data: bytes) -> None:
    """Replace the content of ``path`` with ``data``, atomically and durably: readers see the old
    bytes or the new ones.

    Raises:
        SystemFailed: the disk failed. The file has its old bytes, or the new ones if only the last
            sync failed.
    """
    with writing_atomic(path) as file:
        file.write(data)


@contextlib.contextmanager
def writing_atomic(path: Path) -> Iterator[BinaryIO]:
    """Like :func:`write_atomic`, for what the block writes. If the block raises an exception,
    ``path`` stays as it was.

    Raises:
        SystemFailed: the disk failed, here or in the block.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f".{path.name}.{os.urandom(16).hex()}")
        try:
            with new.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            new.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                new.unlink()
            raise
        sync(path.parent)
    except OSError as error:
        raise SystemFailed(
            f"{path} can't be written: {error.strerror}. Check its permissions and the disk, then "
            "run this again."
        ) from None


@contextlib.contextmanager
def restored_on_failure(*paths: Path) -> Iterator[None]:
    """If the block fails, leave at ``paths`` what was there before: files and links, or nothing."""
    before = [(path, _content(path)) for path in paths]
    try:
        yield
    except BaseException:
        for path, content in before:
            if _content(path) != content:
                path.unlink(missing_ok=True)
                if isinstance(content, bytes):
                    path.write_bytes(content)
                elif content is not None:
                    path.symlink_to(content)
        raise


def _content(path: Path) -> bytes | Path | None:
    """A file's bytes, a link's target, or None if there is neither."""
    if path.is_symlink():
        return path.readlink()
    return path.read_bytes() if path.is_file() else None


def make_folder(path: Path) -> Path:
    """``path``, created if it is missing, with the folders above it.

    Raises:
        SystemFailed: the disk failed, or a file is in the way.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SystemFailed(
            f"the folder {path} can't be created: {error.strerror}. Choose a writable location, "
            "then run this again."
        ) from None
    return path


@contextlib.contextmanager
def locked(path: Path, seconds: float, busy: str) -> Iterator[None]:
    """Hold the lock at ``path`` while the block runs, and create its folder if it is missing. The
    block's own exceptions pass through unchanged.

    Raises:
        SystemFailed: another process held the lock for all of ``seconds``, with ``busy`` as the
            message; or the lock can't be taken at all.
    """
    from filelock import FileLock, Timeout

    make_folder(path.parent)
    lock = FileLock(path, timeout=seconds)
    try:
        lock.acquire()
    except Timeout:
        raise SystemFailed(busy) from None
    except OSError as error:
        raise SystemFailed(
            f"the lock {path} can't be taken: {error.strerror}. Check its permissions and the "
            "disk, then run this again."
        ) from None
    try:
        yield
    finally:
        lock.release()


def sync(path: Path) -> None:
    """Make a file's bytes, or the names in a folder, durable (fsync)."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256_file(path: Path) -> str:
    """SHA-256 of the file's bytes, in hex, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
