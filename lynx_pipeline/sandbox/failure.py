"""How a candidate failed: the last line of its traceback, where that is in its own code, and the
last part of what it printed. Code that was pickled with a model is in no file of the bundle; its
traceback names the script that it comes from.

All of that is the candidate's own text, so it explains and proves nothing. Control characters are
replaced, and lengths are limited.
"""

import re

from lynx_pipeline.domain.text import printable
from lynx_pipeline.errors import BadInput

_TRACEBACK = "Traceback (most recent call last):"
_FRAME = re.compile(r'\s+File "(?P<file>.+)", line (?P<line>\d+)(?:, in (?P<function>.+))?')
_LIBRARY = re.compile("/(site-packages|dist-packages|lib/python[0-9.]+)/")
_LONGEST = 1000  # characters of one text in a message


class CandidateFailed(BadInput):
    """The candidate crashed, exceeded a limit or returned malformed output. ``printed`` is what it
    wrote to standard error."""

    def __init__(self, message: str, printed: str = "") -> None:
        super().__init__(message)
        self.printed = printed


def failed(
    reason: str, error: str = "", stderr: bytes = b"", bundle: str = "", hint: str = ""
) -> CandidateFailed:
    """The error of a candidate that failed for ``reason``.

    ``error`` is the exception that it reported, if it did. ``stderr`` is what it wrote, and
    ``bundle`` its folder as it sees it. ``hint`` is our advice, if there is any.
    """
    printed = printable(stderr.decode(errors="replace"), "\n\t").strip("\n")
    raised, where = _last_exception(printed.split("\n"), bundle.rstrip("/"))
    if error:
        reason += f" with {_short(error)}"
    elif raised:
        reason += f": {_short(raised)}"
    message = f"the candidate could not be evaluated: {reason.rstrip('.')}.{where}"
    if hint:
        message += f" {hint}"
    if printed and not raised:
        last = _short(printed.rstrip().rpartition("\n")[2])
        if last not in reason:  # sys.exit(text) prints its text
            end = "" if last.endswith((".", "?", "!")) else "."
            message += f" The last line that it printed: {last}{end}"
    return CandidateFailed(message, printed)


def _last_exception(lines: list[str], bundle: str) -> tuple[str, str]:
    """The last traceback's exception, and the innermost place in the bundle, or else in no library;
    "" for what is not there."""
    # Something printed before, such as a progress bar, may be on the same line.
    starts = [number for number, line in enumerate(lines) if line.rstrip().endswith(_TRACEBACK)]
    if not starts:
        return "", ""
    inside, elsewhere = "", ""
    for line in lines[starts[-1] + 1 :]:
        if not line.startswith(" "):
            return line, inside or elsewhere
        frame = _FRAME.fullmatch(line)
        if not frame:
            continue
        if bundle and frame["file"].startswith(f"{bundle}/"):
            inside = _place(frame["file"].removeprefix(f"{bundle}/"), frame)
        elif frame["file"].startswith("/") and not _LIBRARY.search(frame["file"]):
            elsewhere = _place(frame["file"], frame)
    return "", inside or elsewhere


def _place(file: str, frame: re.Match[str]) -> str:
    function = f", in {_short(frame['function'])}" if frame["function"] else ""
    return f" It was raised at {_short(file)}, line {frame['line']}{function}."


def _short(text: str) -> str:
    """``text`` on one line, cut between words if it is long."""
    line = printable(" ".join(text.split()))
    if len(line) <= _LONGEST:
        return line
    cut = line[:_LONGEST]
    return f"{cut.rpartition(' ')[0] or cut} …"
