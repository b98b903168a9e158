"""What can go wrong, and the exit code each kind maps to.

::

    LynxError
    ├── Refused        exit 1   the gate or a policy said no; nothing changed
    ├── BadInput       exit 2   a file, argument or bundle is not what it has to be
    └── SystemFailed   exit 3   MLflow, DVC, git or the disk failed; trying again may help

A message is one plain paragraph: what is wrong, where, what was expected, what to do.
An OSError that got past the adapters is the disk's, so the command line and Dagster's steps tell
it as a SystemFailed: :func:`from_os_error`. Anything else that escapes is a bug in this package and
keeps its traceback; it exits with 3, since 1 would say that the gate refused.
"""


class LynxError(Exception):
    """Base of every error a user can meet. ``exit_code`` is the process's answer."""

    exit_code = 3


class Refused(LynxError):
    """The gate or a policy refused. Nothing was changed."""

    exit_code = 1


class BadInput(LynxError):
    """Something given to the pipeline can't be used as it is."""

    exit_code = 2


class SystemFailed(LynxError):
    """A system the pipeline needs did not do its part."""

    exit_code = 3


def from_os_error(error: OSError) -> SystemFailed:
    """What to say of an error that nobody knew more about than the system itself."""
    where = "" if error.filename is None else f"{error.filename}: "
    # Libraries raise their own kinds, with a text of any length and lines, or with none.
    said = error.strerror or " ".join(str(error).split())[:500] or type(error).__name__
    return SystemFailed(
        f"{where}{said}. Check that it can be made, read and written and that the disk is not "
        "full, then run this again."
    )
