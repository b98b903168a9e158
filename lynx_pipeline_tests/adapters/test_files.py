"""Reading files that somebody else may have written."""

import os
from pathlib import Path

import pytest

from lynx_pipeline.adapters.files import read_bytes
from lynx_pipeline.errors import BadInput
from lynx_pipeline_tests.support.bounded import refusal


def test_no_more_than_the_limit_is_read(tmp_path: Path) -> None:
    """Also if the size is only known at the end, as for a device or a file that grows."""
    file = tmp_path / "f"
    file.write_bytes(b"12345")
    assert read_bytes(file, "w", 5) == b"12345"
    for place, limit in ((file, 4), (Path("/dev/zero"), 4)):
        with pytest.raises(BadInput, match=f"{place}: it has more than {limit} bytes"):
            read_bytes(place, "w", limit)


@pytest.mark.slow
def test_an_enormous_file_is_refused_at_once(tmp_path: Path) -> None:
    """Here a hole of 4 GiB."""
    (tmp_path / "f").touch()
    os.truncate(tmp_path / "f", 4 << 30)
    assert "more than 16777216 bytes" in refusal(read_bytes, tmp_path / "f", "w")
