"""Text for people: untrusted text made safe to print, and who is told what takes long."""

import re
from collections.abc import Callable

LONGEST_MESSAGE = 4_000
_LONGEST_CAUSE = 700

# The environment variable that names one of a project's several models.
GATE_VARIABLE = "LYNX_GATE"

# Called with one line for each step that takes long.
Say = Callable[[str], object]
# How much of the eval set is shown where strangers may read it: how many answers changed, also
# their prompts with the candidate's answers, or all answers.
SHOWN = COUNTS, PROMPTS, FULL = ("counts", "prompts", "full")


def silent(_: str) -> None:
    """A :data:`Say` that says nothing."""


def number_of(count: int, thing: str, things: str = "") -> str:
    """``count`` with its noun, such as "1 item" and "1,200 items". ``things`` is the plural if that
    is not ``thing`` with an s."""
    return f"{count:,} {thing if count == 1 else things or f'{thing}s'}"


def printable(text: str, keep: str = "") -> str:
    """``text`` with ``?`` in place of control and other unprintable characters, except those in
    ``keep``."""
    return "".join(c if c.isprintable() or c in keep else "?" for c in text)


def without_secrets(text: str) -> str:
    """``text`` without the passwords and query strings of the URLs in it.

    A password may contain characters that should have been escaped, such as ``/`` and ``@``. Then
    everything up to the last ``@`` is replaced, which may remove a part of the path too. Only the
    first :data:`LONGEST_MESSAGE` characters are kept: the text may come from a server, and a search
    takes time that grows with its square.
    """
    text = text[:LONGEST_MESSAGE]
    bare = re.sub(r"//[^/\s@]*:\S*@", lambda found: "//…@" if "/" in found[0][2:] else "//", text)
    bare = re.sub(r"//(?!…@)[^/\s]*@", "//", bare)
    return re.sub(r"(://[^\s?'\"]*)\?[^\s'\"]+", r"\1?…", bare)


def one_line(text: object) -> str:
    """``text`` on one line, cut, without colours, secrets and a final full stop."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", str(text))
    return without_secrets(" ".join(plain.split()))[:_LONGEST_CAUSE].rstrip(". ")
