"""The scene of an attack: runs hostile candidates, and checks that they fail and leave nothing."""

import hashlib
import logging
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from lynx_pipeline.config import Limits
from lynx_pipeline.errors import BadInput
from lynx_pipeline.sandbox.isolation import Isolation
from lynx_pipeline_tests.support.worker_scripts import ask_batches, write_script

CANARY = "he went, said the canary"
# Enough for the interpreter. Attacks try to use several times as much.
TIGHT = Limits(
    batch_size=5,
    batch_seconds=40,
    load_seconds=20,
    total_seconds=90,
    memory_mib=256,
    processes=40,
    output_mib=1,
)


@dataclass(frozen=True)
class Scene:
    """A bundle, in folders that only this test uses."""

    bundle: Path
    folder: Path
    log: pytest.LogCaptureFixture

    def error_of(
        self, script: dict[str, str], limits: Limits = TIGHT, chosen: Isolation | None = None
    ) -> str:
        """Run a candidate that has to fail and leave nothing behind. Returns the error."""
        before = self.files()
        with pytest.raises(BadInput) as caught:
            ask_batches(write_script(self.bundle, **script), limits, chosen=chosen)
        message = str(caught.value)
        self.assert_nothing_left()
        assert self.files() == before
        assert "\n" not in message
        assert CANARY not in message + self.log.text
        return message

    def files(self) -> dict[str, str]:
        """The digest of every file in the bundle, the working folder and the temporary folder."""
        roots = (self.bundle, Path.cwd(), Path(tempfile.gettempdir()))
        files = [file for root in roots for file in root.rglob("*") if file.is_file()]
        return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}

    def assert_nothing_left(self) -> None:
        """No process uses or sees this test's folder, and the temporary folder is empty."""
        assert processes(self.folder) == []
        assert list(Path(tempfile.gettempdir()).iterdir()) == []


def staged(
    bundle: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> Scene:
    """A scene with a secret in our environment."""
    for name in ("cwd", "temp"):
        (folder / name).mkdir()
    monkeypatch.chdir(folder / "cwd")
    monkeypatch.setattr(tempfile, "tempdir", str(folder / "temp"))
    monkeypatch.setenv("LYNX_CANARY", CANARY)
    log.set_level(logging.DEBUG)
    return Scene(bundle, folder, log)


def processes(folder: Path) -> list[int]:
    """The processes with ``folder`` in their arguments, environment or mounts. All processes in a
    sandbox have the bundle mounted."""

    mark = "/".join(folder.parts[-3:]).encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        for name in ("cmdline", "environ", "mountinfo"):
            try:
                if mark in (process / name).read_bytes():
                    found.append(int(process.name))
                    break
            except OSError:
                continue
    return [pid for pid in found if pid != os.getpid()]
