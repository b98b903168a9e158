"""What a candidate's process can see and reach: nothing of ours but the interpreter, its
libraries, the bundle and the prompts. No repository, no eval set, no environment variable, no
network, a private ``/tmp``.

Whether isolation works is found out by doing it. Without it, ``prod`` refuses and ``dev`` goes
on and says so.
"""

import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lynx_pipeline import worker
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.errors import Refused

BUBBLEWRAP = "bubblewrap"
NONE = "none"
TMP = "/tmp"  # noqa: S108  # the one inside the sandbox, private to it


@dataclass(frozen=True, slots=True)
class Isolation:
    """How the worker is shut in. ``level`` goes into the evidence."""

    level: str
    bwrap: str | None = None
    why: str = ""
    hidden: tuple[Path, ...] = field(default=())

    def command(self, bundle: Path, memory_mib: int) -> list[str]:
        """The command line that starts the worker on ``bundle``."""
        script = Path(worker.__file__)
        python = [sys.executable, "-I", "-B"]
        if self.bwrap is None:
            return [*python, str(script), str(bundle), str(memory_mib)]
        jail = [self.bwrap, *_namespaces(), *_view(self.hidden)]
        jail += ["--ro-bind", str(bundle), "/bundle", "--ro-bind", str(script), "/worker.py"]
        jail += ["--chdir", TMP, "--"]
        return [*jail, *python, "/worker.py", "/bundle", str(memory_mib)]


def choose_isolation(env: Env, hidden: Sequence[Path], warn: Callable[[str], None]) -> Isolation:
    """The isolation that works here, tried by running the interpreter in it.

    ``hidden`` are folders that must not be seen even if they lie under what has to be.

    Raises:
        Refused: none works and this is ``prod``.
    """
    path = shutil.which("bwrap")
    why = "bwrap is not installed (Debian's package is bubblewrap)"
    if path is not None:
        jail = [path, *_namespaces(), *_view(hidden), "--", sys.executable, "-I", "-S", "-c", ""]
        probe = subprocess.run(jail, capture_output=True, env={}, check=False)
        if probe.returncode == 0:
            return Isolation(BUBBLEWRAP, path, hidden=tuple(hidden))
        said = probe.stderr.decode(errors="replace").strip()[:300]
        why = (
            f"bwrap does not work here ({said}). On Ubuntu 24.04 unprivileged user namespaces "
            "need 'sysctl kernel.apparmor_restrict_unprivileged_userns=0'"
        )
    if env is Env.PROD:
        raise Refused(f"prod evaluates a candidate only in isolation, and none works here: {why}.")
    warn(
        f"NO ISOLATION: {why}. The candidate runs with your rights and can read your files; "
        "the evidence will say isolation: none."
    )
    return Isolation(NONE, why=why)


def _namespaces() -> list[str]:
    return [
        "--unshare-all",
        "--die-with-parent",
        "--new-session",
        *("--cap-drop", "ALL"),
        *("--hostname", "sandbox"),
        "--clearenv",
        *("--setenv", "HOME", TMP),
        *("--setenv", "PATH", "/usr/bin:/bin"),
        *("--setenv", "LANG", "C.UTF-8"),
    ]


def _view(hidden: Sequence[Path]) -> list[str]:
    """What can be seen: the system's libraries, this interpreter, and no folder of ours."""
    args = ["--proc", "/proc", "--dev", "/dev", "--tmpfs", TMP, "--ro-bind", "/usr", "/usr"]
    for name in ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache"):
        path = Path(name)
        if path.is_symlink():
            args += ["--symlink", str(path.readlink()), name]
        elif path.exists():
            args += ["--ro-bind", name, name]
    homes = {Path(sys.base_prefix), Path(sys.base_prefix).resolve(), Path(sys.prefix)}
    bound = [Path("/usr")]
    for home in sorted(homes):
        if not any(home.is_relative_to(b) for b in bound):
            args += ["--ro-bind", str(home), str(home)]
            bound.append(home)
    for folder in hidden:
        if folder.is_dir() and any(folder.is_relative_to(b) for b in bound):
            args += ["--tmpfs", str(folder)]
            for home in sorted(homes):
                if home.is_relative_to(folder):
                    args += ["--ro-bind", str(home), str(home)]
    return args
