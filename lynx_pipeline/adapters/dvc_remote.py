"""Objects on any storage that DVC's file systems reach: ``s3://…``, ``https://…``, ``ssh://…``, or
``remote://NAME/folder`` for a remote of ``.dvc/config``, whose credentials DVC knows.

DVC takes long to import, so it is imported when a remote is first used.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lynx_pipeline.adapters import files
from lynx_pipeline.adapters.dvc import limit_waiting, repository, timeouts, translated
from lynx_pipeline.errors import NotInstalled


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
            import dvc.config
        except ModuleNotFoundError:
            raise NotInstalled(
                f"{self.place} is not a folder, so it can only be read with DVC, which is not "
                "installed. Install it with support for this storage, such as pip install "
                "'dvc[s3]'."
            ) from None
        with translated(f"{self.place} failed"):
            if self._opened is None:
                from dvc.fs import parse_external_url

                folder = repository(self.root / "x")
                config = dvc.config.Config(str(folder / ".dvc") if folder else None)
                limit_waiting(config)
                self._opened = parse_external_url(self.url, timeouts(self.url), config)
            fs, base = self._opened
            yield fs, lambda name: fs.join(base, name[:2], name[2:])


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
