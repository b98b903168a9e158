"""The errors a user can meet, and the exit code of each kind.

::

    LynxError
    ├── Refused        exit 1   the gate or a policy refused; nothing changed
    ├── BadInput       exit 2   a file, argument or bundle is invalid
    │   ├── NotFound            MLflow or the bundle store does not have it
    │   └── NotInstalled        a Python package is missing
    └── SystemFailed   exit 3   MLflow, DVC, git or the disk failed; trying again may help

A message is one plain paragraph: what is wrong, where, what was expected, what to do.
An OSError that the adapters did not translate comes from the disk, so the command line and
Dagster's steps report it as a SystemFailed: :func:`from_os_error`. Any other exception is a bug in
this package. It keeps its traceback and exits with 3, because 1 would mean that the gate refused.
"""

from collections.abc import Sequence

# What the extra ``gate`` installs, by the names that this package imports.
GATE_MODULES = frozenset(
    (
        *("apprise", "certifi", "codeowners", "dagster", "duckdb", "dvc", "dvc_data", "github"),
        *("id", "jinja2", "jwt", "mlflow", "numpy", "packaging", "pandas", "pyarrow", "pydantic"),
        *("requests", "rich", "scipy", "securesystemslib", "urllib3"),
    )
)
INSTALL_GATE = (
    "Install the extra 'gate': pip install -e '.[gate]' in a clone, or pip install './WHEEL[gate]'."
)
STORAGES = ("s3", "gs", "azure", "ssh")  # extras for DVC's remotes


def install_extra(extra: str, package: str) -> str:
    """How to install ``package``, which is part of our extra if that is one of the storages."""
    if extra not in STORAGES:
        return f"Install it: pip install {package}."
    return (
        f"Install the extra {extra!r}: pip install -e '.[{extra}]' in a clone, or pip install "
        f"'./WHEEL[{extra}]'."
    )


INTERRUPTED = "interrupted. A promotion is all or nothing; running this again is safe."
_UNCHANGED = "Nothing was changed."


class LynxError(Exception):
    """Base of every error a user can meet. ``exit_code`` is the exit code of the process."""

    exit_code = 3


class Refused(LynxError):
    """The gate or a policy refused. Nothing was changed."""

    exit_code = 1


class BadInput(LynxError):
    """A file, argument or bundle is invalid."""

    exit_code = 2


class NotFound(BadInput):
    """MLflow or the bundle store does not have what was asked for. If that was promoted, its loss
    is no mistake in the input: :func:`lynx_pipeline.registry.bundles.failure`."""


class NotInstalled(BadInput):
    """A Python package is missing: only the light client is installed."""


class SystemFailed(LynxError):
    """A system that the pipeline depends on failed. Trying again may help."""

    exit_code = 3


def from_os_error(error: OSError) -> SystemFailed:
    """Report an OSError that no adapter translated."""
    where = "" if error.filename is None else f"{error.filename}: "
    # Libraries raise subclasses whose text has any length and any number of lines, or is empty.
    text = error.strerror or " ".join(str(error).split())[:500] or type(error).__name__
    return SystemFailed(
        f"{where}{text}. Check that the path can be read and written and that the disk is not "
        "full, then run this again."
    )


def missing_package(error: ModuleNotFoundError) -> NotInstalled | None:
    """Report that only the light client is installed; None if ``error`` is about something else."""
    name = (error.name or "").partition(".")[0]
    if name not in GATE_MODULES:
        return None
    return NotInstalled(
        f"this needs the Python package {name!r}, which is not installed. {INSTALL_GATE}"
    )


def paragraph(error: LynxError) -> str:
    """What a user reads: the message, and for a refusal that nothing was changed."""
    text = str(error)
    # The error of a Dagster step has gone through here before.
    adds = isinstance(error, Refused) and not text.endswith(_UNCHANGED)
    return f"{text} {_UNCHANGED}" if adds else text


def some_of(texts: Sequence[str], most: int = 10) -> str:
    """The first texts of a list, for a message that has to stay readable."""
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more or "none"
