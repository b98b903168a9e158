"""The reference in ``docs`` is generated from the code."""

import pytest

from lynx_pipeline_tests import reference
from lynx_pipeline_tests.support import REPO


def test_the_reference_is_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    """The committed page equals what the code generates now."""
    reference.main()
    written = (REPO / "docs/reference.md").read_text()
    assert capsys.readouterr().out == written, (
        "run: python -m lynx_pipeline_tests.reference >docs/reference.md"
    )
