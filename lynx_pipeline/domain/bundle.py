"""A bundle's two identities. Each is the SHA-256 of an RFC 8785 JSON list, sorted by path.

* The **canonical sha**, over ``{path, size, sha256}`` of all files, says "the same checkpoint".
  ``MLmodel`` is hashed as values, without the fields that only say when and in which run it was
  saved, so saving one checkpoint twice gives one sha. Any other change of a file gives another.
* The **bundle digest**, over ``{executable, path, sha256, size}`` of all files as they are and
  ``{path}`` of all folders, says "the same thing". A model can read all of that. The list itself is
  the bundle's manifest.

Leaves reading files to the adapter.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from lynx_pipeline.domain.strict_json import LONGEST, Fields, canonical, parse_object
from lynx_pipeline.errors import BadInput

MLMODEL = "MLmodel"
MANIFEST = "train_manifest.json"
SAVE_ONLY_FIELDS = ("run_id", "model_id", "model_uuid", "artifact_path", "utc_time_created")

# Far above any real model, so that a hostile one is refused before it costs time or memory.
LONGEST_MLMODEL = 256 << 10  # bytes
MOST_ENTRIES = 50_000  # files and folders
MOST_FOLDERS = 1_000  # a server is asked about each
DEEPEST = 64  # folders in one another
LONGEST_PATH = 1024  # characters
BUNDLE_MIB = 65_536  # in total, unless the settings say otherwise
# PyYAML takes some 25 µs a token, and for a number with colons the square of its length.
_MOST_TOKENS = 10_000
_DEEPEST_YAML = 64
_LONGEST_NUMBER = 400
_LONGEST_LABEL = 512
_SMALLER = "No model needs that: log it again with only its own files."
_ROWS = ({"path"}, {"executable", "path", "sha256", "size"})  # a folder, a file


@dataclass(frozen=True, slots=True, order=True)
class BundleFile:
    """``path`` is relative, with forward slashes; ``size`` in bytes; ``sha256`` in hex."""

    path: str
    size: int
    sha256: str
    executable: bool = False


@dataclass(slots=True)
class Tally:
    """Counts a bundle's files and folders, as they are listed and before any is read, against the
    limits. ``mib`` is the limit on all files together."""

    mib: int
    entries: int = 0
    folders: int = 0
    size: int = 0

    def add_folder(self, path: str) -> None:
        """Count a folder.

        Raises:
            BadInput: it is beyond a limit.
        """
        self._add(path)
        self.folders += 1
        if self.folders > MOST_FOLDERS:
            raise BadInput(f"it has more than {MOST_FOLDERS} folders. {_SMALLER}")
        if path.count("/") >= DEEPEST:
            raise BadInput(f"its folders are nested more than {DEEPEST} deep. {_SMALLER}")

    def add_file(self, path: str, size: int) -> None:
        """Count a file of ``size`` bytes.

        Raises:
            BadInput: it is beyond a limit.
        """
        self._add(path)
        self.size += size
        name = path.rpartition("/")[2]
        most = LONGEST_MLMODEL if path == MLMODEL else LONGEST if name == MANIFEST else size
        if size > most:
            raise BadInput(f"{path!r:.80} has {size} bytes, expected at most {most}. {_SMALLER}")
        if self.size > self.mib << 20:
            raise BadInput(
                f"{path!r:.80} has {size} bytes, which makes {self.size} in total, expected at "
                f"most {self.mib} MiB. If the model is meant to be this large, raise 'bundle_mib' "
                "in [tool.lynx_pipeline.evaluation]."
            )

    def _add(self, path: str) -> None:
        self.entries += 1
        if self.entries > MOST_ENTRIES:
            raise BadInput(f"it has more than {MOST_ENTRIES} files and folders. {_SMALLER}")
        if len(path) > LONGEST_PATH:
            raise BadInput(
                f"the path {path!r:.80} has more than {LONGEST_PATH} characters. {_SMALLER}"
            )


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle's identities, and the parent it claims to be trained from. ``size`` in bytes."""

    canonical_sha: str
    manifest: bytes
    parent_sha: str | None
    files: int
    size: int

    @property
    def digest(self) -> str:
        """The bundle digest, 64 hex digits: the SHA-256 of the manifest."""
        return hashlib.sha256(self.manifest).hexdigest()


def canonical_sha(files: Iterable[BundleFile], mlmodel: bytes) -> str:
    """The canonical sha, 64 hex digits. ``mlmodel`` are the bytes of the top level's ``MLmodel``.

    Raises:
        BadInput: see :func:`stable_mlmodel`.
    """
    stable = stable_mlmodel(mlmodel)
    known = {MLMODEL: (len(stable), hashlib.sha256(stable).hexdigest())}
    rows = []
    for file in sorted(files):
        size, sha256 = known.get(file.path, (file.size, file.sha256))
        rows.append({"path": file.path, "size": size, "sha256": sha256})
    return hashlib.sha256(canonical(rows)).hexdigest()


def bundle_manifest(files: Iterable[BundleFile], folders: Iterable[str]) -> bytes:
    """The bundle's manifest. ``folders`` are the paths of all folders."""
    rows: list[dict[str, Any]] = [asdict(file) for file in files]
    rows += [{"path": path} for path in folders]
    return canonical(sorted(rows, key=lambda row: row["path"]))


def differences(expected: bytes, found: bytes) -> list[str]:
    """What differs between two manifests, a text for each path.

    Raises:
        BadInput: one of them is not a manifest.
    """
    before, after = _rows(expected), _rows(found)
    texts = dict.fromkeys(before.keys() - after.keys(), "is missing")
    texts |= dict.fromkeys(after.keys() - before.keys(), "was added")
    for path in before.keys() & after.keys():
        old, new = before[path], after[path]
        if old.keys() != new.keys():
            texts[path] = "is a folder" if "sha256" in old else "is a file"
        elif old != new:
            bytes_differ = old["sha256"] != new["sha256"]
            mode = "executable" if new["executable"] else "not executable"
            texts[path] = "was changed" if bytes_differ else f"is {mode}"
    return [f"{path!r} {text}" for path, text in sorted(texts.items())]


def _rows(manifest: bytes) -> dict[str, dict[str, Any]]:
    try:
        rows = {row["path"]: row for row in json.loads(manifest)}
    except (ValueError, TypeError, KeyError):
        rows = {}
    if not rows or any(row.keys() not in _ROWS for row in rows.values()):
        raise BadInput("not a bundle's manifest.")
    return rows


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

        def fetch_more_tokens(self) -> None:
            """Count before anything is built: a short text can take a minute."""
            if self.tokens_taken + len(self.tokens) > _MOST_TOKENS:
                raise ValueError(f"it has more than {_MOST_TOKENS} tokens")
            if max(self.flow_level, len(self.indents)) > _DEEPEST_YAML:
                raise ValueError(f"it is nested more than {_DEEPEST_YAML} deep")
            super().fetch_more_tokens()

        def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
            number = node.tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
            if number and len(node.value) > _LONGEST_NUMBER:
                raise ValueError(f"a number has more than {_LONGEST_NUMBER} digits")
            return super().construct_object(node, deep)

    if len(raw) > LONGEST_MLMODEL:
        raise BadInput(f"{MLMODEL}: has {len(raw)} bytes, expected at most {LONGEST_MLMODEL}.")
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
