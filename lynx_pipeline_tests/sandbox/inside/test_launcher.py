"""The launcher's limits and filter, tested by programs that it starts on the real kernel."""

import json
import os
import resource
import subprocess
import sys

import pytest

from lynx_pipeline.sandbox.inside import launcher

ENOSYS, EAFNOSUPPORT = 38, 97
# Prefix for test programs, which print JSON: call() makes a system call and gives errno or 0.
SYSCALL = """
import ctypes, json, sys
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    done = libc.syscall(ctypes.c_long(number), *map(ctypes.c_long, arguments))
    return 0 if done >= 0 else ctypes.get_errno()
"""


def launched(code: str, memory_mib: int = 1024, processes: int = 0) -> tuple[int, str, str]:
    """Exit code, standard output and error of a Python program under the launcher."""
    command = [sys.executable, "-I", "-S", launcher.__file__, str(memory_mib), str(processes)]
    done = subprocess.run(
        [*command, sys.executable, "-I", "-S", "-c", code],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def printed(code: str, memory_mib: int = 1024, processes: int = 0) -> object:
    """The JSON that the program prints."""
    ended, output, errors = launched(code, memory_mib, processes)
    assert ended == 0, errors
    return json.loads(output)


@pytest.fixture(scope="module")
def number() -> int:
    """The column of this machine in the launcher's tables."""
    assert launcher.is_supported(), "add a filter for this machine"
    return launcher.MACHINES[os.uname().machine]


def test_denied_calls_do_not_exist(number: int) -> None:
    """Denied calls fail as on a kernel that does not have them."""
    numbers = [both[number] for both in launcher.DENIED.values()]
    found = printed(SYSCALL + f"print(json.dumps([call(n, 0, 0, 0, 0, 0) for n in {numbers}]))")
    assert found == [ENOSYS] * len(numbers)


@pytest.mark.parametrize("flag", [1 << k for k in (17, 25, 26, 27, 28, 29, 30)])
def test_clone_creates_no_namespaces(number: int, flag: int) -> None:
    """Every flag that would create one is denied."""
    clone = (56, 220)[number]
    found = printed(SYSCALL + f"print(json.dumps(call({clone}, {flag} | 17, 0, 0, 0, 0)))")
    assert found == ENOSYS


def test_ordinary_programs_work() -> None:
    """Threads, child processes and local sockets are allowed."""
    code = (
        "import json, socket, subprocess, sys, threading, os\n"
        "done = []\n"
        "thread = threading.Thread(target=done.append, args=(1,)); thread.start(); thread.join()\n"
        "done.append(subprocess.run([sys.executable, '-I', '-S', '-c', '']).returncode)\n"
        "if (child := os.fork()) == 0: os._exit(3)\n"
        "done.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
        "a, b = socket.socketpair(); a.send(b'x'); done.append(b.recv(1).decode())\n"
        "print(json.dumps(done))"
    )
    assert printed(code) == [1, 0, 3, "x"]


def test_only_sockets_confined_to_the_namespace_are_allowed() -> None:
    """AF_VSOCK (40), for example, reaches a virtual machine's host from any network namespace."""
    code = (
        "import json, socket\n"
        "def family(k):\n"
        "    try: socket.socket(k, socket.SOCK_RAW if k == 16 else socket.SOCK_DGRAM, 0).close()\n"
        "    except OSError as error: return error.errno\n"
        "    return 0\n"
        "print(json.dumps([family(k) for k in range(64)]))"
    )
    found = printed(code)
    expected = [0 if k in (1, 2, 10, 16) else EAFNOSUPPORT for k in range(64)]
    assert found == expected


def test_a_program_for_a_different_architecture_is_killed(number: int) -> None:
    """System call numbers differ there. On x86_64, x32 calls have an additional bit."""
    bit = 0x40000000 if number == 0 else 0
    code, _, _ = launched(SYSCALL + f"call({bit} + 39)")
    assert code == (-31 if number == 0 else 0)


def test_limits_are_set_and_enforced() -> None:
    """The limits are hard, so no descendant can raise them."""
    names = ["AS", "FSIZE", "NOFILE", "CORE", "NPROC"]
    code = (
        "import json, resource\n"
        f"kinds = [getattr(resource, 'RLIMIT_' + name) for name in {names}]\n"
        "print(json.dumps([resource.getrlimit(kind) for kind in kinds]))"
    )
    memory = 512 << 20
    assert printed(code, 512, 99) == [[k, k] for k in (memory, memory, 4096, 0, 99)]
    before = list(resource.getrlimit(resource.RLIMIT_NPROC))
    assert isinstance(found := printed(code), list)
    assert found[-1] == before
    ended, _, errors = launched("bytearray(1 << 30)", 512)
    assert (ended, "MemoryError" in errors) == (1, True)


def test_a_lower_existing_limit_stays() -> None:
    """Only root could raise the limit."""

    command = [sys.executable, "-I", "-S", launcher.__file__, "1024", "0"]
    show = "import resource; print(resource.getrlimit(resource.RLIMIT_NOFILE))"
    done = subprocess.run(
        ["sh", "-c", 'ulimit -n 99; exec "$@"', "sh", *command, sys.executable, "-c", show],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "(99, 99)"
