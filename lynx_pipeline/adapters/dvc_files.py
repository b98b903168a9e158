"""DVC's files: which of them tracks a data file, and the hash that it records.

A data file is tracked by its own ``.dvc`` file, as an output of a stage in ``dvc.lock``, or inside
a folder that one of the two tracks. A folder's record is the MD5 of its ``.dir`` object, which
lists the files; reading that is left to :mod:`lynx_pipeline.adapters.dvc_data`.

The files are read as plain YAML, from the disk or from a commit: DVC itself takes long to import,
and reads a whole repository.
"""

import posixpath
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from lynx_pipeline.adapters import git_files
from lynx_pipeline.adapters.dvc import ADVICE, repository
from lynx_pipeline.adapters.dvc_stages import working_folder
from lynx_pipeline.adapters.files import read_bytes
from lynx_pipeline.domain.text import one_line
from lynx_pipeline.errors import BadInput

_LOCK, _PIPELINE = "dvc.lock", "dvc.yaml"
_RESTORE = "Restore the file from git, or run 'dvc add' again."
_LEGACY = "md5-dos2unix"


@dataclass(frozen=True, slots=True)
class Tracked:
    """A data file that DVC tracks.

    ``record`` is the ``.dvc`` file that says so, or ``dvc.lock`` with the name of the ``stage``.
    ``output`` is the tracked path: the file itself or a folder above it. ``md5`` is the output's,
    with ``.dir`` if it is a folder; ``member_md5`` the file's own if the record lists the folder's
    files itself, as it does for a remote with versions. ``remote`` is the output's own remote, if
    it has one. ``legacy`` hashes are those of DVC 2, which ignore the line endings of a text.
    ``source`` is where ``dvc import`` or ``dvc import-url`` got the output. ``by_hash`` tells
    whether 'dvc push' stores it in a remote under its hash.
    """

    path: Path
    record: Path
    stage: str | None
    output: Path
    md5: str
    member_md5: str | None
    remote: str | None
    legacy: bool
    source: str | None
    by_hash: bool

    @property
    def member(self) -> str | None:
        """The file's name inside the tracked folder, or None."""
        if self.output == self.path:
            return None
        return self.path.relative_to(self.output).as_posix()

    @property
    def own_md5(self) -> str | None:
        """The file's own MD5; None if only the tracked folder's list of files says it."""
        return self.md5 if self.member is None else self.member_md5

    @property
    def target(self) -> str:
        """What DVC's commands call it. Given a path, DVC reads its whole repository."""
        own = self.stage is None and self.member is None
        return str(self.record if own else self.path)

    @property
    def to_pull(self) -> str:
        """What to pull: of an imported folder, DVC pulls only the whole."""
        return str(self.record) if self.where else self.target

    @property
    def keep(self) -> str:
        """The command that records the file as it is on disk. The record of an import has to go
        first: 'dvc add' would keep it one, of which 'dvc push' pushes nothing."""
        if self.stage is None:
            add = f"dvc add {shlex.quote(str(self.output))}"
            return f"rm {shlex.quote(str(self.record))} && {add}" if self.source else add
        return (
            f"dvc commit --force {shlex.quote(f'{self.record.with_name(_PIPELINE)}:{self.stage}')}"
        )

    @property
    def discard(self) -> str:
        """The command that replaces the file on disk with the recorded one."""
        return f"dvc checkout --force {shlex.quote(self.target)}"

    @property
    def upstream(self) -> str:
        """A sentence with the other way to change an imported file. Empty for all others."""
        if self.source is None:
            return ""
        return (
            f" That ends the import from {self.source}. To keep importing it, change it there, and "
            f"run 'dvc update {shlex.quote(str(self.record))}' instead."
        )

    @property
    def where(self) -> str:
        """Where DVC gets the file, if that is not a remote."""
        imported = self.source is not None and not self.by_hash
        return f" from {self.source}, where it was imported from" if imported else ""

    @property
    def advice(self) -> str:
        """What to do if DVC can't get the file."""
        if not self.where:
            return ADVICE
        return (
            "'dvc push' does not push imports. Check that the source can be reached and still has "
            "the file, then run this again. If it is gone, put a copy of the file here, run "
            f"'{self.keep}' and 'dvc push', and commit."
        )


class Files(Protocol):
    """The files of a version of the project."""

    def read(self, file: Path) -> bytes | None:
        """The file's bytes; None if there is no such file."""

    def locks(self, root: Path) -> Iterable[Path]:
        """Every ``dvc.lock`` in the DVC repository at ``root``."""


class OnDisk:
    """The files of the working tree."""

    def read(self, file: Path) -> bytes | None:
        return read_bytes(file, "DVC's file") if file.is_file() else None

    def locks(self, root: Path) -> Iterable[Path]:
        # Only files that git knows: a candidate's bundle in the working tree may contain one, too.
        return _lock_files(root, git_files.names(root))


@dataclass(frozen=True, slots=True)
class AtCommit:
    """The files of the commit ``ref``. ``root`` is the project's folder."""

    root: Path
    ref: str

    def read(self, file: Path) -> bytes | None:
        return git_files.file_at(repository(file) or self.root, self.ref, file)

    def locks(self, root: Path) -> Iterable[Path]:
        return _lock_files(root, git_files.names(root, self.ref))


def _lock_files(root: Path, names: Iterable[str]) -> Iterable[Path]:
    return [root / name for name in names if posixpath.basename(name) == _LOCK]


def own_record(path: Path) -> Path:
    """The ``.dvc`` file that ``dvc add`` writes beside a file or folder."""
    return path.with_name(path.name + ".dvc")


def possible_records(path: Path) -> list[Path]:
    """The files that may record ``path``, besides a ``dvc.lock`` in another folder."""
    outputs = _possible_outputs(path)
    return [*map(own_record, outputs), *(it.with_name(_LOCK) for it in outputs)]


def _possible_outputs(path: Path) -> list[Path]:
    """``path``, and the folders above it in its DVC repository, the nearest first."""
    root = repository(path) or path.parent
    return [path, *(it for it in path.parents if root in it.parents)]


def find(path: Path, files: Files) -> Tracked:
    """The record that tracks ``path``: a ``.dvc`` file, or else ``dvc.lock``, the nearest first.

    Raises:
        BadInput: there is none, or a file where one may be is malformed.
    """
    root = repository(path) or path.parent
    inside = _possible_outputs(path)
    for output in inside:
        record = own_record(output)
        if (raw := files.read(record)) is not None:
            return _from_own(path, output, record, raw)
    near = [output.with_name(_LOCK) for output in inside]
    for record in near:
        if found := list(_from_lock(path, record, files)):
            return _only(path, found)
    elsewhere: list[Tracked] = []
    unread: list[str] = []
    for record in files.locks(root):
        if record not in near:
            try:
                elsewhere += _from_lock(path, record, files)
            except BadInput as error:  # it may be another project's, or a sample in its tests
                unread.append(str(error))
    if elsewhere:
        return _only(path, elsewhere)
    if unread:
        raise BadInput(
            f"{path}: no record of DVC was found for it, but a {_LOCK} could not be used: "
            f"{unread[0]} If that stage does not make the file, run 'dvc add "
            f"{shlex.quote(str(path))}'."
        )
    raise BadInput(
        f"the data is not under DVC: {path} is in neither {own_record(path)}, nor a folder that "
        f"DVC tracks, nor a {_LOCK} below {root} that git tracks and "
        f"whose stage is in {_PIPELINE}. "
        f"Run 'dvc add {shlex.quote(str(path))}', or 'dvc repro' if a stage makes the file."
    )


def _only(path: Path, found: Sequence[Tracked]) -> Tracked:
    """The only record of a file.

    Raises:
        BadInput: there are several, as of an item of ``foreach`` that was removed.
    """
    first, *others = found
    if others:
        stages = ", ".join(f"{it.record}:{it.stage}" for it in found[:3])
        raise BadInput(
            f"{path}: {len(found)} stages are recorded to make it ({stages}), expected one. Remove "
            "the others from dvc.lock, run 'dvc repro', and commit."
        )
    return first


def find_if_tracked(path: Path, files: Files) -> Tracked | None:
    """Like :func:`find`; None if no usable record tracks ``path``."""
    try:
        return find(path, files)
    except BadInput:
        return None


def _from_own(path: Path, output: Path, record: Path, raw: bytes) -> Tracked:
    values = _load(raw, record)
    try:
        (entry,) = values["outs"]
        partial = "md5" not in entry
        place = posixpath.normpath(record.parent / values.get("wdir", ".") / entry["path"])
        source, kept_there = _import(values)
        found = _tracked(path, record, None, output, entry) if place == str(output) else None
        if found is not None and source is not None:
            by_hash = found.by_hash and not kept_there
            found = replace(found, source=source, by_hash=by_hash)
    except (AttributeError, KeyError, TypeError, ValueError):
        found, source, partial = None, None, False
    if found is None and source is not None and partial:
        name = shlex.quote(str(record))
        raise BadInput(
            f"{record}: it was imported without a download, so no hash of {output.name} is "
            "recorded, and nothing says which bytes are the versioned ones. Run 'dvc pull "
            f"{name}', 'dvc commit --force {name}' and 'dvc push', and commit the changed file."
        )
    if found is None:
        what = "file" if output == path else "folder"
        digits = "32 hex digits" if output == path else "32 hex digits and .dir"
        raise BadInput(
            f"{record}: expected one output, the {what} {output.name}, with its md5 ({digits}). "
            f"{_RESTORE}"
        )
    return found


def _import(values: dict[str, Any]) -> tuple[str | None, bool]:
    """Where a ``.dvc`` file's output was imported from, and whether DVC leaves it there and pushes
    no copy: in a git repository, and in a storage that keeps versions. Only an import has one
    dependency and no command."""
    if "cmd" in values or len(values.get("deps") or ()) != 1:
        return None, False
    (dependency,) = values["deps"]
    if "repo" in dependency:
        return one_line(dependency["repo"]["url"]), True
    return one_line(dependency["path"]) if "path" in dependency else None, (
        "version_id" in dependency
    )


def _from_lock(path: Path, record: Path, files: Files) -> Iterator[Tracked]:
    if (raw := files.read(record)) is None:
        return
    values = _load(raw, record)
    made = values.get("stages", {}) if "schema" in values else values  # DVC 1 had no schema
    pipeline = record.with_name(_PIPELINE)
    try:
        raw = files.read(pipeline)
        stages = _load(raw, pipeline).get("stages") if raw else None
        if not isinstance(stages, dict):
            return
        for name, stage in made.items():
            for entry in stage.get("outs") or ():
                own_name = posixpath.basename(posixpath.normpath(entry["path"]))
                if own_name not in (".", "..", *path.parts):  # saves resolving the folder
                    continue
                # DVC keeps the records of stages that were removed or renamed.
                folder = working_folder(pipeline, stages, str(name), files.read)
                if folder is None:
                    break
                output = Path(posixpath.normpath(folder / entry["path"]))
                if output != path and output not in path.parents:
                    continue
                found = _tracked(path, record, str(name), output, entry)
                if found is None:
                    raise BadInput(
                        f"{record}: expected the md5 of {output.name} in the stage {name!r}. Run "
                        "'dvc repro', or restore the file from git."
                    )
                yield found
    except (AttributeError, KeyError, TypeError, ValueError):
        raise _malformed(record) from None


def _tracked(
    path: Path, record: Path, stage: str | None, output: Path, entry: Any
) -> Tracked | None:
    """The tracked file of an output's ``entry``; None if that has no usable MD5."""
    md5, member_md5, folder = str(entry.get("md5")), None, output != path
    stored = entry
    if folder and isinstance(entry.get("files"), list):
        name = path.relative_to(output).as_posix()
        listed = [it for it in entry["files"] if it["relpath"] == name]
        stored = listed[0] if len(listed) == 1 else {}
        member_md5 = stored.get("md5")
        if not is_md5(member_md5):
            return None
    elif not is_md5(md5.removesuffix(".dir") if folder else md5) or folder != md5.endswith(".dir"):
        return None
    return Tracked(
        path=path,
        record=record,
        stage=stage,
        output=output,
        md5=md5,
        member_md5=member_md5,
        remote=entry.get("remote"),
        legacy=entry.get("hash", _LEGACY) == _LEGACY,
        source=None,
        by_hash="cloud" not in stored and entry.get("push", True) is True,
    )


def is_md5(value: object) -> bool:
    """Whether this is an MD5 in hex."""
    return isinstance(value, str) and re.fullmatch(r"[0-9a-f]{32}", value) is not None


def _load(raw: bytes, file: Path) -> dict[str, Any]:
    import yaml

    try:
        loaded = yaml.load(raw, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506
    except Exception:  # PyYAML's constructors let AttributeError and others through
        loaded = None
    if not isinstance(loaded, dict):
        raise _malformed(file)
    return loaded


def _malformed(file: Path) -> BadInput:
    return BadInput(f"{file}: expected a file as DVC writes it. {_RESTORE}")
