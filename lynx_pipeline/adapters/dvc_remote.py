"""Objects on any storage that DVC's file systems reach: ``s3://…``, ``https://…``, ``ssh://…``, or
``remote://NAME/folder`` for a remote of ``.dvc/config``, whose credentials DVC knows.

DVC takes long to import, so it is imported when a remote is first used.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lynx_pipeline.adapters import files
from lynx_pipeline.adapters.dvc_data import silenced
from lynx_pipeline.domain.text import without_secrets
from lynx_pipeline.errors import LynxError, NotInstalled, SystemFailed


class Remote:
    """Objects below a URL. ``root`` is the project's folder, with its ``.dvc/config``."""

    def __init__(self, url: str, root: Path) -> None:
        self.url, self.root = url, root
        self.place = f"the bundle store {url}"
        self._opened: tuple[Any, str] | None = None

    def sha256(self, name: str, most: int, scratch: Path) -> str | None:
        """See :meth:`lynx_pipeline.adapters.bundle_store.Objects.sha256`."""
        if not self.read(name, scratch, most) or scratch.stat().st_size > most:
            return None
        return files.sha256_file(scratch)

    def read(self, name: str, target: Path, most: int) -> bool:
        """See :meth:`lynx_pipeline.adapters.bundle_store.Objects.read`."""
        with self._connected() as (fs, path):
            try:
                fs.get_file(path(name), str(target), callback=_at_most(most))
            except FileNotFoundError:
                if not target.parent.is_dir():
                    raise
                target.unlink(missing_ok=True)
                return False
            except _TooLongError:  # what is there differs from what is expected
                pass
            return True

    def write(self, name: str, source: Path) -> None:
        """See :meth:`lynx_pipeline.adapters.bundle_store.Objects.write`."""
        with self._connected() as (fs, path):
            fs.makedirs(fs.parent(path(name)), exist_ok=True)
            fs.put_file(str(source), path(name))

    @contextmanager
    def _connected(self) -> Iterator[tuple[Any, Any]]:
        """DVC's file system, and the path of an object by its name."""
        try:
            from dvc.config import Config
            from dvc.fs import parse_external_url
        except ModuleNotFoundError:
            raise NotInstalled(
                f"{self.place} is not a folder, so it can only be read with DVC, which is not "
                "installed. Install it with support for this storage, such as pip install "
                "'dvc[s3]'."
            ) from None
        try:
            with silenced():
                if self._opened is None:
                    folder = self.root / ".dvc"
                    config = Config(str(folder) if folder.is_dir() else None)
                    self._opened = parse_external_url(self.url, None, config)
                fs, base = self._opened
                yield fs, lambda name: fs.join(base, name[:2], name[2:])
        except LynxError:
            raise
        except Exception as error:  # each storage's library raises its own
            raise SystemFailed(
                f"{self.place} failed: {type(error).__name__}: {_line(error)}. Check the URL, the "
                "credentials and 'dvc remote list', then run this again."
            ) from None


class _TooLongError(Exception):
    """An object has more bytes than expected."""


def _at_most(most: int) -> Any:
    """A callback that ends a transfer which may otherwise go on for ever."""
    from dvc.fs import Callback

    class AtMost(Callback):  # type: ignore[misc]  # DVC has no types
        def call(self, *_: Any, **__: Any) -> None:
            if self.value > most:
                raise _TooLongError

    return AtMost()


def _line(error: Exception) -> str:
    text = without_secrets(" ".join(str(error).split()))[:300].rstrip(".")
    return text or "no details"
