"""What of untrusted text reaches a terminal or a log."""

import pytest

from lynx_pipeline.domain.text import LONGEST_MESSAGE, number_of, printable, without_secrets

CONTROLS = {"colour": "\x1b[31m", "bell": "\a", "newline": "\n", "right-to-left": "\u202e"}


@pytest.mark.parametrize("text", CONTROLS.values(), ids=CONTROLS.keys())
def test_control_characters_are_replaced(text: str) -> None:
    """Characters that the caller wants to keep are not replaced."""
    assert printable(f"a{text}b") == f"a?{text[1:]}b"
    assert printable(f"a{text}b", keep=text) == f"a{text}b"


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 entries"), (1, "1 entry"), (1200, "1,200 entries")]
)
def test_a_number_has_its_noun(count: int, text: str) -> None:
    assert number_of(count, "entry", "entries") == text
    assert number_of(count, "item") == text.replace("entries", "items").replace("entry", "item")


def test_ordinary_text_is_unchanged() -> None:
    """This holds for any language."""
    assert printable("l'été, 日本 \N{GRINNING FACE}") == "l'été, 日本 \N{GRINNING FACE}"


def test_passwords_and_query_strings_are_removed_from_text() -> None:
    """Object stores put signatures into query strings."""
    text = without_secrets(
        "GET https://me:secret@host/a?sig=secret&x=secret failed. Why? 'sftp://h/b?k=secret'"
    )
    assert text == "GET https://host/a?… failed. Why? 'sftp://h/b?…'"


@pytest.mark.parametrize(
    ("uri", "text"),
    [
        ("http://user:secret@host/x", "http://host/x"),
        ("http://user:s@cr@t@host/x", "http://host/x"),
        ("no http://a:b@c, no http://d:e@f", "no http://c, no http://f"),
        ("http://user:pa/ss@host/x", "http://…@host/x"),
        ("http://user:s@cr/et@host/x", "http://…@host/x"),
        ("postgresql://u:p/w?r#d@host/db failed", "postgresql://…@host/db failed"),
        ("http://token@host/x", "http://host/x"),
        ("http://host/x@y", "http://host/x@y"),
        ("http://host:5000/x and a@b", "http://host:5000/x and a@b"),
        ("sqlite:////a/b.db", "sqlite:////a/b.db"),
    ],
)
def test_a_password_is_not_shown(uri: str, text: str) -> None:
    """Error messages end up in logs that anyone can read."""
    assert without_secrets(uri) == text


def test_a_long_text_is_cut_before_it_is_searched() -> None:
    """It may come from a server, and would take seconds."""
    assert len(without_secrets("//:" * 100_000)) <= LONGEST_MESSAGE
