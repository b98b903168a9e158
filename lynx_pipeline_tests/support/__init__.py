"""Helpers that tests of several packages share."""

from pathlib import Path

# The root of this repository.
REPO = Path(__file__).parents[2]
