"""What a candidate's process can see and reach: nothing of ours but the interpreter, its
libraries, the bundle and the prompts. No repository, no eval set, no environment variable, no
network; a private ``/tmp`` and ``/dev/shm`` of limited size, and nothing else that it can write.

:mod:`lynx_pipeline.sandbox.inside.launcher` adds limits and a filter on system calls, with or
without isolation.

Whether isolation works is found out by doing it. Without it, ``prod`` refuses and ``dev`` goes
on and says so.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lynx_pipeline.config import Limits
from lynx_pipeline.domain.candidate_eval import BUBBLEWRAP, NONE
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.errors import Refused
from lynx_pipeline.sandbox.inside import launcher, worker

TMP = "/tmp"  # noqa: S108  # the one inside the sandbox, private to it
SHARED = "/dev/shm"  # noqa: S108  # likewise
ENVIRONMENT = "/environment"  # the model's own, inside the sandbox

# What an interpreter needs, of all that may lie beside it: a project, pip's passwords.
_PARTS = ("bin", "lib", "lib64", "share", "pyvenv.cfg")
_SETTINGS = Path("/proc/sys")
# What forbids user namespaces: the setting, its value then, and what to do.
_FORBIDS = (
    (
        "kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "let bwrap have them: printf 'abi <abi/4.0>,\\nprofile bwrap /usr/bin/bwrap "
        "flags=(unconfined) { userns, }\\n' | sudo tee /etc/apparmor.d/bwrap && "
        "sudo apparmor_parser -r /etc/apparmor.d/bwrap; or let every program have them: "
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
        "allow some: sudo sysctl -w user.max_user_namespaces=10000",
    ),
)


@dataclass(frozen=True, slots=True)
class Isolation:
    """How the worker is shut in. ``level`` goes into the evidence, :data:`BUBBLEWRAP` or
    :data:`NONE`; ``more`` are options that not
    every bwrap or machine takes. ``environment`` is the virtual environment that the worker runs
    in, None for ours."""

    level: str
    bwrap: str | None = None
    hidden: tuple[Path, ...] = field(default=())
    more: tuple[str, ...] = field(default=())
    environment: Path | None = None

    def command(self, bundle: Path, limits: Limits) -> list[str]:
        """The command line that starts the worker on ``bundle``."""
        script, own = Path(worker.__file__), self.environment
        if self.bwrap is None:
            # A limit on processes would count all that this user has.
            launch = _launch(sys.executable, launcher.__file__, limits.memory_mib, 0)
            python = str(own / "bin/python") if own else sys.executable
            return [*launch, python, "-I", "-B", str(script), str(bundle)]
        binds = {"/bundle": bundle, "/worker.py": script}
        return [*self.jail(binds, limits), self._python, "-I", "-B", "/worker.py", "/bundle"]

    @property
    def _python(self) -> str:
        """The worker's interpreter, by its name in the sandbox."""
        return f"{ENVIRONMENT}/bin/python" if self.environment else sys.executable

    def jail(self, binds: dict[str, Path], limits: Limits) -> list[str]:
        """What comes before a command to run it shut in, with ``binds`` in view."""
        view = _view(self.hidden, limits.memory_mib, ours=self.environment is None)
        if self.environment:
            binds = {**binds, ENVIRONMENT: self.environment}
        for place, source in {**binds, "/launcher.py": Path(launcher.__file__)}.items():
            view += ["--ro-bind", str(source), place]
        for folder in ("/proc", "/dev", "/"):
            view += ["--remount-ro", folder]
        launch = _launch(self._python, "/launcher.py", limits.memory_mib, limits.processes)
        return [str(self.bwrap), *_namespaces(), *self.more, *view, "--chdir", TMP, "--", *launch]

    def compile_command(self, environment: Path) -> list[str]:
        """The command line that compiles the modules in ``environment`` to bytecode. It runs
        none of them: without ``site`` the interpreter knows of no packages."""
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
        jail = [self.bwrap, *_namespaces(), *self.more]
        jail += _view(self.hidden, Limits().memory_mib, ours=False)
        jail += ["--ro-bind", str(environment), ENVIRONMENT, "--bind", f"{environment}/lib", lib]
        return [*jail, "--chdir", TMP, "--", f"{ENVIRONMENT}/bin/python", *compiler, lib]


def choose_isolation(env: Env, hidden: Sequence[Path], warn: Callable[[str], None]) -> Isolation:
    """The isolation that works here, tried by running the interpreter in it.

    ``hidden`` are folders that must not be seen even if they lie under what has to be.

    Raises:
        Refused: none works and this is ``prod``.
    """
    path = shutil.which("bwrap")
    if path is None:
        why = "bwrap is not installed (Debian's package is bubblewrap)"
    elif not launcher.works_here():
        why = f"there is no filter of system calls for {os.uname().machine}"
    else:
        # The filter denies them, too: what can't be taken away twice is taken away once.
        for more in (("--disable-userns",), ()):
            chosen = Isolation(BUBBLEWRAP, path, hidden=tuple(hidden), more=more)
            probe = subprocess.run(
                chosen.jail({}, Limits()), capture_output=True, env={}, check=False
            )
            if probe.returncode == 0:
                return chosen
        said = probe.stderr.decode(errors="replace").strip()[:300]
        why = f"bwrap does not work here ({said}); {_remedy()}"
    if env is Env.PROD:
        raise Refused(f"prod evaluates a candidate only in isolation, and none works here: {why}.")
    warn(
        f"NO ISOLATION: {why}. The candidate runs with your rights and can read your files; "
        "the evidence will say isolation: none."
    )
    return Isolation(NONE)


def _remedy() -> str:
    for name, value, remedy in _FORBIDS:
        file = _SETTINGS / name
        if file.exists() and file.read_text().strip() == value:
            return f"{name.replace('/', '.')} is {value}, which forbids user namespaces; {remedy}"
    return "it has to be bubblewrap 0.7 or newer, where user namespaces are allowed"


def _launch(python: str, script: str, memory_mib: int, processes: int) -> list[str]:
    """Without ``site``: what the candidate's environment holds is not to run before the limits."""
    return [python, "-I", "-S", "-B", script, str(memory_mib), str(processes)]


def _namespaces() -> list[str]:
    return [
        "--unshare-all",
        "--unshare-user",  # or fail: --unshare-all goes on without
        *("--uid", "65534", "--gid", "65534"),
        "--die-with-parent",
        "--new-session",
        *("--cap-drop", "ALL"),
        *("--hostname", "sandbox"),
        "--clearenv",
        *("--setenv", "HOME", TMP),
        *("--setenv", "PATH", "/usr/bin:/bin"),
        *("--setenv", "LANG", "C.UTF-8"),
        # Libraries ask who they are, and there is no /etc/passwd.
        *("--setenv", "LOGNAME", "candidate"),
    ]


def _view(hidden: Sequence[Path], memory_mib: int, *, ours: bool) -> list[str]:
    """What can be seen: the system's libraries, this interpreter, its virtual environment if it
    is to be ``ours``, and no folder of ours."""
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
    if ours:
        homes.add(Path(sys.prefix))
    bound = [Path("/usr")]
    for home in sorted(homes):
        if not any(home.is_relative_to(b) for b in bound):
            args += _parts(home)
            bound.append(home)
    inside = {
        home / folder.resolve().relative_to(home.resolve())
        for home in bound
        for folder in hidden
        if folder.is_dir() and folder.resolve().is_relative_to(home.resolve())
    }
    empty: list[str] = []
    # An outer folder first: what is put back below it must not lay open an inner one.
    for folder in sorted(inside):
        args += ["--tmpfs", str(folder)]
        empty += ["--remount-ro", str(folder)]
        for home in sorted(homes):
            if home.is_relative_to(folder):
                args += _parts(home)
    return [*args, *empty]


def _parts(home: Path) -> list[str]:
    places = [str(home / name) for name in _PARTS]
    return [argument for place in places for argument in ("--ro-bind-try", place, place)]
