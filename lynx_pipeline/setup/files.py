"""Files to write into somebody's repository, without overwriting anything in it."""

import difflib
import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from lynx_pipeline.adapters.files import write_atomic
from lynx_pipeline.errors import BadInput


class State(StrEnum):
    """What is at a file's place."""

    NEW = "new"
    EXTENDED = "extended"
    UNCHANGED = "unchanged"
    DIFFERENT = "different"


@dataclass(frozen=True, slots=True)
class File:
    """A file to write. ``extends`` says that ``content`` is what is there now with lines added, so
    it may be written over that."""

    path: Path
    content: bytes
    extends: bool = False
    executable: bool = False

    @property
    def state(self) -> State:
        """What is there now, compared with this file."""
        if not self.path.exists():
            return State.NEW
        if self.path.read_bytes() == self.content:
            complete = not self.executable or os.access(self.path, os.X_OK)
            return State.UNCHANGED if complete else State.EXTENDED
        return State.EXTENDED if self.extends else State.DIFFERENT

    def check(self, root: Path) -> None:
        """Check that nothing below ``root`` on the way to it is a symbolic link: writing would
        replace the link, or change something elsewhere.

        Raises:
            BadInput: there is one.
        """
        for place in (self.path, *self.path.parents):
            if place == root:
                break
            if place.is_symlink():
                raise BadInput(
                    f"{place} is a symbolic link, which would be replaced or followed to another "
                    "place. Put the file or folder itself there."
                )

    def write(self) -> None:
        """Write it, unless something else is there. The mode of an extended file stays.

        Raises:
            SystemFailed: the disk failed.
        """
        if self.state not in (State.NEW, State.EXTENDED):
            return
        mode = self.path.stat().st_mode & 0o777 if self.path.exists() else None
        write_atomic(self.path, self.content)
        if self.executable:
            self.path.chmod(0o755)
        elif mode is not None:
            self.path.chmod(mode)

    def difference(self) -> str:
        """What is there now and this file, as a unified diff."""
        now = self.path.read_bytes().decode(errors="replace").splitlines()
        then = self.content.decode(errors="replace").splitlines()
        lines = difflib.unified_diff(now, then, "now", "proposed", lineterm="")
        return "\n".join(lines)


def extended(path: Path, lines: str, missing: bool = True) -> File:
    """``path`` with ``lines`` at its end, or as it is unless they are ``missing``."""
    before = path.read_bytes() if path.exists() else b""
    if not missing:
        return File(path, before, extends=True)
    gap = b"" if not before else b"\n" if before.endswith(b"\n") else b"\n\n"
    return File(path, before + gap + lines.encode(), extends=True)
