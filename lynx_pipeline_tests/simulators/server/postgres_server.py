"""PostgreSQL for a test: a cluster of its own, reached by its socket alone, with a password.

The server refuses to be root's, so root runs it as ``nobody``.
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
    """The folder of the server's programs. Debian keeps them off the PATH.

    Raises:
        AssertionError: there is no server; these tests need one.
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
        """How libpq reaches it."""
        return {"PGHOST": str(self.folder), "PGUSER": USER, "PGPASSWORD": PASSWORD}

    def ready(self) -> bool:
        """Whether it takes connections, by the command that the documentation names."""
        command = [str(programs() / "pg_isready"), "--quiet"]
        return subprocess.run(command, env={**os.environ, **self.environ}).returncode == 0

    def crash(self) -> None:
        """Stop as a power cut does: nothing is written any more."""
        self._control("stop", "--mode=immediate")

    def start(self) -> None:
        """Start, recovering what a crash left."""
        options = f"-k {self.folder} -c listen_addresses='' -c fsync=off"
        self._control("start", "--wait", f"--options={options}", f"--log={self.folder / 'log'}")

    def _control(self, *arguments: str) -> None:
        _run("pg_ctl", f"--pgdata={self.folder / 'data'}", "--silent", *arguments)


@contextmanager
def running() -> Iterator[Postgres]:
    """A new cluster with the two empty databases of a team's server."""
    # Not below pytest's folder: only its owner may enter that, and a socket's path is short.
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
    as_somebody: dict[str, Any] = {}
    if os.geteuid() == 0:
        as_somebody = {"user": "nobody", "group": "nogroup", "extra_groups": []}
    done = subprocess.run(
        [programs() / program, *arguments],
        cwd="/",
        env={**os.environ, **(environ or {})},
        # pg_ctl's server would hold a pipe open.
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE if program != "pg_ctl" else subprocess.DEVNULL,
        text=True,
        timeout=60,
        **as_somebody,
    )
    assert done.returncode == 0, (program, done.stderr)
