"""Runs git: it never prompts, always ends, and ignores the environment of a surrounding hook."""

import os
import re
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from lynx_pipeline.domain.text import printable, without_secrets
from lynx_pipeline.errors import SystemFailed

GIT_SECONDS = 120.0
# Variables that git does not get. Most are set by a hook, or would redirect a command to another
# repository.
# GIT_CONFIG_* stays: CI passes credentials in it.
_REMOVED_VARIABLES = (
    *("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR"),
    *("GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_NAMESPACE", "GIT_QUARANTINE_PATH", "GIT_PREFIX"),
    *("GIT_SHALLOW_FILE", "GIT_GRAFT_FILE", "GIT_DEFAULT_HASH", "GIT_REPLACE_REF_BASE"),
    # Not git's business, nor that of its hooks and helpers.
    *("LYNX_SIGNING_KEY", "LYNX_WITNESS_KEY", "LYNX_WEBHOOK_SECRET"),
)

_PREFIX = re.compile(r"(?:remote|hint): ?")
_MESSAGE = re.compile(r"(?:fatal|error|warning|remote|hint|usage|ssh|\w+\(\d+\)): ")
_INDENTS = ("\t", "  ")
_ENDS = (".", "?", "!")

Done = subprocess.CompletedProcess[bytes]


def run(
    folder: Path, *arguments: str, stdin: bytes = b"", variables: Mapping[str, str] | None = None
) -> Done:
    """Run git in ``folder``, with ``variables`` in its environment, and wait for it. Any exit code
    is returned.

    Raises:
        SystemFailed: git is not installed, or took too long.
    """
    environ = {k: v for k, v in os.environ.items() if k not in _REMOVED_VARIABLES}
    # No substitute commits (git replace), no prompts, English messages.
    environ |= {"GIT_NO_REPLACE_OBJECTS": "1", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    environ |= variables or {}
    command = ["git", *arguments]
    try:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # no terminal for prompts, and one process group to kill
        )
    except OSError as error:
        raise SystemFailed(
            f"git can't be run in {folder}: {error.strerror}. Check that git is installed and the "
            "folder exists."
        ) from None
    try:
        out, err = process.communicate(stdin, timeout=GIT_SECONDS)
    except BaseException as error:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe:  # a helper outside the group may hold the other end: don't wait for it
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


def stderr_line(done: Done) -> str:
    """git's standard error for a message: on one line, printable, without passwords, at most 1000
    characters, and without a full stop at its end. Its lines become sentences. A command, which git
    writes on an indented line, is between backquotes, so that it can be copied."""
    text = _sentences(done.stderr.decode(errors="replace").splitlines())
    return without_secrets(printable(text))[:1000].rstrip(".")


def stderr_sentence(done: Done, otherwise: str = "") -> str:
    """Like :func:`stderr_line`, with a full stop unless it ends with a mark of its own. If git
    printed nothing, it is ``otherwise``."""
    return ended(stderr_line(done) or otherwise)


def ended(text: str) -> str:
    """``text`` with a full stop unless it ends with a mark of its own."""
    return text if text.endswith(_ENDS) else f"{text}."


def _sentences(lines: list[str]) -> str:
    text, prefix, gap = "", "", False
    for line in lines:
        found = _PREFIX.match(line)
        # A server's message and a hint have their prefix on every line.
        again = found is not None and found[0] == prefix
        prefix = found[0] if found else ""
        rest = line[len(prefix) :]
        words = " ".join((rest if again else line).split())
        if not " ".join(rest.split()):
            gap = True
            continue
        if rest.startswith(_INDENTS) and text:
            words = f"`{words}`"
        elif text and not text.endswith((*_ENDS, ":", ",", ";")) and (gap or _starts(words)):
            text += "."
        text, gap = f"{text} {words}".lstrip(), False
    return text


def _starts(words: str) -> bool:
    """Whether a line begins a sentence, rather than continue one that was wrapped."""
    return words[0].isupper() or _MESSAGE.match(words) is not None


def ref_of(listed: bytes, ref: str) -> str | None:
    """The commit of ``ref`` in the output of ls-remote, which also lists every other ref whose
    name ends with ``ref``."""
    for line in listed.decode(errors="replace").splitlines():
        commit, _, name = line.partition("\t")
        if name == ref:
            return commit
    return None


def without_user(url: str) -> str:
    """An http URL without user and password; any other URL unchanged."""
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
