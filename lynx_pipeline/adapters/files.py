"""Files that are either whole or not there."""

import contextlib
import hashlib
import os
import uuid
from pathlib import Path

from lynx_pipeline.errors import BadInput, SystemFailed


def read_bytes(path: Path, what: str) -> bytes:
    """The file's bytes.

    Raises:
        BadInput: there is no such file.
        SystemFailed: it can't be read.
    """
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise BadInput(f"{what}: there is no file {path}.") from None
    except OSError as error:
        raise SystemFailed(f"{what}: {path} can't be read: {error.strerror}.") from None


def write_whole(path: Path, data: bytes) -> None:
    """Replace ``path`` with ``data``, durably: readers see the old bytes or the new.

    Raises:
        SystemFailed: the disk refused; the old bytes are still there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        try:
            with new.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            new.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                new.unlink()
            raise
        sync(path.parent)
    except OSError as error:
        raise SystemFailed(f"{path} can't be written: {error.strerror}.") from None


def make_folder(path: Path) -> Path:
    """``path``, made if it is not there, with the folders above it.

    Raises:
        SystemFailed: the disk refused, or a file is in its place.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SystemFailed(
            f"the folder {path} can't be made: {error.strerror}. Give it a place that can be "
            "written to, then run this again."
        ) from None
    return path


def sync(path: Path) -> None:
    """Make the bytes of a file, or the names in a folder, durable."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256_file(path: Path) -> str:
    """SHA-256 of the file's bytes, in hex, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
