"""What of other people's words gets to a terminal."""

import pytest

from lynx_pipeline.domain.text import printable

OBEYED = {"a colour": "\x1b[31m", "a bell": "\a", "a line": "\n", "text turned round": "\u202e"}


@pytest.mark.parametrize("text", OBEYED.values(), ids=OBEYED.keys())
def test_what_a_terminal_obeys_is_not_printed(text: str) -> None:
    """Neither there nor in a log; what is kept is named."""
    assert printable(f"a{text}b") == f"a?{text[1:]}b"
    assert printable(f"a{text}b", keep=text) == f"a{text}b"


def test_what_people_write_stays() -> None:
    """In any language."""
    assert printable("l'été, 日本 \N{GRINNING FACE}") == "l'été, 日本 \N{GRINNING FACE}"
