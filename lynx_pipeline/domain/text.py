"""Other people's words, made fit to print."""


def printable(text: str, keep: str = "") -> str:
    """``text`` with a ``?`` for every character that a terminal or a log might obey, but those in
    ``keep``."""
    return "".join(c if c.isprintable() or c in keep else "?" for c in text)
