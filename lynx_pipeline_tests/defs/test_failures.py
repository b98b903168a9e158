"""How a step says that it failed."""

from pathlib import Path

import pytest
from dagster import Failure

from lynx_pipeline.defs.failures import failures
from lynx_pipeline.errors import BadInput


def test_an_error_of_ours_fails_the_step_with_its_exit_code() -> None:
    """And is not tried again."""
    with pytest.raises(Failure, match="the file is none") as caught, failures():
        raise BadInput("the file is none.")
    assert caught.value.metadata["exit_code"].value == 2
    assert not caught.value.allow_retries


def test_an_error_of_the_disk_fails_the_step_as_a_systems(tmp_path: Path) -> None:
    """With the file it is about."""
    with pytest.raises(Failure, match=f"{tmp_path}/none: No such file") as caught, failures():
        (tmp_path / "none").read_bytes()
    assert caught.value.metadata["exit_code"].value == 3
