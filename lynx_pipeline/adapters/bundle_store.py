"""The bundle store: keeps promoted bundles, so that they outlive MLflow.

* Every file is an object under its own SHA-256, ``<two hex digits>/<the rest>``, and so is the
  manifest, whose SHA-256 is the bundle digest. Equal files are stored once. Empty folders and
  executable bits are in the manifest, so every kind of storage keeps them.
* The manifest is written last. Objects that exist are verified, and replaced if they are damaged,
  so keeping a bundle again repairs it.
* Nothing that is read is trusted: every object has to match its digest and its size.

Objects are kept in a folder here, or on whatever DVC's file systems reach
(:mod:`lynx_pipeline.adapters.dvc_remote`). Memory use does not grow with a file's size.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from lynx_pipeline.adapters import files
from lynx_pipeline.adapters.dvc_remote import Remote
from lynx_pipeline.config import Settings
from lynx_pipeline.domain.bundle import BUNDLE_MIB, Bundle, Tally
from lynx_pipeline.domain.manifest import LONGEST_MANIFEST, read_manifest
from lynx_pipeline.errors import NotFound, Refused, SystemFailed

_LOCK_SECONDS = 3600.0
_BLOCK = 1 << 20  # bytes


def open_bundle_store(settings: Settings) -> "BundleStore | None":
    """The project's bundle store; None if it has none."""
    match settings.bundle_store:
        case None:
            return None
        case Path() as folder:
            return BundleStore(Folder(folder))
        case url:
            return BundleStore(Remote(url, settings.root))


class Objects(Protocol):
    """Where objects are kept. ``name`` is an object's SHA-256, in hex."""

    place: str  # for messages, without a password

    def sha256(self, name: str, most: int, scratch: Path) -> str | None:
        """The SHA-256 of the object as it is; None if it is missing or has more than ``most``
        bytes. ``scratch`` may be used for a copy."""

    def read(self, name: str, target: Path, most: int) -> bool:
        """Copy the object to ``target``, which does not exist; False if it is missing. The caller
        has to verify it. Stops soon after ``most`` bytes, unless the storage copies in one step."""

    def write(self, name: str, source: Path) -> None:
        """Keep the bytes of ``source``, replacing what is there."""


class BundleStore:
    """The bundle store of a project."""

    def __init__(self, objects: Objects) -> None:
        self.objects = objects

    def keep(self, folder: Path, bundle: Bundle) -> None:
        """Keep the bundle in ``folder``. Temporary files are written beside that folder.

        Raises:
            SystemFailed: the store or the disk failed, or a file has changed since it was hashed.
        """
        manifest, scratch = (folder.with_name(f"{folder.name}.{it}") for it in ("list", "copy"))
        with _failures(self.objects.place):
            try:
                for file in read_manifest(bundle.manifest).files:
                    self._keep(file.sha256, file.size, folder / file.path, scratch)
                manifest.write_bytes(bundle.manifest)
                self._keep(bundle.digest, len(bundle.manifest), manifest, scratch)
            finally:
                manifest.unlink(missing_ok=True)

    def restore(self, digest: str, folder: Path, mib: int = BUNDLE_MIB) -> None:
        """Put the bundle with this digest into ``folder``, which must not exist yet. ``mib`` limits
        the total size.

        Raises:
            NotFound: the store does not have all of it.
            Refused: an object is damaged.
            BadInput: the bundle is beyond a limit.
            SystemFailed: the store or the disk failed.
        """
        with _failures(self.objects.place):
            folder.mkdir(parents=True)
            copy = folder / "manifest"
            self._read(digest, copy, LONGEST_MANIFEST, "manifest")
            manifest = read_manifest(copy.read_bytes())
            copy.unlink()
            tally = Tally(mib)
            for file in manifest.files:
                tally.add_file(file.path, file.size)
            for path in manifest.folders:
                tally.add_folder(path)
                (folder / path).mkdir()
            for file in manifest.files:
                target = folder / file.path
                self._read(file.sha256, target, file.size, repr(file.path))
                if file.executable:
                    target.chmod(target.stat().st_mode | 0o111)

    def _keep(self, name: str, size: int, source: Path, scratch: Path) -> None:
        try:
            if self.objects.sha256(name, size, scratch) == name:
                return
        finally:
            scratch.unlink(missing_ok=True)
        if files.sha256_file(source) != name:
            raise SystemFailed(
                f"{source} has changed since the bundle was hashed. Promote the bundle again."
            )
        self.objects.write(name, source)

    def _read(self, name: str, target: Path, most: int, what: str) -> None:
        if not self.objects.read(name, target, most):
            raise NotFound(
                f"{self.objects.place} has no {what} of this bundle (object {name[:12]})."
            )
        if files.sha256_file(target) != name:
            raise Refused(
                f"{self.objects.place}: the object {name[:2]}/{name[2:12]}…, the bundle's {what}, "
                "is damaged. Promoting the bundle again repairs it."
            )


class Folder:
    """Objects in a folder. One process writes at a time. Reading needs neither a lock nor the
    permission to write."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.place = f"the bundle store {folder}"

    def sha256(self, name: str, most: int, scratch: Path) -> str | None:
        """See :meth:`Objects.sha256`."""
        path = self._path(name)
        with suppress(FileNotFoundError, NotADirectoryError):
            return files.sha256_file(path) if path.stat().st_size <= most else None
        return None

    def read(self, name: str, target: Path, most: int) -> bool:
        """See :meth:`Objects.read`."""
        try:
            source = self._path(name).open("rb")
        except (FileNotFoundError, NotADirectoryError):
            return False
        with source, target.open("xb") as copy:
            while copy.tell() <= most and (block := source.read(_BLOCK)):
                copy.write(block)
        return True

    def write(self, name: str, source: Path) -> None:
        """See :meth:`Objects.write`. Atomic and durable."""
        busy = f"another process has been writing to {self.place} for an hour. End it, then retry."
        with files.locked(self.folder / ".lock", _LOCK_SECONDS, busy):
            new, target = self.folder / ".new", self._path(name)
            new.unlink(missing_ok=True)  # of a process that was killed
            try:
                with source.open("rb") as whole, new.open("xb") as copy:
                    shutil.copyfileobj(whole, copy, _BLOCK)
                    copy.flush()
                    os.fsync(copy.fileno())
                if not target.parent.exists():
                    target.parent.mkdir()
                    files.sync(self.folder)
                new.replace(target)
                files.sync(target.parent)
            finally:
                new.unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self.folder / name[:2] / name[2:]


@contextmanager
def _failures(place: str) -> Iterator[None]:
    """Report errors of the store and of the disk."""
    try:
        yield
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise SystemFailed(
            f"{place} failed: {where}{error.strerror or error}. Check that it can be read and "
            "written and that no disk is full, then run this again."
        ) from None
