"""The program that sets limits and then starts the worker, which can't lift them.

It runs before the worker's interpreter, because that interpreter may load the candidate's code as
it starts. As the first process of a sandbox it stays, to reap what the worker leaves behind. This
file must import only the standard library.

Arguments: memory in MiB, number of processes (0: unchanged), and the command to run. Without a
command it only tests whether the limits can be set.

The settings are permanent and inherited by all descendants: limits on one process's memory, file
size, open files, core dumps and processes; no new privileges; and a system call filter, which
denies

- new namespaces, which would give the candidate capabilities in them;
- keyrings, and sockets that reach outside a network namespace (``AF_VSOCK`` leads out of a virtual
  machine);
- memory that belongs to no process, and so would not be counted: memfd, System V;
- access to the memory and descriptors of other processes;
- kernel features with a history of vulnerabilities that no model needs: bpf, io_uring, perf,
  userfaultfd.
"""

import ctypes
import os
import resource
import struct
import sys

MACHINES = {"x86_64": 0, "aarch64": 1}
_AUDIT_ARCH = (0xC000003E, 0xC00000B7)
# System call numbers on x86_64 and aarch64.
DENIED = {
    "unshare": (272, 97),
    "setns": (308, 268),
    "clone3": (435, 435),  # a filter can't see its flags; C libraries fall back to clone
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "msgget": (68, 186),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "pidfd_getfd": (438, 438),
    "bpf": (321, 280),
    "io_uring_setup": (425, 425),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
}
_CLONE = (56, 220)
_NEW_NAMESPACE = 0x7E020000  # the CLONE_NEW* flags
_SOCKET, _SOCKETPAIR = (41, 198), (53, 199)
FAMILIES = (1, 2, 10, 16)  # AF_UNIX, AF_INET, AF_INET6, AF_NETLINK: confined to the namespace

_OPEN_FILES = 4096


def is_supported() -> bool:
    """Whether there is a filter for this machine's architecture."""
    return os.uname().machine in MACHINES and sys.byteorder == "little"


def main() -> None:
    memory, processes, command = int(sys.argv[1]) << 20, int(sys.argv[2]), sys.argv[3:]
    _lower(resource.RLIMIT_AS, memory)
    _lower(resource.RLIMIT_FSIZE, memory)
    _lower(resource.RLIMIT_NOFILE, _OPEN_FILES)
    _lower(resource.RLIMIT_CORE, 0)
    if processes:
        _lower(resource.RLIMIT_NPROC, processes)
    if is_supported():
        _install_filter(MACHINES[os.uname().machine])
    if command:
        if os.getpid() == 1:
            _wait_for_child()
        os.execv(command[0], command)  # noqa: S606  # a list, no shell


def _wait_for_child() -> None:
    """Fork, and return in the child only. The first process of a sandbox ignores most signals, even
    its own, and must reap orphans, so it can't be the worker itself."""
    worker = os.fork()
    while worker:
        pid, status = os.wait()
        if pid == worker:
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else 128 - code)


def _lower(which: int, value: int) -> None:
    hard = resource.getrlimit(which)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(which, (value, value))


def _install_filter(machine: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    program = _program(machine)
    code = ctypes.create_string_buffer(program)
    # struct sock_fprog: number of instructions, padding, their address.
    argument = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(code))
    sock_fprog = ctypes.create_string_buffer(argument)
    # PR_SET_NO_NEW_PRIVS; PR_SET_SECCOMP with SECCOMP_MODE_FILTER.
    for call in ((38, 1, 0), (22, 2, ctypes.addressof(sock_fprog))):
        if libc.prctl(*map(ctypes.c_ulong, (*call, 0, 0))):
            raise OSError(ctypes.get_errno(), "the system call filter can't be set")


def _program(machine: int) -> bytes:
    """The filter in classic BPF, over ``struct seccomp_data``: system call number at offset 0,
    architecture at 4, first argument at 16."""
    load, equal, at_least, any_bit, give = 0x20, 0x15, 0x35, 0x45, 0x06
    allow, kill = 0x7FFF0000, 0x80000000
    no_such_call, no_such_family = 0x00050000 | 38, 0x00050000 | 97  # ENOSYS, EAFNOSUPPORT
    # (operation, instructions to skip if true, if false, operand)

    steps = [(load, 0, 0, 4), (equal, 1, 0, _AUDIT_ARCH[machine]), (give, 0, 0, kill)]
    steps += [(load, 0, 0, 0), (at_least, 0, 1, 0x40000000), (give, 0, 0, kill)]  # x32
    for numbers in DENIED.values():
        steps += [(equal, 0, 1, numbers[machine]), (give, 0, 0, no_such_call)]
    steps += [(equal, 0, 4, _CLONE[machine]), (load, 0, 0, 16), (any_bit, 0, 1, _NEW_NAMESPACE)]
    steps += [(give, 0, 0, no_such_call), (give, 0, 0, allow)]
    steps += [(equal, 1, 0, _SOCKET[machine]), (equal, 0, 6, _SOCKETPAIR[machine])]
    steps += [(load, 0, 0, 16)]
    steps += [(equal, 4 - k, 0, family) for k, family in enumerate(FAMILIES)]
    steps += [(give, 0, 0, no_such_family), (give, 0, 0, allow)]
    return b"".join(struct.pack("HBBI", *step) for step in steps)


if __name__ == "__main__":
    main()
