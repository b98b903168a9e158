"""A bundle's manifest, read back: the files and folders that make the bundle.

The manifest's SHA-256 is the bundle digest (:mod:`lynx_pipeline.domain.bundle`). Whoever can write
to the registry can name any digest, so a manifest is untrusted although it matches its digest: its
paths stay inside the bundle, and it is exactly what this package would have written.
"""

import json
import re
from typing import Any, NamedTuple

from lynx_pipeline.domain.bundle import (
    DEEPEST,
    MOST_ENTRIES,
    BundleFile,
    bundle_manifest,
)
from lynx_pipeline.errors import BadInput

LONGEST_MANIFEST = 64 << 20  # bytes; a typical row has 150
_FILE_KEYS = {"executable", "path", "sha256", "size"}
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Manifest(NamedTuple):
    """Files and folders, sorted by path, so that a folder comes before what is in it."""

    files: tuple[BundleFile, ...]
    folders: tuple[str, ...]


def read_manifest(raw: bytes) -> Manifest:
    """Parse a manifest.

    Raises:
        BadInput: it is not a valid manifest.
    """
    try:
        found = _parsed(json.loads(raw)) if len(raw) <= LONGEST_MANIFEST else None
        if found is not None and bundle_manifest(*found) == raw:
            return found
    except (AttributeError, BadInput, KeyError, RecursionError, TypeError, ValueError):
        pass
    raise BadInput("not a bundle's manifest.")


def _parsed(rows: Any) -> Manifest | None:
    if not isinstance(rows, list) or len(rows) > MOST_ENTRIES:
        return None
    files, folders = list[BundleFile](), {""}
    paths = set[str]()
    for row in rows:
        path, is_folder = row["path"], row.keys() == {"path"}
        if path in paths or not _is_inside(path) or path.rpartition("/")[0] not in folders:
            return None
        paths.add(path)
        if is_folder:
            folders.add(path)
            continue
        file = BundleFile(path, row["size"], row["sha256"], row["executable"])
        sizes = type(file.size) is int and file.size >= 0
        if row.keys() != _FILE_KEYS or not sizes or type(file.executable) is not bool:
            return None
        if not _SHA256.fullmatch(file.sha256):
            return None
        files.append(file)
    return Manifest(tuple(files), tuple(sorted(folders - {""})))


def _is_inside(path: str) -> bool:
    """Whether a path is relative, plain, and not too deep."""
    parts = path.split("/")
    plain = not any(part in ("", ".", "..") for part in parts) and "\0" not in path
    return plain and len(parts) <= DEEPEST + 1
