"""What is said of errors that only the system knows more about."""

import errno

import pytest

from lynx_pipeline.errors import from_os_error

FULL = OSError(errno.ENOSPC, "No space left on device", "/x/y")
KINDS = {
    "with a file": (FULL, "/x/y: No space left on device. Check"),
    "without": (OSError(errno.EIO, "Input/output error"), "Input/output error. Check"),
    "a text of its own": (OSError("it\nbroke"), "it broke. Check"),
    "no text": (TimeoutError(), "TimeoutError. Check"),
}


@pytest.mark.parametrize(("error", "says"), KINDS.values(), ids=KINDS.keys())
def test_an_error_of_the_system_is_one_paragraph(error: OSError, says: str) -> None:
    """With what there is to say."""
    told = from_os_error(error)
    assert str(told).startswith(says)
    assert "\n" not in str(told)
    assert told.exit_code == 3
