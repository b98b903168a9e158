"""A bundle on disk: lists and hashes its files, and rejects anything a bundle may not contain."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from lynx_pipeline.adapters.files import read_bytes, sha256_file
from lynx_pipeline.domain.bundle import (
    MANIFEST,
    MLMODEL,
    Bundle,
    BundleFile,
    canonical_sha,
    parent_sha,
    stable_mlmodel,
)
from lynx_pipeline.errors import BadInput, SystemFailed


def read_bundle(folder: Path) -> Bundle:
    """The identity of the bundle in ``folder``.

    Raises:
        BadInput: it is not an MLflow model, or contains a symlink or another special file.
        SystemFailed: the disk failed.
    """
    if not folder.is_dir():
        raise BadInput(f"no bundle at {folder}: it is not a folder. Check the path.")
    try:
        files = [_hashed(folder, path) for path in _walk(folder)]
    except OSError as error:
        raise SystemFailed(
            f"the bundle {folder} can't be read: {error.strerror}. Check its permissions and the "
            "disk, then run this again."
        ) from None
    try:
        sha = canonical_sha(files)
    except BadInput as error:
        raise BadInput(f"{folder}: {error}") from None
    manifest = _manifest(folder, files)
    return Bundle(sha, manifest, len(files), sum(file.size for file in files))


def _walk(folder: Path) -> Iterator[Path]:
    for found in os.scandir(folder):
        path = Path(found.path)
        mode = found.stat(follow_symlinks=False).st_mode
        if stat.S_ISDIR(mode):
            yield from _walk(path)
        elif stat.S_ISREG(mode):
            yield path
        else:
            kind = "a symlink" if stat.S_ISLNK(mode) else "neither a file nor a folder"
            raise BadInput(
                f"{path} is {kind}; a bundle may contain only files and folders. Log the model "
                "again without it."
            )


def _hashed(folder: Path, path: Path) -> BundleFile:
    import hashlib

    name = path.relative_to(folder).as_posix()
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        raise BadInput(
            f"{folder}: the file name {name!r} is not UTF-8. Rename the file and log the model "
            "again."
        ) from None
    if name == MLMODEL:
        stable = stable_mlmodel(path.read_bytes())
        return BundleFile(name, len(stable), hashlib.sha256(stable).hexdigest())
    return BundleFile(name, path.stat().st_size, sha256_file(path))


def _manifest(folder: Path, files: list[BundleFile]) -> str | None:
    """``parent_sha`` from the bundle's ``train_manifest.json``, in whichever folder it is. None if
    the bundle has no manifest."""
    found = [f.path for f in files if f.path.rpartition("/")[2] == MANIFEST]
    if len(found) > 1:
        raise BadInput(
            f"{folder}: {len(found)} {MANIFEST} files, expected at most one: {', '.join(found)}. "
            "Remove the others and log the model again."
        )
    if not found:
        return None
    path = folder / found[0]
    return parent_sha(read_bytes(path, MANIFEST), str(path))
