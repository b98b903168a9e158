"""A bundle's content identity, the canonical sha.

SHA-256 of the RFC 8785 JSON of the sorted list of ``{path, size, sha256}`` over all files.
``MLmodel`` is hashed without the fields that only say when and in which run it was saved, so saving
one checkpoint twice gives one sha. Any other change gives another: changed bytes, a renamed, added
or removed file. Leaves reading files to the adapter.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from lynx_pipeline.domain.strict_json import Fields, canonical, parse_object
from lynx_pipeline.errors import BadInput

MLMODEL = "MLmodel"
MANIFEST = "train_manifest.json"
SAVE_ONLY_FIELDS = ("run_id", "model_id", "model_uuid", "artifact_path", "utc_time_created")

_LONGEST_MLMODEL = 4 << 20  # bytes; reading YAML is slow
_LONGEST_LABEL = 512


@dataclass(frozen=True, slots=True, order=True)
class BundleFile:
    """``path`` is relative, with forward slashes; ``size`` in bytes; ``sha256`` in hex."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle's identity, and the parent it claims to be trained from."""

    canonical_sha: str
    parent_sha: str | None
    files: int
    size: int


def canonical_sha(files: Iterable[BundleFile]) -> str:
    """The bundle's identity, 64 hex digits.

    Raises:
        BadInput: there is no ``MLmodel`` at the top level.
    """
    listed = sorted(files)
    if MLMODEL not in {file.path for file in listed}:
        raise BadInput(f"not an MLflow model: there is no {MLMODEL} file at the top level.")
    rows = [{"path": f.path, "size": f.size, "sha256": f.sha256} for f in listed]
    return hashlib.sha256(canonical(rows)).hexdigest()


def stable_mlmodel(raw: bytes) -> bytes:
    """``MLmodel`` without :data:`SAVE_ONLY_FIELDS`, as canonical JSON.

    The YAML is parsed before the fields are dropped, so an alias can't hide content in one of
    them. A field with more than a short text counts as content and stays.

    Raises:
        BadInput: it is not YAML, or not a mapping of plain values.
    """
    values = read_mlmodel(raw)
    kept = {k: v for k, v in values.items() if k not in SAVE_ONLY_FIELDS or not _is_label(v)}
    try:
        _refuse_expansion(kept)
        return canonical(kept)
    except (BadInput, RecursionError) as error:
        raise BadInput(f"{MLMODEL}: {error}") from None


def read_mlmodel(raw: bytes) -> dict[str, Any]:
    """``MLmodel`` as plain values.

    Raises:
        BadInput: it is not a YAML mapping with text keys.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        def flatten_mapping(self, node: yaml.MappingNode) -> None:
            """Merge keys copy what aliases only point at, so a few lines could fill all memory."""
            if any(key.tag == "tag:yaml.org,2002:merge" for key, _ in node.value):
                raise ValueError("merge keys (<<) are not supported")

    if len(raw) > _LONGEST_MLMODEL:
        raise BadInput(f"{MLMODEL}: is longer than {_LONGEST_MLMODEL} bytes.")
    try:
        values = yaml.load(raw, Loader)  # noqa: S506  # a restricted SafeLoader
    except Exception as error:  # PyYAML's constructors also raise KeyError and others
        reason = " ".join(str(error).split())[:300]
        raise BadInput(f"{MLMODEL}: not YAML: {type(error).__name__}: {reason}.") from None
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise BadInput(f"{MLMODEL}: expected a mapping with text keys.")
    return values


def parent_sha(manifest: bytes | None, where: str) -> str | None:
    """``parent_sha`` from the bundle's ``train_manifest.json``, if there is one.

    Raises:
        BadInput: the manifest is not an object, or ``parent_sha`` is not text or null.
    """
    if manifest is None:
        return None
    return Fields(parse_object(manifest, where), where).optional_text("parent_sha")


def _is_label(value: Any) -> bool:
    return value is None or (isinstance(value, str) and len(value) <= _LONGEST_LABEL)


def _refuse_expansion(value: Any) -> None:
    """YAML aliases let a few lines expand to billions of values. No real model does that."""
    left = 10_000_000
    waiting = [value]
    while waiting:
        value = waiting.pop()
        left -= len(value) if isinstance(value, str) else 100
        if left < 0:
            raise BadInput("its aliases expand to too many values.")
        if isinstance(value, dict):
            waiting.extend(value)
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
