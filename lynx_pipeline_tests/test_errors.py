"""Errors of the operating system that no adapter translated."""

import errno

import pytest

from lynx_pipeline.errors import from_os_error

FULL = OSError(errno.ENOSPC, "No space left on device", "/x/y")
KINDS = {
    "with a file": (FULL, "/x/y: No space left on device. Check"),
    "without a file": (OSError(errno.EIO, "Input/output error"), "Input/output error. Check"),
    "with two lines": (OSError("it\nbroke"), "it broke. Check"),
    "without text": (TimeoutError(), "TimeoutError. Check"),
}


@pytest.mark.parametrize(("error", "start"), KINDS.values(), ids=KINDS.keys())
def test_an_os_error_is_reported_in_one_paragraph(error: OSError, start: str) -> None:
    """The paragraph starts with the file, if there is one, and the error."""
    reported = from_os_error(error)
    assert str(reported).startswith(start)
    assert "\n" not in str(reported)
    assert reported.exit_code == 3
