"""git as a process: never asks on a terminal, never runs for ever, never in a hook's repository."""

import os
import re
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

from lynx_pipeline.errors import SystemFailed

GIT_SECONDS = 120.0
# What a git hook that runs us has set, and what else would send a command elsewhere. GIT_CONFIG_*
# stays: CI hands over credentials in it.
_NOT_OURS = (
    *("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR"),
    *("GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_NAMESPACE", "GIT_QUARANTINE_PATH", "GIT_PREFIX"),
    *("GIT_SHALLOW_FILE", "GIT_GRAFT_FILE", "GIT_DEFAULT_HASH", "GIT_REPLACE_REF_BASE"),
)

Done = subprocess.CompletedProcess[bytes]


def run(folder: Path, *arguments: str, stdin: bytes = b"") -> Done:
    """Run git in ``folder`` to its end, whatever its exit code.

    Raises:
        SystemFailed: git is not installed, or took too long.
    """
    environ = {k: v for k, v in os.environ.items() if k not in _NOT_OURS}
    # No substitutes for commits (git replace), nobody to ask, messages we can quote.
    environ |= {"GIT_NO_REPLACE_OBJECTS": "1", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    command = ["git", *arguments]
    try:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # no terminal to ask on, and one group to end
        )
    except OSError as error:
        raise SystemFailed(f"git can't be run in {folder}: {error.strerror}.") from None
    try:
        out, err = process.communicate(stdin, timeout=GIT_SECONDS)
    except BaseException as error:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe:  # a helper that left the group may hold the other ends: don't wait for it
                with suppress(OSError):
                    pipe.close()
        process.wait()
        if isinstance(error, subprocess.TimeoutExpired):
            raise SystemFailed(
                f"git {_verb(arguments)} took more than {GIT_SECONDS:.0f} seconds. Check the "
                "remote, then run this again."
            ) from None
        raise
    return Done(command, process.returncode, out, err)


def said(done: Done) -> str:
    """What git wrote to standard error, on one line."""
    return " ".join(done.stderr.decode(errors="replace").split())[:500]


def ref_of(listed: bytes, ref: str) -> str | None:
    """The commit of exactly ``ref`` in the output of ls-remote, which also lists every ref whose
    name only ends like it."""
    for line in listed.decode(errors="replace").splitlines():
        commit, _, name = line.partition("\t")
        if name == ref:
            return commit
    return None


def without_user(url: str) -> str:
    """An http URL without user and password; any other as it is."""
    return re.sub(r"^(https?://)[^/]*@", r"\1", url)


def _verb(arguments: tuple[str, ...]) -> str:
    """The subcommand, after options such as ``-c name=value``."""
    rest = iter(arguments)
    for argument in rest:
        if argument in ("-c", "-C"):
            next(rest, None)
        elif not argument.startswith("-"):
            return argument
    return ""
