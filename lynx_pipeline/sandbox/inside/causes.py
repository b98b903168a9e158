"""Whether a model raised an error only because of where it runs.

A variable counts as the cause if the model looked it up in vain and its error points at it. Code of
the model's own is believed more readily than a library's, since libraries look up many variables
that nobody needs to set. This is a part of the worker's program, and so imports only the standard
library.
"""

import errno
import os
import re
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

_NETWORK = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL)
_LIBRARY = re.compile("/(site-packages|dist-packages|lib/python[0-9.]+)/|^<frozen ")
_MOST_NAMES = 10_000  # a model may look up any number


def hint(
    error: BaseException, columns: Sequence[Any], missing: Mapping[str, bool] | None = None
) -> dict[str, Any] | None:
    """Whether a model raised ``error`` because it has no network, lacks a variable, or got a data
    frame with these ``columns``; None for any other error. See :func:`watch_variables` for
    ``missing``."""
    for each in _chain(error):
        if isinstance(each, socket.gaierror | ConnectionRefusedError) or (
            isinstance(each, OSError) and each.errno in _NETWORK
        ):
            return {"kind": "network"}
        if (name := _missing_variable(each, missing or {})) is not None:
            return {"kind": "variable", "name": name}
        if (name := _missing_column(each, columns)) is not None:
            return {"kind": "column", "name": name, "columns": [str(it) for it in columns]}
    return None


def watch_variables() -> dict[str, bool]:
    """From now on, the environment variables that are looked up and missing; True where code of the
    model's own looks, False where only a library does."""
    missing: dict[str, bool] = {}

    class Watched(dict[Any, Any]):
        def __missing__(self, key: Any) -> Any:
            name = os.fsdecode(key)
            if name in missing or len(missing) < _MOST_NAMES:
                missing[name] = missing.get(name, False) or _is_own(_reader())
            raise KeyError(key)

    with suppress(AttributeError):  # of another Python, where nothing is noticed then
        watched = Watched(os.environ._data)  # type: ignore[attr-defined]
        os.environ._data = os.environb._data = watched  # type: ignore[attr-defined]
    return missing


def _reader() -> Any:
    """The frame that looks up a variable, outside of the modules of ``os.environ`` itself."""
    frame = sys._getframe(2)
    while frame.f_back and frame.f_globals.get("__name__") in ("os", "collections.abc"):
        frame = frame.f_back
    return frame


def _is_own(frame: Any) -> bool:
    """Whether it is code of the model's own, in a file or pickled."""
    return _LIBRARY.search(frame.f_code.co_filename) is None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, and those that it followed from."""
    found: BaseException | None = error
    for _ in range(100):  # it may follow from itself
        if found is None:
            return
        yield found
        found = found.__cause__ or found.__context__


def _missing_variable(error: BaseException, missing: Mapping[str, bool]) -> str | None:
    if isinstance(error, KeyError):
        reads = type(os.environ).__getitem__.__code__
        if any(it.f_code is reads for it, _ in _frames(error)):
            return str(error.args[0])
    text = str(error)
    about_variables = re.search(r"environment variable|\benv ?vars?\b", text, re.IGNORECASE)
    for name in re.findall(r"\b[A-Z][A-Z0-9_]{2,}\b", text):
        secret = re.search("(KEY|TOKEN|SECRET|PASSWORD)$", name)
        if missing.get(name):
            return str(name)
        if (about_variables or secret) and name in missing:
            return str(name)
        if about_variables and secret and "_" in name:  # a client that looked in a copy
            return str(name)
    return _missing_setting(error) or _named_by_the_code(error, missing)


def _missing_setting(error: BaseException) -> str | None:
    """The variable that a class of pydantic-settings requires, which copies the environment."""
    for frame, _ in _frames(error):
        for value in list(frame.f_locals.values())[:1]:
            kinds = {str(it.__module__).partition(".")[0] for it in type(value).__mro__}
            if "pydantic_settings" in kinds and hasattr(error, "errors"):
                for each in error.errors():
                    if each["type"] == "missing":
                        name, fields = str(each["loc"][0]), type(value).model_fields
                        prefix = type(value).model_config.get("env_prefix", "")
                        return f"{prefix if name in fields else ''}{name}".upper()
    return None


def _named_by_the_code(error: BaseException, missing: Mapping[str, bool]) -> str | None:
    """The variable that the failing line of the model's own code names, if it used None for it; or
    for an exit without a reason, which is usually a guard's, that its function names."""
    own = [(frame, line) for frame, line in _frames(error) if _is_own(frame)]
    if not own or not any(missing.values()):
        return None
    import dis

    code, failing = own[-1][0].f_code, own[-1][1]
    on_line = {
        each.argval
        for each in dis.get_instructions(code)
        if each.positions is not None and each.positions.lineno == failing
    }
    text = str(error)
    for name in code.co_consts:
        if isinstance(name, str) and missing.get(name):
            exits = isinstance(error, SystemExit) and not re.search("[a-z]", text)
            if exits or (name in on_line and (not text or "None" in text)):
                return name
    return None


def _missing_column(error: BaseException, columns: Sequence[Any]) -> str | None:
    """A column that the data frame with these ``columns`` does not have."""
    if isinstance(error, AttributeError):
        return str(error.name) if list(getattr(error.obj, "columns", ())) == columns else None
    if not isinstance(error, KeyError) or not columns:
        return None
    for frame, _ in _frames(error):
        index = frame.f_locals.get("self")
        if hasattr(index, "get_loc") and list(index) == columns:
            return str(error.args[0]) if error.args else ""
    return None


def _frames(error: BaseException) -> Iterator[tuple[Any, int]]:
    """The frames that the error went through, outermost first, each with its failing line."""
    trace = error.__traceback__
    while trace is not None:
        yield trace.tb_frame, trace.tb_lineno
        trace = trace.tb_next
