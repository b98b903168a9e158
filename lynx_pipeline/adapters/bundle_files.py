"""A bundle on disk: lists and hashes its files, and rejects anything a bundle may not contain."""

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from lynx_pipeline.adapters.files import make_folder, read_bytes, sha256_file
from lynx_pipeline.domain.bundle import (
    BUNDLE_MIB,
    LONGEST_MLMODEL,
    MANIFEST,
    MLMODEL,
    Bundle,
    BundleFile,
    Tally,
    bundle_manifest,
    canonical_sha,
    parent_sha,
)
from lynx_pipeline.domain.manifest import read_manifest
from lynx_pipeline.errors import BadInput, SystemFailed, some_of


def read_bundle(folder: Path, mib: int = BUNDLE_MIB) -> Bundle:
    """The identities of the bundle in ``folder``, which may have up to ``mib`` MiB. Nothing is read
    before names and sizes have been checked. Files are hashed in blocks.

    Raises:
        BadInput: it is not an MLflow model, is beyond a limit, or contains a symlink or another
            special file.
        SystemFailed: the disk failed.
    """
    if not folder.is_dir():
        raise BadInput(f"no bundle at {folder}: it is not a folder. Check the path.")
    try:
        files, folders = _listed(folder, mib)
        mlmodel = read_bytes(folder / MLMODEL, MLMODEL, LONGEST_MLMODEL)
        hashed = [
            BundleFile(name, size, sha256_file(folder / name), executable)
            for name, (size, executable) in files.items()
        ]
        sha = canonical_sha(hashed, mlmodel)
    except BadInput as error:
        raise BadInput(f"{folder}: {error}") from None
    except OSError as error:
        raise SystemFailed(
            f"the bundle {folder} can't be read: {error.strerror}. Check its permissions and the "
            "disk, then run this again."
        ) from None
    size = sum(file.size for file in hashed)
    manifest, parent = bundle_manifest(hashed, folders), _parent_sha(folder, files)
    return Bundle(sha, manifest, parent, len(files), size)


def restore_modes(folder: Path, manifest: bytes) -> None:
    """Give a copy of a bundle the empty folders and file modes of its manifest, which the copy may
    have lost. Files that are missing stay missing.

    Raises:
        BadInput: it is not a manifest.
        SystemFailed: the disk failed.
    """
    listed = read_manifest(manifest)
    for path in listed.folders:
        make_folder(folder / path)
    for file in listed.files:
        found = folder / file.path
        if found.is_file():
            found.chmod(0o755 if file.executable else 0o644)


def _listed(folder: Path, mib: int) -> tuple[dict[str, tuple[int, bool]], list[str]]:
    """Size and executable bit of each file, and the paths of all folders."""
    files, folders = dict[str, tuple[int, bool]](), list[str]()
    tally = Tally(mib)
    for name, found in _walk(str(folder), ""):
        try:
            name.encode("utf-8")
        except UnicodeEncodeError:
            raise BadInput(
                f"the name {name!r:.80} is not UTF-8. Rename it and log the model again."
            ) from None
        if stat.S_ISDIR(found.st_mode):
            tally.add_folder(name)
            folders.append(name)
        else:
            tally.add_file(name, found.st_size)
            files[name] = found.st_size, bool(found.st_mode & stat.S_IXUSR)
    if MLMODEL not in files:
        raise BadInput(f"not an MLflow model: there is no {MLMODEL} file at the top level.")
    return files, folders


def _walk(folder: str, below: str) -> Iterator[tuple[str, os.stat_result]]:
    """The name of everything in ``folder``, which starts with ``below``, and what it is; only files
    and folders are allowed. The caller checks each folder before its content is listed."""
    for entry in os.scandir(folder):
        found, name = entry.stat(follow_symlinks=False), f"{below}{entry.name}"
        mode = found.st_mode
        if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
            kind = "a symlink" if stat.S_ISLNK(mode) else "neither a file nor a folder"
            raise BadInput(
                f"{name!r:.80} is {kind}; a bundle may contain only files and folders. Log the "
                "model again without it."
            )
        if entry.name == "__pycache__":
            raise BadInput(
                f"{name!r:.80} has compiled Python, which may run in place of the code beside it. "
                "Remove the folder. A server that loads a model should run with "
                "PYTHONDONTWRITEBYTECODE=1."
            )
        yield name, found
        if stat.S_ISDIR(mode):
            yield from _walk(entry.path, f"{name}/")


def _parent_sha(folder: Path, files: Iterable[str]) -> str | None:
    """``parent_sha`` from the bundle's ``train_manifest.json``, in whichever folder it is. None if
    the bundle has no manifest."""
    found = [path for path in files if path.rpartition("/")[2] == MANIFEST]
    if len(found) > 1:
        raise BadInput(
            f"{folder}: {len(found)} {MANIFEST} files, expected at most one: {some_of(found)}. "
            "Remove the others and log the model again."
        )
    if not found:
        return None
    path = folder / found[0]
    return parent_sha(read_bytes(path, MANIFEST), str(path))
