"""DVC's library: where its repository is, and one edge for everything that it raises.

DVC and the storages' libraries raise exceptions of any type, log the cause instead of raising it,
and may wait for minutes. Behind :func:`translated` each failure is one paragraph with its cause
and without secrets, and no server is waited for without a limit.

DVC takes long to import, so it is imported when it is needed.
"""

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lynx_pipeline.domain.text import one_line
from lynx_pipeline.errors import BadInput, LynxError, SystemFailed, install_extra, missing_package

ADVICE = (
    "Check the network, the credentials and the remote ('dvc remote list', 'dvc pull'), then run "
    "this again."
)
_LOGGERS = ("dvc", "dvc_data", "dvc_objects")
# The storages' libraries log what they also raise, some with tracebacks, and advice that is wrong
# here. None of it is kept.
_MUTED = (
    *("gcsfs", "google", "adlfs", "azure", "s3fs", "aiobotocore", "botocore", "sshfs", "asyncssh"),
    *("aiohttp", "fsspec", "urllib3"),
)

# Seconds that a remote may take to connect and to answer. Without them, the libraries wait for up
# to half an hour. What the project configures for a remote takes precedence.
_HTTP = {"connect_timeout": 10, "read_timeout": 20}
_TIMEOUTS = {
    "s3": _HTTP,
    "http": _HTTP,
    "https": _HTTP,
    "azure": {"connection_timeout": 10, "read_timeout": 20},
    "ssh": {"timeout": 20},
}
_S3_TRIES = 2  # of s3fs, and as often of botocore in each of them
_ENVIRON = {"AWS_MAX_ATTEMPTS": str(_S3_TRIES)}


def repository(path: Path) -> Path | None:
    """The root of the DVC repository that contains ``path``: the nearest folder above it with a
    ``.dvc`` folder, but not above its git repository. None if there is none."""
    for folder in path.absolute().parents:
        if (folder / ".dvc").is_dir():
            return folder
        if (folder / ".git").exists():
            break
    return None


@contextmanager
def opened(path: Path, failure: str, advice: str = ADVICE) -> Iterator[Any]:
    """DVC's repository that contains ``path``, open while the block runs.

    Raises:
        SystemFailed: there is none, or see :func:`translated`.
    """
    root = repository(path)
    if root is None:
        raise SystemFailed(
            f"{failure}: there is no folder .dvc in a folder above it, up to the root of its git "
            "repository. Run this in a full clone; in a new project, run 'dvc init'."
        )
    with translated(failure, advice):
        from dvc.repo import Repo

        with Repo(str(root)) as repo:
            limit_waiting(repo.config)
            yield repo


@contextmanager
def local_config(path: Path, text: str) -> Iterator[None]:
    """Write ``text`` to ``.dvc/config.local`` of the repository of ``path`` while the block runs.
    An empty text does nothing.

    Raises:
        BadInput: that file exists already, or DVC can't use the text.
    """
    root = repository(path)
    if root is None or not text:
        yield
        return
    file = root / ".dvc" / "config.local"
    try:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise BadInput(
            f"{file} already exists, so it can't be created from DVC_CONFIG_LOCAL. Remove the "
            "file, or unset the variable."
        ) from None
    try:
        # A variable may hold any bytes; DVC refuses those that are not UTF-8.
        with os.fdopen(handle, "w", encoding="utf-8", errors="surrogateescape") as opened_file:
            opened_file.write(text)
        _check_config(root / ".dvc")
        yield
    finally:
        file.unlink(missing_ok=True)


def _check_config(folder: Path) -> None:
    """Check that DVC can read its configuration in ``folder``. Otherwise nobody would notice a
    mistake in it as long as the data is at hand. DVC's own message may quote a password."""
    with logged():
        try:
            from dvc.config import Config

            Config(str(folder))
        except Exception as error:  # also those of the parser and of the schema
            if isinstance(error, ModuleNotFoundError) and (missing := missing_package(error)):
                raise missing from None
            raise BadInput(
                f"DVC can't read the text of DVC_CONFIG_LOCAL as {folder / 'config.local'}, "
                f"together with {folder / 'config'}. Expected is what 'dvc remote modify --local "
                "NAME OPTION VALUE' writes: a line ['remote \"NAME\"'] that names a remote of "
                "config, and below it lines OPTION = VALUE. Correct it."
            ) from None


def limit_waiting(config: Any) -> None:
    """Set the time-outs that DVC's ``config`` does not set for its remotes."""
    for remote in config["remote"].values():
        for name, seconds in timeouts(str(remote.get("url", ""))).items():
            remote.setdefault(name, seconds)


def timeouts(url: str) -> dict[str, int]:
    """The time-outs of a remote with this URL, by their names in DVC's configuration."""
    scheme = urlsplit(url).scheme
    if scheme == "s3":
        try:
            from s3fs import S3FileSystem
        except ImportError:  # DVC says so itself when it needs it
            return {}
        S3FileSystem.retries = _S3_TRIES
    return _TIMEOUTS.get(scheme, {})


@contextmanager
def translated(failure: str, advice: str = ADVICE) -> Iterator[None]:
    """Report whatever the block raises as a failure of DVC. ``failure`` says what failed, and
    where. DVC logs the cause of some failures: it is not printed, and becomes part of the message.

    Raises:
        SystemFailed: the block raised an exception that is not ours.
        NotInstalled: DVC itself is not installed.
    """
    for name, value in _ENVIRON.items():
        os.environ.setdefault(name, value)
    with logged() as messages:
        try:
            yield
        except LynxError:
            raise
        except Exception as error:  # each storage's library raises its own
            if isinstance(error, ModuleNotFoundError) and (missing := missing_package(error)):
                raise missing from None
            raise SystemFailed(f"{failure}: {_cause(error, messages, advice)}") from None


@contextmanager
def logged() -> Iterator[list[str]]:
    """Collect DVC's warnings and errors while the block runs, and print nothing, neither of DVC nor
    of the storages' libraries. (DVC's handlers keep the stream that was standard output at import
    time, which may be closed by now.)"""
    with suppress(ModuleNotFoundError):  # the block will say so
        import dvc  # noqa: F401  # adds its handlers
    messages: list[str] = []
    collector = _Collector(messages)
    handlers: dict[str, logging.Handler] = dict.fromkeys(_LOGGERS, collector)
    handlers |= dict.fromkeys(_MUTED, logging.NullHandler())
    loggers = [logging.getLogger(name) for name in handlers]
    before = [(it.handlers, it.propagate) for it in loggers]
    for it in loggers:
        it.handlers, it.propagate = [handlers[it.name]], False
    try:
        yield messages
    finally:
        for it, (own, propagate) in zip(loggers, before, strict=True):
            it.handlers, it.propagate = own, propagate


class _Collector(logging.Handler):
    """Keeps the first messages, each on one line, with the exception that it is about."""

    def __init__(self, messages: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._messages = messages

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            text += f": {record.exc_info[1]}"
        text = one_line(text)
        if text not in self._messages and len(self._messages) < 3:
            self._messages.append(text)


def _cause(error: Exception, messages: list[str], advice: str) -> str:
    if package := _missing_package(error):
        extra = package.removeprefix("dvc-")
        return f"it needs the Python package {package!r}. {install_extra(extra, package)}"
    texts = [one_line(error) or "no details", *messages]
    if type(error).__module__.partition(".")[0] != "dvc":
        texts[0] = f"{type(error).__name__}: {texts[0]}"
    return f"{one_line('; '.join(texts))}. {advice}"


def _missing_package(error: Exception) -> str | None:
    """The package that DVC needs for this storage, if the failure is that it is missing."""
    if isinstance(error, ImportError):
        found = re.search(r"requires '(dvc-\w+)'", str(error))
        return found[1] if found else error.name
    if type(error).__name__ == "RemoteMissingDepsError":
        return f"dvc-{getattr(error, 'protocol', 'remote')}"
    return None
