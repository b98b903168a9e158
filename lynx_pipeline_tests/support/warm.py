"""Programs that start warm, forked from a process that has imported MLflow, Dagster and DVC.

The end-to-end tests run hundreds of processes that would each import these packages for seconds.
Only other projects' packages are imported in advance; a program imports ours itself. Its arguments,
environment, folder and standard streams are the caller's. If the caller dies, so does the program.

What this leaves out is a program's cold start, and what its environment changes while packages are
imported. Tests that kill a program start it cold, and so do the tests of a team's server.

``python -m lynx_pipeline_tests.support.warm SOCKET`` is the server. It ends when its standard input
does.
"""

import atexit
import gc
import json
import os
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from contextlib import suppress
from functools import cache
from pathlib import Path

COLD = Path(sys.executable).parents[1]
PROGRAMS = ("lynx-pipeline", "dagster")
_PACKAGES = (
    *("mlflow.pyfunc", "mlflow.tracking.client", "dagster", "dagster._cli", "dvc.repo", "dvc.cli"),
    *("github", "pandas", "pyarrow.parquet", "scipy.stats", "jwt", "rich.table"),
)
_CLIENT = """\
#!{python} -IS
import array, json, os, signal, socket, sys
connection = socket.socket(socket.AF_UNIX)
connection.connect({socket!r})
request = json.dumps([[{program!r}, *sys.argv[1:]], os.getcwd(), dict(os.environ)]).encode()
streams = array.array("i", [0, 1, 2])
connection.sendmsg([b"."], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)])
connection.sendall(request)
connection.shutdown(socket.SHUT_WR)
answer = connection.recv(16)
code = int(answer or -9)
if code < 0:
    os.kill(os.getpid(), -code)
os._exit(code)
"""


@cache
def environment() -> Path:
    """A virtual environment in which :data:`PROGRAMS` start warm, for as long as this process runs.
    Everything else in it is this process's own."""
    folder = Path(tempfile.mkdtemp(prefix="lynx-warm-"))
    address = folder / "socket"
    server = subprocess.Popen(
        [sys.executable, "-m", __name__, str(address)],
        env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert server.stdout
    assert server.stdout.readline() == b"ready\n"
    atexit.register(server.communicate)  # closes its standard input and waits for it
    (folder / "bin").mkdir()
    for part in ("lib", "pyvenv.cfg"):
        (folder / part).symlink_to(COLD / part)
    for program in (COLD / "bin").iterdir():
        if program.name not in PROGRAMS:
            (folder / "bin" / program.name).symlink_to(program)
    for name in PROGRAMS:
        client = folder / "bin" / name
        client.write_text(
            _CLIENT.format(
                python=Path(sys.executable).resolve(),
                socket=str(address),
                program=str(COLD / "bin" / name),
            )
        )
        client.chmod(0o755)
    return folder


def _serve(address: str) -> None:
    for name in _PACKAGES:
        __import__(name)
    gc.collect()
    gc.freeze()  # so that no collection copies what the programs share
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(64)
    print("ready", flush=True)
    while True:
        readable, _, _ = select.select([listener, sys.stdin], [], [])
        if sys.stdin in readable:
            shutil.rmtree(Path(address).parent)
            return
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _attend(connection)
        connection.close()


def _attend(connection: socket.socket) -> None:
    """Run one program, and kill it if its caller goes away."""
    _, streams, _, _ = socket.recv_fds(connection, 1, 3)
    raw = b""
    while part := connection.recv(1 << 16):
        raw += part
    argv, folder, environ = json.loads(raw)
    child = os.fork()
    if child == 0:
        connection.close()
        _become(argv, folder, environ, streams)
    ended = os.pidfd_open(child)
    gone = select.poll()
    gone.register(ended, select.POLLIN)
    gone.register(connection, select.POLLHUP)  # the caller closed both directions
    while not any(handle == ended for handle, _ in gone.poll()):
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        gone.unregister(connection)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with suppress(OSError):
        connection.sendall(str(code).encode())
    os._exit(0)


def _become(argv: list[str], folder: str, environ: dict[str, str], streams: list[int]) -> None:
    """Be the program, to its end."""
    os.setsid()
    for target, stream in enumerate(streams):
        os.dup2(stream, target)
        os.close(stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environ)
    sys.argv = argv
    sys.path[0] = str(Path(argv[0]).parent)
    code: object = None
    try:
        runpy.run_path(argv[0], run_name="__main__")
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
        code = 1
    # What Python does at its end, except to take the imported packages apart.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    _serve(sys.argv[1])
