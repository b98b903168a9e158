"""What a candidate's process can see and reach: the interpreter, its libraries, the bundle and the
prompts. No repository, no eval set, no environment variables and no network; it can write only to
a private ``/tmp`` and ``/dev/shm`` of limited size.

:mod:`lynx_pipeline.sandbox.inside.launcher` adds limits and a system call filter, with or without
isolation.

Isolation is tested by running the interpreter in it. If that fails, ``prod`` refuses and ``dev``
continues with a warning.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from types import ModuleType

from lynx_pipeline.config import Limits
from lynx_pipeline.domain.candidate_eval import BUBBLEWRAP, NONE
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.errors import Refused
from lynx_pipeline.sandbox.inside import causes, launcher, worker

TMP = "/tmp"  # noqa: S108  # the one inside the sandbox, private to it
SHARED = "/dev/shm"  # noqa: S108  # likewise
# Where servers keep them: MLflow's own images have models there. A model that only behaves while it
# is evaluated should not find out from a name.
BUNDLE = "/opt/ml/model"
ENVIRONMENT = "/opt/venv"  # the model's own environment

# This package, which may be installed among the interpreter's: a candidate could learn from it how
# it is evaluated.
_PACKAGE = Path(launcher.__file__).parents[2]
_DISTRIBUTION = "lynx-pipeline"
# The parts that an interpreter needs. Its folder may also contain a project, or pip's passwords.
_PARTS = ("bin", "lib", "lib64", "share", "pyvenv.cfg")
_SETTINGS = Path("/proc/sys")
# Settings that forbid user namespaces: name, forbidding value, and how to allow them.
_NAMESPACE_SETTINGS = (
    (
        "kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "allow them for bwrap: printf 'abi <abi/4.0>,\\nprofile bwrap /usr/bin/bwrap "
        "flags=(unconfined) { userns, }\\n' | sudo tee /etc/apparmor.d/bwrap && "
        "sudo apparmor_parser -r /etc/apparmor.d/bwrap; or allow them for every program: "
        "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
    ),
    (
        "kernel/unprivileged_userns_clone",
        "0",
        "allow them: sudo sysctl -w kernel.unprivileged_userns_clone=1",
    ),
    (
        "user/max_user_namespaces",
        "0",
        "raise the limit: sudo sysctl -w user.max_user_namespaces=10000",
    ),
)


@dataclass(frozen=True, slots=True)
class Isolation:
    """How the worker is isolated.

    ``level`` is :data:`BUBBLEWRAP` or :data:`NONE` and goes into the evidence. ``hidden`` are
    folders and files that appear empty. ``extra_options`` are those that not every bwrap supports.
    ``environment`` is the virtual environment that the worker runs in, None for ours.
    """

    level: str
    bwrap: str | None = None
    hidden: tuple[Path, ...] = field(default=())
    extra_options: tuple[str, ...] = field(default=())
    environment: Path | None = None

    def command(self, bundle: Path, limits: Limits) -> list[str]:
        """The command line that starts the worker on ``bundle``."""
        work = ["-I", "-B", "-c", _worker()]
        if self.bwrap is None:
            # No limit on processes: it would count all processes of this user.
            launch = _launch(sys.executable, limits.memory_mib, 0)
            own = self.environment
            python = str(own / "bin/python") if own else sys.executable
            return [*launch, python, *work, self.inside(bundle)]
        return [*self.jail({BUNDLE: bundle}, limits), self._python, *work, self.inside(bundle)]

    def inside(self, bundle: Path) -> str:
        """The bundle's folder as the worker sees it."""
        return str(bundle) if self.bwrap is None else BUNDLE

    @property
    def _python(self) -> str:
        """The worker's interpreter, as a path inside the sandbox."""
        return f"{ENVIRONMENT}/bin/python" if self.environment else sys.executable

    def jail(self, binds: dict[str, Path], limits: Limits) -> list[str]:
        """The words to put before a command to run it in the sandbox. ``binds`` maps paths inside
        to the files mounted there, read-only."""
        mounts = _mounts(self.hidden, limits.memory_mib, own_prefix=self.environment is None)
        if self.environment:
            binds = {**binds, ENVIRONMENT: self.environment}
        for target, source in binds.items():
            mounts += ["--ro-bind", str(source), target]
        for folder in ("/proc", "/dev", "/"):
            mounts += ["--remount-ro", folder]
        bwrap = [str(self.bwrap), *_namespaces(), *self.extra_options, *mounts, "--chdir", TMP]
        # Otherwise this command line would be there to read, as that of process 1.
        bwrap += ["--as-pid-1"]
        launch = _launch(self._python, limits.memory_mib, limits.processes)
        return [*bwrap, "--", *launch]

    def compile_command(self, environment: Path) -> list[str]:
        """The command line that compiles the modules in ``environment`` to bytecode. It runs none
        of them: without ``site`` the interpreter does not find any packages."""
        compiler = [
            "-I",
            "-S",
            "-m",
            "compileall",
            "-q",
            "-j",
            "0",
            "-x",
            "site-packages/.+/tests/",
        ]
        if self.bwrap is None:
            return [sys.executable, *compiler, str(environment / "lib")]
        lib = f"{ENVIRONMENT}/lib"
        jail = [self.bwrap, *_namespaces(), *self.extra_options]
        jail += _mounts(self.hidden, Limits().memory_mib, own_prefix=False)
        jail += ["--ro-bind", str(environment), ENVIRONMENT, "--bind", f"{environment}/lib", lib]
        return [*jail, "--chdir", TMP, "--", f"{ENVIRONMENT}/bin/python", *compiler, lib]


def choose_isolation(env: Env, hidden: Sequence[Path], warn: Callable[[str], None]) -> Isolation:
    """The isolation that works on this machine, tested by running the interpreter in it.

    ``hidden`` are folders that are empty inside even if they lie below a mounted folder. So is this
    package.

    Raises:
        Refused: isolation does not work and this is ``prod``.
    """
    path = shutil.which("bwrap")
    if path is None:
        reason = "bwrap is not installed (Debian's package is bubblewrap)"
    elif not launcher.is_supported():
        reason = f"there is no system call filter for {os.uname().machine}"
    else:
        # The filter also denies user namespaces, so a bwrap without the option is good enough.
        for extra_options in (("--disable-userns",), ()):
            isolation = Isolation(BUBBLEWRAP, path, (*hidden, *_own_files()), extra_options)
            probe = subprocess.run(
                isolation.jail({}, Limits()), capture_output=True, env={}, check=False
            )
            if probe.returncode == 0:
                return isolation
        stderr = probe.stderr.decode(errors="replace").strip()[:300]
        reason = f"bwrap does not work on this machine ({stderr}); {_remedy()}"
    if env is Env.PROD:
        raise Refused(
            f"prod evaluates a candidate only in isolation, which is not available: {reason}."
        )
    warn(
        f"NO ISOLATION: {reason}. The candidate runs with your permissions and can read your "
        "files; the evidence will record isolation: none."
    )
    return Isolation(NONE)


def _own_files() -> set[Path]:
    """This package, and what its installation adds beside it: metadata, scripts, and the files that
    make an editable install work."""
    found = {_PACKAGE}
    with suppress(PackageNotFoundError):
        installed = distribution(_DISTRIBUTION)
        for file in installed.files or ():
            top = file.parts[0]
            whole = top == _PACKAGE.name or top.endswith(".dist-info")
            found.add(Path(str(installed.locate_file(top if whole else file))))
    return found


def _remedy() -> str:
    for name, value, remedy in _NAMESPACE_SETTINGS:
        file = _SETTINGS / name
        if file.exists() and file.read_text().strip() == value:
            return f"{name.replace('/', '.')} is {value}, which forbids user namespaces; {remedy}"
    return "bubblewrap 0.7 or newer is required, and user namespaces must be allowed"


def _source(program: ModuleType) -> str:
    """A program that runs inside, as an argument of the interpreter. So it needs no file there, and
    looks like MLflow's own image, whose server is ``python -c`` on a model in the same folder."""
    return Path(str(program.__file__)).read_text(encoding="utf-8")


def _worker() -> str:
    """The worker with its other module in place of the import, for which there is no package."""
    text, part = _source(worker), _source(causes)
    return re.sub(r"^from \.causes import .*\n", lambda _: part, text, count=1, flags=re.MULTILINE)


def _launch(python: str, memory_mib: int, processes: int) -> list[str]:
    """Without ``site``: code in the candidate's environment must not run before the limits."""
    options = ["-I", "-S", "-B", "-c", _source(launcher)]
    return [python, *options, str(memory_mib), str(processes)]


def _namespaces() -> list[str]:
    return [
        "--unshare-all",
        "--unshare-user",  # fail without: --unshare-all alone would continue
        *("--uid", "65534", "--gid", "65534"),
        "--die-with-parent",
        "--new-session",
        *("--cap-drop", "ALL"),
        *("--hostname", "localhost"),
        "--clearenv",
        *("--setenv", "HOME", TMP),
        *("--setenv", "PATH", "/usr/bin:/bin"),
        *("--setenv", "LANG", "C.UTF-8"),
        # Libraries ask for the user's name, and there is no /etc/passwd.
        *("--setenv", "LOGNAME", "nobody"),
    ]


def _mounts(hidden: Sequence[Path], memory_mib: int, *, own_prefix: bool) -> list[str]:
    """The options that mount the system's libraries, this interpreter and, with ``own_prefix``,
    its virtual environment, with nothing in the ``hidden`` folders and files."""
    tmpfs = ["--size", str(max(memory_mib << 20 >> 1, 1 << 20)), "--tmpfs"]
    args = ["--proc", "/proc", "--dev", "/dev", *tmpfs, SHARED, *tmpfs, TMP]
    args += ["--ro-bind", "/usr", "/usr"]
    for name in ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache"):
        path = Path(name)
        if path.is_symlink():
            args += ["--symlink", str(path.readlink()), name]
        elif path.exists():
            args += ["--ro-bind", name, name]
    homes = {Path(sys.base_prefix), Path(sys.base_prefix).resolve()}
    if own_prefix:
        homes.add(Path(sys.prefix))
    bound = [Path("/usr")]
    for home in sorted(homes):
        if not any(home.is_relative_to(b) for b in bound):
            args += _parts(home)
            bound.append(home)
    covered = {
        home / folder.resolve().relative_to(home.resolve())
        for home in bound
        for folder in hidden
        if folder.exists() and folder.resolve().is_relative_to(home.resolve())
    }
    remounts: list[str] = []
    # Outer folders first: an interpreter mounted again below one must not uncover an inner one.
    for folder in sorted(covered):
        if folder.is_file():
            args += ["--dev-bind", "/dev/null", str(folder)]
            continue
        args += ["--tmpfs", str(folder)]
        remounts += ["--remount-ro", str(folder)]
        for home in sorted(homes):
            if home.is_relative_to(folder):
                args += _parts(home)
    return [*args, *remounts]


def _parts(home: Path) -> list[str]:
    args = []
    for path in (home / name for name in _PARTS):
        if path.is_symlink() and str(path.readlink()) in _PARTS:
            # Not mounted a second time, where a hidden folder would show: lib64 is often lib.
            args += ["--symlink", str(path.readlink()), str(path)]
        else:
            args += ["--ro-bind-try", str(path), str(path)]
    return args
