"""For tests of the stores: a folder in memory."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def memory_path() -> Iterator[Path]:
    """A folder in which a sync costs nothing, for tests that write thousands of files. What a disk
    does when it fails, they simulate."""
    with tempfile.TemporaryDirectory(prefix="lynx-tests-", dir="/dev/shm") as folder:
        yield Path(folder)
