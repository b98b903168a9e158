"""What can go wrong, and the exit code each kind maps to.

::

    LynxError
    ├── Refused        exit 1   the gate or a policy said no; nothing changed
    ├── BadInput       exit 2   a file, argument or bundle is not what it has to be
    └── SystemFailed   exit 3   MLflow, DVC, git or the disk failed; trying again may help

A message is one plain paragraph: what is wrong, where, what was expected, what to do.
Anything else that escapes is a bug in this package and keeps its traceback.
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
