"""Where candidates attack: what is seen of them, and that nothing is left."""

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
from lynx_pipeline_tests.support.strangers import asked, speaks

CANARY = "he went, said the canary"
# Room for the interpreter; what is tried is several times as much.
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
    """A bundle, in folders that are this test's alone."""

    bundle: Path
    folder: Path
    log: pytest.LogCaptureFixture

    def stopped(
        self, script: dict[str, str], limits: Limits = TIGHT, chosen: Isolation | None = None
    ) -> str:
        """What is told of a candidate that runs this script; nothing else may be left of it."""
        before = self.files()
        with pytest.raises(BadInput) as caught:
            asked(speaks(self.bundle, **script), limits, chosen=chosen)
        said = str(caught.value)
        self.nothing_left()
        assert self.files() == before
        assert "\n" not in said
        assert CANARY not in said + self.log.text
        return said

    def files(self) -> dict[str, str]:
        """Every file in the bundle, and in what is the working and the temporary folder."""
        roots = (self.bundle, Path.cwd(), Path(tempfile.gettempdir()))
        files = [file for root in roots for file in root.rglob("*") if file.is_file()]
        return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}

    def nothing_left(self) -> None:
        """No process that runs, or sees, anything in this test's folder, and nothing temporary."""
        assert processes(self.folder) == []
        assert list(Path(tempfile.gettempdir()).iterdir()) == []


def staged(
    bundle: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> Scene:
    """With a secret in our environment."""
    for name in ("cwd", "temp"):
        (folder / name).mkdir()
    monkeypatch.chdir(folder / "cwd")
    monkeypatch.setattr(tempfile, "tempdir", str(folder / "temp"))
    monkeypatch.setenv("LYNX_CANARY", CANARY)
    log.set_level(logging.DEBUG)
    return Scene(bundle, folder, log)


def processes(folder: Path) -> list[int]:
    """Those with ``folder`` in their arguments, environment or mounts. A sandbox's processes all
    have the bundle mounted."""
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
