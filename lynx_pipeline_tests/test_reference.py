"""The reference is what the code says."""

import pytest

from lynx_pipeline_tests import reference
from lynx_pipeline_tests.support import REPO


def test_the_reference_is_written_from_the_code(capsys: pytest.CaptureFixture[str]) -> None:
    """As it is now."""
    reference.main()
    written = (REPO / "docs/reference.md").read_text()
    assert capsys.readouterr().out == written, (
        "run: python -m lynx_pipeline_tests.reference >docs/reference.md"
    )
