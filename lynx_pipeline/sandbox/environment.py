"""A model's own environment: a virtual environment of what its ``requirements.txt`` asks for.

Requirements and packages are a stranger's, so nothing of theirs runs out here:

- Requirements are names and versions. An option, URL or path is refused.
- Only wheels are installed, which uv unpacks; a source distribution would run its ``setup.py``.
- uv asks our interpreter about the platform. The new one is first started in the sandbox: a
  package may hold a ``.pth`` file, which runs whenever its interpreter does.
- Packages are unpacked into ``site-packages`` and nowhere else, so they can't replace the
  interpreter or ``pyvenv.cfg``.

An environment appears by a rename, whole. It stays until somebody deletes its folder.
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
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from lynx_pipeline.adapters.files import locked, read_bytes
from lynx_pipeline.domain.text import printable
from lynx_pipeline.errors import BadInput, SystemFailed
from lynx_pipeline.sandbox.isolation import Isolation

REQUIREMENTS = "requirements.txt"
PYTHON = "python_env.yaml"
LOCK = "requirements.lock"
BUILD_SECONDS = 1800.0

# What uv needs to find indexes, caches and proxies; what else is in our environment is ours.
_PASSED_ON = re.compile(
    r"UV_(?!PUBLISH)\w+|XDG_(CONFIG|CACHE|DATA)_\w+|PATH|HOME|USER|LANG|LC_\w+|TMPDIR|NETRC"
    r"|(?i:(https?|all|no)_proxy)|SSL_CERT_(FILE|DIR)|SSL_CLIENT_CERT"
)
_COMMENT = re.compile(r"(^|\s)#.*")
_CREDENTIAL = re.compile(r"://[^/\s@]*@")


class Environment(NamedTuple):
    """An environment's folder, and the SHA-256 of what is in it: Python, platform, and every
    package with its version and the digests of its files."""

    folder: Path
    sha256: str


def own_environment(bundle: Path, environments: Path, isolation: Isolation) -> Environment:
    """The environment that the bundle asks for, from below ``environments`` or built there.

    Raises:
        BadInput: the bundle doesn't say, asks for another Python, or for what can't be had.
        SystemFailed: uv is not there or failed, or the disk did.
    """
    _check_python(bundle)
    wanted = read_requirements(bundle / REQUIREMENTS)
    here = [platform.python_implementation(), platform.python_version(), sysconfig.get_platform()]
    key = _digest([*here, *wanted])
    folder = environments / key
    busy = (
        f"another process has been building {folder} for {BUILD_SECONDS:.0f} s. End it, then run "
        "this again."
    )
    try:
        with locked(environments / f"{key}.lock", BUILD_SECONDS, busy):
            # One whose interpreter was uninstalled since is none.
            if not (folder / "bin/python").exists():
                shutil.rmtree(folder, ignore_errors=True)
                _build(wanted, folder, isolation)
        lock = (folder / LOCK).read_text(encoding="utf-8")
    except OSError as error:
        raise SystemFailed(f"{folder} can't be made: {error.strerror}.") from None
    return Environment(folder, _digest([*here, lock]))


def read_requirements(file: Path) -> list[str]:
    """The requirements in a ``requirements.txt``: names, extras, versions and markers.

    Raises:
        BadInput: there is something else in it, or no MLflow, or there is no file.
    """
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name

    raw = read_bytes(file, "the bundle does not say which environment it needs")
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
        except InvalidRequirement:
            requirement = None
        if requirement is None or requirement.url is not None or "===" in text or "$" in text:
            raise BadInput(
                f"{file}, line {number}: {printable(line)[:80]!r}: expected a package's name "
                "and version. Options, URLs and paths are not followed: the file is the "
                "candidate's. Log the model with pip_requirements that an index has; indexes are "
                "set up in uv's own configuration."
            )
        # uv takes a name with a dot in it for a file's.
        requirement.name = canonicalize_name(requirement.name)
        found.append(requirement)
    if not {"mlflow", "mlflow-skinny"} & {each.name for each in found}:
        raise BadInput(
            f"{file}: names no mlflow, which loads the model. Log the model again with mlflow, "
            "or mlflow-skinny and pandas, among its pip_requirements."
        )
    return [str(requirement) for requirement in found]


def _check_python(bundle: Path) -> None:
    file = bundle / PYTHON
    if not file.is_file():
        return
    text = read_bytes(file, PYTHON).decode(errors="replace")
    found = re.search(r"^python:\s*['\"]?(\d+\.\d+)", text, re.MULTILINE)
    ours = f"{sys.version_info.major}.{sys.version_info.minor}"
    if found and found[1] != ours:
        raise BadInput(
            f"{file}: the model was logged under Python {found[1]}, and this is {ours}. Run "
            f"lynx-pipeline under Python {found[1]}, or log the model under {ours}."
        )


def _build(wanted: list[str], folder: Path, isolation: Isolation) -> None:
    import venv

    for left in folder.parent.glob(f".{folder.name}-*"):  # by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    uv = _uv()
    with tempfile.TemporaryDirectory(
        prefix=f".{folder.name}-", dir=folder.parent, ignore_cleanup_errors=True
    ) as scratch:
        new, asked = Path(scratch) / "environment", Path(scratch) / REQUIREMENTS
        asked.write_text("".join(f"{line}\n" for line in wanted), encoding="utf-8")
        # Its links lead to our base interpreter; it starts nothing.
        venv.create(new, symlinks=True)
        base = {"base": str(new), "platbase": str(new)}
        packages = sysconfig.get_path("purelib", "venv", base)
        common = ["--quiet", "--no-build", "--python", sys.executable]
        resolve = ["compile", *common, "--generate-hashes", "--no-header", "--no-annotate"]
        resolve += ["--no-emit-index-url", "--no-emit-find-links"]
        _run([uv, "pip", *resolve, "--output-file", str(new / LOCK), str(asked)], scratch)
        # Copies, for uv's cache serves others too.
        install = ["install", *common, "--no-deps", "--require-hashes", "--no-compile-bytecode"]
        install += ["--link-mode", "copy", "--target", packages]
        _run([uv, "pip", *install, "--requirement", str(new / LOCK)], scratch)
        _compile(isolation, new)
        new.rename(folder)


def _uv() -> str:
    places = [sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)]
    found = shutil.which("uv", path=os.pathsep.join(places))
    if found is None:
        raise SystemFailed(
            "uv is not installed, and builds the environment that the candidate brings. "
            'Install it (pip install uv), or set env_manager = "local".'
        )
    return found


def _run(command: list[str], scratch: str) -> None:
    """Run uv. Its working folder is empty: what a project above says of uv is not for this."""
    environ = {name: value for name, value in os.environ.items() if _PASSED_ON.fullmatch(name)}
    try:
        with tempfile.TemporaryDirectory(prefix="lynx-uv-") as empty:
            done = subprocess.run(
                command,
                cwd=empty,
                env=environ,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=BUILD_SECONDS,
                check=False,
            )
    except subprocess.TimeoutExpired:
        raise SystemFailed(
            f"uv has not built the candidate's environment in {BUILD_SECONDS:.0f} s."
        ) from None
    if done.returncode == 0:
        return
    said = printable(done.stderr.decode(errors="replace"), "\n\t").replace(f"{scratch}/", "")
    said = " ".join(_CREDENTIAL.sub("://", said).split())[:1500]
    if done.returncode == 1:  # uv's word for requirements that can't be met
        raise BadInput(
            "the candidate's environment can't be built from its requirements.txt, with wheels "
            f"only, since a source distribution would run its code here: {said}"
        )
    raise SystemFailed(f"uv could not build the candidate's environment: {said}")


def _compile(isolation: Isolation, new: Path) -> None:
    """Compile the packages' modules, or every start of a worker would. What can't be compiled
    in time is not."""
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
