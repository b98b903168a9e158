"""Helpers that tests of several packages share."""

from pathlib import Path

# The root of this repository.
REPO = Path(__file__).parents[2]
# A project that DVC 2 made, and its remote.
DVC_2 = Path(__file__).with_name("dvc_2")
