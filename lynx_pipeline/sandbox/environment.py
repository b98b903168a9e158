"""A model's own environment: a virtual environment built from its ``requirements.txt``.

Requirements and packages are untrusted, so none of their code runs outside the sandbox:

- Requirements are names and versions. Options, URLs and paths are refused.
- Only wheels are installed, which uv unpacks; a source distribution would run its ``setup.py``.
- uv asks our interpreter about the platform. The new interpreter is first started in the sandbox:
  a package may contain a ``.pth`` file, which runs whenever its interpreter starts.
- Packages are unpacked into ``site-packages`` only, so they can't replace the interpreter or
  ``pyvenv.cfg``.

A finished environment is renamed into place. It stays until somebody deletes its folder.
"""

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from lynx_pipeline.adapters.files import locked, read_bytes
from lynx_pipeline.domain.text import Say, printable, silent
from lynx_pipeline.errors import BadInput, SystemFailed
from lynx_pipeline.sandbox.isolation import Isolation

REQUIREMENTS = "requirements.txt"
PYTHON = "python_env.yaml"
LOCK = "requirements.lock"
BUILD_SECONDS = 1800.0
_LONGEST = 64 << 10  # bytes of a file that lists requirements

# What uv needs to find indexes, caches and proxies. The rest may be secrets of ours.
_PASSED_ON = re.compile(
    r"UV_(?!PUBLISH)\w+|XDG_(CONFIG|CACHE|DATA)_\w+|PATH|HOME|USER|LANG|LC_\w+|TMPDIR|NETRC"
    r"|(?i:(https?|all|no)_proxy)|SSL_CERT_(FILE|DIR)|SSL_CLIENT_CERT"
)
_COMMENT = re.compile(r"(^|\s)#.*")
_CREDENTIAL = re.compile(r"://[^/\s@]*@")
_DOWNLOADING = re.compile(r"Downloading \S+ \(\S+\)")
_NEWS = re.compile(r"(Using|Resolved|Downloaded|Prepared|Installed|\+) .*")


class Environment(NamedTuple):
    """An environment's folder, and the SHA-256 of its contents: Python, platform, and every
    package with its version and the digests of its files."""

    folder: Path
    sha256: str


def own_environment(
    bundle: Path, environments: Path, isolation: Isolation, say: Say = silent
) -> Environment:
    """The environment that the bundle requires; it is built below ``environments`` unless it is
    there already. Building takes a minute or more, and ``say`` is called with each step of it.

    Raises:
        BadInput: the bundle has no valid requirements, needs another Python, or requires packages
            that are not available.
        SystemFailed: uv is missing or failed, or the disk failed.
    """
    _check_python(bundle)
    requirements = read_requirements(bundle / REQUIREMENTS)
    system = [platform.python_implementation(), platform.python_version(), sysconfig.get_platform()]
    key = _digest([*system, *requirements])
    folder = environments / key
    busy = (
        f"another process has been building {folder} for {BUILD_SECONDS:.0f} s. End it, then run "
        "this again."
    )
    try:
        with locked(environments / f"{key}.lock", BUILD_SECONDS, busy):
            # The interpreter that its links lead to may have been uninstalled since.
            if not (folder / "bin/python").exists():
                shutil.rmtree(folder, ignore_errors=True)
                _build(requirements, folder, isolation, say)
        lock = (folder / LOCK).read_text(encoding="utf-8")
    except OSError as error:
        raise SystemFailed(
            f"the environment {folder} can't be created: {error.strerror}."
        ) from None
    return Environment(folder, _digest([*system, lock]))


def read_requirements(file: Path) -> list[str]:
    """The requirements in a ``requirements.txt``: names, extras, versions and markers.

    Raises:
        BadInput: the file is missing, contains anything else, or does not require MLflow.
    """
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name

    raw = read_bytes(file, "the bundle does not say which environment it needs", _LONGEST)
    try:
        lines = raw.decode("utf-8").splitlines()
    except UnicodeDecodeError:
        raise BadInput(f"{file}: is not UTF-8.") from None
    found = []
    for number, line in enumerate(lines, 1):
        text = _COMMENT.sub("", line).strip()
        if not text:
            continue
        try:
            requirement = Requirement(text)
        except (InvalidRequirement, RecursionError):
            requirement = None
        if requirement is None or requirement.url is not None or "===" in text or "$" in text:
            raise BadInput(
                f"{file}, line {number}: {printable(line)[:80]!r}: expected a package's name "
                "and version. Options, URLs and paths are not allowed, because the candidate "
                "controls this file. Log the model with pip_requirements that a package index "
                "has, and set up indexes in uv's own configuration."
            )
        # uv takes a name with a dot in it for a file name.
        requirement.name = canonicalize_name(requirement.name)
        found.append(requirement)
    if not {"mlflow", "mlflow-skinny"} & {each.name for each in found}:
        raise BadInput(
            f"{file}: mlflow, which loads the model, is missing. Log the model again with mlflow, "
            "or mlflow-skinny and pandas, in its pip_requirements."
        )
    return [str(requirement) for requirement in found]


def _check_python(bundle: Path) -> None:
    file = bundle / PYTHON
    if not file.is_file():
        return
    text = read_bytes(file, PYTHON, _LONGEST).decode(errors="replace")
    found = re.search(r"^python:\s*['\"]?(\d+\.\d+)", text, re.MULTILINE)
    ours = f"{sys.version_info.major}.{sys.version_info.minor}"
    if found and found[1] != ours:
        raise BadInput(
            f"{file}: the model was logged under Python {found[1]}, and this is {ours}. Run "
            f"lynx-pipeline under Python {found[1]}, or log the model under {ours}."
        )


def _build(requirements: list[str], folder: Path, isolation: Isolation, say: Say) -> None:
    import venv

    start = time.monotonic()
    for leftover in folder.parent.glob(f".{folder.name}-*"):  # of a process that was killed
        shutil.rmtree(leftover, ignore_errors=True)
    uv = _uv()
    with tempfile.TemporaryDirectory(
        prefix=f".{folder.name}-", dir=folder.parent, ignore_cleanup_errors=True
    ) as scratch:
        new, source = Path(scratch) / "environment", Path(scratch) / REQUIREMENTS
        source.write_text("".join(f"{line}\n" for line in requirements), encoding="utf-8")
        # Links to our base interpreter. Nothing is started.
        venv.create(new, symlinks=True)
        base = {"base": str(new), "platbase": str(new)}
        packages = sysconfig.get_path("purelib", "venv", base)
        common = ["--no-build", "--python", sys.executable]
        resolve = ["compile", "--quiet", *common]
        resolve += ["--generate-hashes", "--no-header", "--no-annotate"]
        resolve += ["--no-emit-index-url", "--no-emit-find-links"]
        say(
            "Building the model's own environment from its requirements.txt; later evaluations "
            "use it again."
        )
        _run([uv, "pip", *resolve, "--output-file", str(new / LOCK), str(source)], scratch, say)
        count = (new / LOCK).read_text(encoding="utf-8").count("==")
        say(f"{count} packages to install. uv downloads those that are not in its cache.")
        # Copies, because uv's cache is shared.
        install = ["install", *common, "--no-deps", "--require-hashes", "--no-compile-bytecode"]
        install += ["--link-mode", "copy", "--target", packages]
        _run([uv, "pip", *install, "--requirement", str(new / LOCK)], scratch, say)
        say("Compiling the packages' modules.")
        _compile(isolation, new)
        new.rename(folder)
    say(f"The model's environment is ready after {time.monotonic() - start:.0f} s.")


def _uv() -> str:
    folders = [sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)]
    uv = shutil.which("uv", path=os.pathsep.join(folders))
    if uv is None:
        raise SystemFailed(
            "uv is not installed. It builds the candidate's environment. "
            'Install it (pip install uv), or set env_manager = "local".'
        )
    return uv


def _run(command: list[str], scratch: str, say: Say) -> None:
    """Run uv, in an empty working folder so that it finds no project's configuration. ``say`` is
    called with each download that uv announces, with its size."""
    environ = {name: value for name, value in os.environ.items() if _PASSED_ON.fullmatch(name)}
    with (
        tempfile.TemporaryDirectory(prefix="lynx-uv-") as empty,
        subprocess.Popen(
            command,
            cwd=empty,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        ) as uv,
    ):
        expired = threading.Event()

        def end() -> None:
            expired.set()
            uv.kill()

        timer = threading.Timer(BUILD_SECONDS, end)
        timer.start()
        try:
            stderr = _follow(uv, say)
            code = uv.wait()
        finally:
            timer.cancel()
            uv.kill()
    if code == 0:
        return
    if expired.is_set():
        raise SystemFailed(
            f"uv did not build the candidate's environment within {BUILD_SECONDS:.0f} s."
        )
    stderr = stderr.replace(f"{scratch}/", "")
    stderr = " ".join(_CREDENTIAL.sub("://", stderr).split())[:1500]
    if code == 1:  # uv's exit code for requirements that can't be met
        raise BadInput(
            "the candidate's environment can't be built from its requirements.txt (with wheels "
            f"only, since a source distribution would run its code here): {stderr}"
        )
    raise SystemFailed(f"uv could not build the candidate's environment: {stderr}")


def _follow(uv: "subprocess.Popen[bytes]", say: Say) -> str:
    """The errors and warnings that uv writes until it ends."""
    assert uv.stderr is not None
    rest = []
    for raw in uv.stderr:
        line = printable(raw.decode(errors="replace"), "\n\t").strip()
        if _DOWNLOADING.fullmatch(line):
            say(line)
        elif not _NEWS.fullmatch(line):
            rest.append(line)
    return "\n".join(rest)


def _compile(isolation: Isolation, new: Path) -> None:
    """Compile the packages' modules once, instead of at every start of a worker. Modules that
    take too long stay uncompiled."""

    with suppress(subprocess.TimeoutExpired):
        subprocess.run(
            isolation.compile_command(new),
            env={"PATH": os.defpath},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=BUILD_SECONDS / 6,
            check=False,
        )


def _digest(values: list[str]) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()
