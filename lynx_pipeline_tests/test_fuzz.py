"""Malformed input to every parser: no traceback, and no bad input accepted."""

import pytest
from hypothesis import settings

from lynx_pipeline_tests.fuzz import TARGETS, Target, run

# 3,000, or 600 in the quick tests.
INPUTS = 30 * settings().max_examples


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_no_traceback_and_no_wrong_accept(target: Target) -> None:
    """Whatever the bytes, a parser returns a value or raises BadInput."""
    tally = run(target, INPUTS, seed=11)
    assert (tally.tracebacks, tally.wrong_accepts) == (0, 0), tally.example
    assert tally.refused > 0
