"""Untrusted text made safe to print."""


def printable(text: str, keep: str = "") -> str:
    """``text`` with ``?`` in place of control and other unprintable characters, except those in
    ``keep``."""
    return "".join(c if c.isprintable() or c in keep else "?" for c in text)
