"""Which characters of untrusted text reach a terminal."""

import pytest

from lynx_pipeline.domain.text import printable

CONTROLS = {"colour": "\x1b[31m", "bell": "\a", "newline": "\n", "right-to-left": "\u202e"}


@pytest.mark.parametrize("text", CONTROLS.values(), ids=CONTROLS.keys())
def test_control_characters_are_replaced(text: str) -> None:
    """Characters that the caller wants to keep are not replaced."""
    assert printable(f"a{text}b") == f"a?{text[1:]}b"
    assert printable(f"a{text}b", keep=text) == f"a{text}b"


def test_ordinary_text_is_unchanged() -> None:
    """This holds for any language."""
    assert printable("l'été, 日本 \N{GRINNING FACE}") == "l'été, 日本 \N{GRINNING FACE}"
