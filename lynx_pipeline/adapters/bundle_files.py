"""A bundle on disk: lists and hashes its files, and rejects anything a bundle may not contain."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from lynx_pipeline.adapters.files import make_folder, read_bytes, sha256_file
from lynx_pipeline.domain.bundle import (
    DEEPEST,
    LONGEST_MLMODEL,
    MANIFEST,
    MLMODEL,
    MOST_ENTRIES,
    Bundle,
    BundleFile,
    bundle_manifest,
    canonical_sha,
    parent_sha,
)
from lynx_pipeline.domain.manifest import read_manifest
from lynx_pipeline.errors import BadInput, SystemFailed


def read_bundle(folder: Path) -> Bundle:
    """The identities of the bundle in ``folder``.

    Raises:
        BadInput: it is not an MLflow model, or contains a symlink or another special file.
        SystemFailed: the disk failed.
    """
    if not folder.is_dir():
        raise BadInput(f"no bundle at {folder}: it is not a folder. Check the path.")
    try:
        files, folders = _listed(folder)
        if MLMODEL not in {file.path for file in files}:
            raise BadInput(f"not an MLflow model: there is no {MLMODEL} file at the top level.")
        sha = canonical_sha(files, (folder / MLMODEL).read_bytes())
    except BadInput as error:
        raise BadInput(f"{folder}: {error}") from None
    except OSError as error:
        raise SystemFailed(
            f"the bundle {folder} can't be read: {error.strerror}. Check its permissions and the "
            "disk, then run this again."
        ) from None
    size = sum(file.size for file in files)
    manifest, parent = bundle_manifest(files, folders), _parent_sha(folder, files)
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


def _listed(folder: Path) -> tuple[list[BundleFile], list[str]]:
    """All files, hashed, and the paths of all folders."""
    files, folders = list[BundleFile](), list[str]()
    for path, mode in _walk(folder, DEEPEST):
        if len(files) + len(folders) == MOST_ENTRIES:
            raise BadInput(f"it has more than {MOST_ENTRIES} files and folders.")
        name = path.relative_to(folder).as_posix()
        try:
            name.encode("utf-8")
        except UnicodeEncodeError:
            raise BadInput(
                f"the name {name!r} is not UTF-8. Rename it and log the model again."
            ) from None
        if stat.S_ISDIR(mode):
            folders.append(name)
            continue
        size = path.stat().st_size
        if name == MLMODEL and size > LONGEST_MLMODEL:
            raise BadInput(f"{MLMODEL}: is longer than {LONGEST_MLMODEL} bytes.")
        executable = bool(mode & stat.S_IXUSR)
        files.append(BundleFile(name, size, sha256_file(path), executable))
    return files, folders


def _walk(folder: Path, deepest: int) -> Iterator[tuple[Path, int]]:
    """Everything below ``folder``, with its mode; only files and folders are allowed."""
    if deepest == 0:
        raise BadInput(f"its folders are nested more than {DEEPEST} deep.")
    for found in os.scandir(folder):
        path = Path(found.path)
        mode = found.stat(follow_symlinks=False).st_mode
        if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
            kind = "a symlink" if stat.S_ISLNK(mode) else "neither a file nor a folder"
            raise BadInput(
                f"{path.name!r} is {kind}; a bundle may contain only files and folders. Log the "
                "model again without it."
            )
        if path.name == "__pycache__":
            raise BadInput(
                f"{path.parent.name}/__pycache__ has compiled Python, which may run in place of "
                "the code beside it. Remove the folder. A server that loads a model should run "
                "with PYTHONDONTWRITEBYTECODE=1."
            )
        yield path, mode
        if stat.S_ISDIR(mode):
            yield from _walk(path, deepest - 1)


def _parent_sha(folder: Path, files: list[BundleFile]) -> str | None:
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
