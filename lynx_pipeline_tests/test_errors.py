"""Errors that no adapter translated: of the operating system, and missing packages."""

import ast
import errno
import sys

import pytest

from lynx_pipeline.errors import GATE_MODULES, from_os_error, missing_package
from lynx_pipeline_tests.support import REPO

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


def test_the_modules_of_the_extra_are_those_that_the_package_imports() -> None:
    """Beside Ray and S3's library, with messages of their own, and what is always installed."""
    base = {"click", "cryptography", "filelock", "yaml", "rfc8785"}
    only_for_types = {"typing_extensions"}
    imported = set[str]()
    for file in (REPO / "lynx_pipeline").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                imported |= {it.name.partition(".")[0] for it in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                imported.add(str(node.module).partition(".")[0])
    others = imported - sys.stdlib_module_names - {"lynx_pipeline", "ray", "s3fs"}
    assert others == GATE_MODULES | base | only_for_types


def test_another_missing_module_is_a_bug() -> None:
    """Only the extra's modules may be missing."""
    for name in ("lynx_pipeline.nonsense", "yaml", "", None):
        assert missing_package(ModuleNotFoundError("x", name=name)) is None
    reported = missing_package(ModuleNotFoundError("x", name="dvc.repo"))
    assert reported is not None
    assert str(reported).startswith("this needs the Python package 'dvc', which is not installed.")
    assert reported.exit_code == 2
