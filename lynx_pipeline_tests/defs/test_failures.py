"""How a step reports a failure."""

from pathlib import Path

import pytest
from dagster import Failure

from lynx_pipeline.defs.failures import failures
from lynx_pipeline.errors import BadInput, Refused


def test_our_errors_fail_the_step_with_their_exit_code() -> None:
    """The step is not retried."""
    with pytest.raises(Failure, match="the file is invalid") as caught, failures():
        raise BadInput("the file is invalid.")
    assert caught.value.metadata["exit_code"].value == 2
    assert not caught.value.allow_retries


def test_a_refusal_says_that_nothing_was_changed() -> None:
    """The message is the same as on the command line."""
    with pytest.raises(Failure) as caught, failures():
        raise Refused("v0.1.0 is promoted already.")
    assert caught.value.description == "v0.1.0 is promoted already. Nothing was changed."
    assert caught.value.metadata["exit_code"].value == 1


def test_a_disk_error_fails_the_step_as_a_system_failure(tmp_path: Path) -> None:
    """The message names the file."""
    with pytest.raises(Failure, match=f"{tmp_path}/none: No such file") as caught, failures():
        (tmp_path / "none").read_bytes()
    assert caught.value.metadata["exit_code"].value == 3
