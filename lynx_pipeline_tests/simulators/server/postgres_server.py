"""PostgreSQL for a test: a separate cluster with a password, reached only by its socket.

The server refuses to run as root, so root runs it as ``nobody``.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

USER, PASSWORD = "lynx", "a-password-that-nobody-may-see"
DATABASES = ("lynx_dagster", "lynx_mlflow")


def programs() -> Path:
    """The folder of the server's programs. On Debian it is not on the PATH.

    Raises:
        AssertionError: PostgreSQL is not installed.
    """
    if on_path := shutil.which("initdb"):
        return Path(on_path).resolve().parent
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda it: int(it.parent.name))
    assert found, "PostgreSQL is not installed (Debian and Ubuntu: apt install postgresql)"
    return found[-1]


@dataclass(frozen=True)
class Postgres:
    """A running cluster."""

    folder: Path

    @property
    def environ(self) -> dict[str, str]:
        """The variables with which libpq connects."""
        return {"PGHOST": str(self.folder), "PGUSER": USER, "PGPASSWORD": PASSWORD}

    def ready(self) -> bool:
        """Whether it accepts connections, by the command that the documentation names."""
        command = [str(programs() / "pg_isready"), "--quiet"]
        return subprocess.run(command, env={**os.environ, **self.environ}).returncode == 0

    def crash(self) -> None:
        """Stop without writing anything more, as in a power cut."""
        self._control("stop", "--mode=immediate")

    def start(self) -> None:
        """Start, and recover from a crash."""
        options = f"-k {self.folder} -c listen_addresses='' -c fsync=off"
        self._control("start", "--wait", f"--options={options}", f"--log={self.folder / 'log'}")

    def _control(self, *arguments: str) -> None:
        _run("pg_ctl", f"--pgdata={self.folder / 'data'}", "--silent", *arguments)


@contextmanager
def running() -> Iterator[Postgres]:
    """A new cluster with the two empty databases of a team's server."""
    # Not in pytest's folder: only its owner may enter it, and a socket's path must be short.
    folder = Path(tempfile.mkdtemp(prefix="lynx-postgres-"))
    try:
        folder.chmod(0o755)
        if os.geteuid() == 0:
            shutil.chown(folder, "nobody")
        (folder / "password").write_text(PASSWORD)
        (folder / "password").chmod(0o644)
        settings = ("--auth=scram-sha-256", f"--username={USER}", "--encoding=UTF8", "--no-sync")
        password = f"--pwfile={folder / 'password'}"
        _run("initdb", f"--pgdata={folder / 'data'}", *settings, password)
        it = Postgres(folder)
        it.start()
        try:
            for database in DATABASES:
                _run("createdb", database, environ=it.environ)
            yield it
        finally:
            it.crash()
    finally:
        shutil.rmtree(folder)


def _run(program: str, *arguments: str, environ: dict[str, str] | None = None) -> None:
    user: dict[str, Any] = {}
    if os.geteuid() == 0:
        user = {"user": "nobody", "group": "nogroup", "extra_groups": []}
    done = subprocess.run(
        [programs() / program, *arguments],
        cwd="/",
        env={**os.environ, **(environ or {})},
        # The server that pg_ctl starts would keep a pipe open.
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE if program != "pg_ctl" else subprocess.DEVNULL,
        text=True,
        timeout=60,
        **user,
    )
    assert done.returncode == 0, (program, done.stderr)
