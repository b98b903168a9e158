"""How our comment on a pull request or merge request is found again: it starts with a line that is
not shown and that names the run that wrote it. Who wrote the comment is left to the caller.
"""


def marked(name: str, run: int, text: str) -> str:
    """The comment called ``name``, as ``run`` writes it."""
    return f"{_mark(name)}{run} -->\n{text}"


def writer(name: str, body: str) -> int | None:
    """The run that wrote the comment ``body``: 0 if its number can't be read, None if this is not
    the comment called ``name``."""
    mark = _mark(name)
    if not body.startswith(mark):
        return None
    run = body.removeprefix(mark).partition(" -->")[0]
    return int(run) if run.isdecimal() and len(run) < 19 else 0


def _mark(name: str) -> str:
    return f"<!-- {name}, run "
