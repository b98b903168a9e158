"""Fetching a promoted bundle in a test, and the changes that a fetch must name."""

from collections.abc import Callable
from pathlib import Path

import pytest

from lynx_pipeline.registry import Fetched, Registry, fetching
from lynx_pipeline_tests.support.builders import RUN
from lynx_pipeline_tests.support.world import World

V = "v0.1.0-dev"


def fetch(world: World, to: Path, version: str = "latest") -> Fetched:
    """Fetch a version into a folder."""
    return fetching.fetch(Registry.open(world.settings), version, to)


def _replace(old: str, new: str) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        file = folder / "MLmodel"
        assert old in file.read_text()
        file.write_text(file.read_text().replace(old, new))

    return change


CHANGES = [
    pytest.param(
        lambda f: (f / "code/tiny_loader.py").write_text("he goed"),
        "'code/tiny_loader.py' was changed",
        id="edited",
    ),
    pytest.param(lambda f: (f / "more").write_bytes(b""), "'more' was added", id="added"),
    pytest.param(
        lambda f: (f / "code/tiny_loader.py").unlink(),
        "'code/tiny_loader.py' is missing",
        id="removed",
    ),
    pytest.param(_replace(RUN, "f" * 32), "'MLmodel' was changed", id="label"),
    pytest.param(_replace("flavors:", "# x\nflavors:"), "'MLmodel' was changed", id="comment"),
    pytest.param(
        lambda f: (f / "code").rename(f / "Code"),
        "'Code' was added, 'Code/tiny_loader.py' was added, 'code' is missing",
        id="renamed",
    ),
    pytest.param(lambda f: (f / "empty").mkdir(), "'empty' was added", id="empty folder"),
]
