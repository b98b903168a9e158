"""What an attacking candidate can read and reach: see ``test_hostile.py``."""

import os
import socket
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.sandbox.isolation import choose_isolation
from lynx_pipeline_tests.sandbox.hostile import CANARY, Scene
from lynx_pipeline_tests.support.worker_scripts import (
    ask,
    write_script,
)

PROBE = """
import ctypes, glob, mmap, shutil, socket
libc = ctypes.CDLL(None)
INTERPRETER = {interpreter!r}
def names(folder):
    return sorted(set(os.listdir(folder)) - set(INTERPRETER)) if os.path.isdir(folder) else []
def to(kind, style, address):
    with socket.socket(kind, style) as s:
        s.settimeout(2)
        s.connect(address)
        s.send(b'x')
def probe(text):
    try:
        found = eval(text)
    except OSError:
        return 'refused'
    except BaseException as error:
        return repr(error)
    return 'refused' if found == -1 else repr(found)
"""


def test_a_candidate_reaches_nothing_outside_the_sandbox(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, isolated: bool
) -> None:
    """The files, processes, sockets and kernel objects really exist, and contain a secret."""
    if not isolated:
        return
    repo, home = tmp_path / "repo", tmp_path / "home"
    secrets = [
        repo / "data/eval.jsonl",
        repo / "data/eval.jsonl.dvc",
        repo / ".dvc/config",
        repo / ".git/config",
        home / "candidates/other/bundle/MLmodel",
        home / "registry/index.jsonl",
    ]
    for file in secrets:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(CANARY)
    shared = Path(f"/dev/shm/lynx-canary-{os.getpid()}")
    name = f"lynx-{os.getpid()}"
    our_pid, prefix = os.getpid(), sys.prefix
    with ExitStack() as stack:
        stack.callback(shared.unlink)
        shared.write_text(CANARY)
        tcp = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        udp.bind(("127.0.0.1", 0))
        path = stack.enter_context(socket.socket(socket.AF_UNIX))
        path.bind("here.sock")
        abstract = stack.enter_context(socket.socket(socket.AF_UNIX))
        abstract.bind(f"\0{name}")
        datagrams = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        datagrams.bind(f"\0{name}-datagrams")
        path.listen()
        abstract.listen()
        listeners = (tcp, udp, path, abstract, datagrams)
        port, udp_port = tcp.getsockname()[1], udp.getsockname()[1]
        refused = [
            *(f"open({str(file)!r}).read()" for file in (*secrets, shared)),
            *(f"os.listdir({str(folder)!r})" for folder in (repo, home, Path.cwd())),
            # Ways out of the sandbox's file system.
            "open('/etc/passwd').read()",
            "open('/proc/1/root/etc/passwd').read()",
            "open('/proc/self/cwd/../../etc/passwd').read()",
            "open('/proc/self/root/../../etc/passwd').read()",
            # Our process and others.
            *(
                f"open('/proc/{our_pid}/{name}', 'rb').read(1)"
                for name in ("environ", "mem", "cmdline")
            ),
            f"os.kill({our_pid}, 0)",
            f"os.killpg({os.getpgid(0)}, 0)",
            f"os.pidfd_open({our_pid})",
            f"os.setpriority(os.PRIO_PROCESS, {our_pid}, 0)",
            f"libc.ptrace(16, {our_pid}, 0, 0)",
            "libc.ptrace(16, 1, 0, 0)",
            f"libc.process_vm_readv({our_pid}, 0, 0, 0, 0, 0)",
            # Sockets.
            f"to(socket.AF_INET, socket.SOCK_STREAM, ('127.0.0.1', {port}))",
            f"to(socket.AF_INET, socket.SOCK_DGRAM, ('192.0.2.1', {udp_port}))",
            f"to(socket.AF_UNIX, socket.SOCK_STREAM, {str(Path('here.sock').absolute())!r})",
            f"to(socket.AF_UNIX, socket.SOCK_STREAM, chr(0) + {name!r})",
            f"to(socket.AF_UNIX, socket.SOCK_DGRAM, chr(0) + '{name}-datagrams')",
            "socket.socket(40, socket.SOCK_STREAM)",
            "socket.getaddrinfo('example.org', 80)",
            "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)",
            # Kernel objects that outlive a process or belong to none.
            "os.memfd_create('x')",
            "libc.shmget(77, 4096, 0o1666)",
            "libc.msgget(77, 0o1666)",
            # More privileges.
            "libc.unshare(0x10000000)",
            "libc.mount(b'none', b'/tmp', b'tmpfs', 0, None)",
            "libc.umount2(b'/tmp', 2)",
            "libc.setuid(0)",
            "os.chroot('/tmp')",
            "os.sethostname('x') if hasattr(os, 'sethostname') else libc.sethostname(b'x', 1)",
            "open('/proc/self/uid_map', 'w').write('0 0 1')",
            # Writing.
            "open('/opt/ml/model/MLmodel', 'a')",
            "os.remove('/opt/ml/model/MLmodel')",
            "os.chmod('/opt/ml/model/MLmodel', 0o777)",
            "os.utime('/opt/ml/model/MLmodel')",
            "os.symlink('/tmp', '/opt/ml/model/out')",
            "os.link('/opt/ml/model/MLmodel', '/opt/ml/model/x')",
            "os.rename('/opt/ml/model', '/tmp/bundle')",
            "open('/worker.py', 'w')",
            "open('/opt/ml/x', 'w')",
            "open(json.__file__, 'a')",
            f"open({prefix!r} + '/lib/x', 'w')",
            *(f"open('{place}/x', 'w')" for place in ("", "/usr", "/dev", "/dev/pts", "/proc")),
            *(f"os.mkdir('{place}/x')" for place in ("", "/usr", "/dev", "/proc")),
            "open('/proc/self/oom_score_adj', 'w').write('-1000')",
            "open('/proc/sys/kernel/core_pattern', 'w').write('|/tmp/x')",
            "open('/proc/sysrq-trigger', 'w').write('x')",
            "os.mknod('/tmp/disk', 0o60600, os.makedev(8, 0))",
        ]
        visible = {
            **{f"names({folder!r})": "[]" for folder in ("/root", "/home", "/run", "/var", "/sys")},
            "names('/etc')": "['ld.so.cache']",
            "names('/tmp')": "[]",
            "sorted(os.listdir('/proc/self/fd'))": "['0', '1', '2', '3']",
            "os.getuid(), os.getgid()": "(65534, 65534)",
            "[l[7:].strip() for l in open('/proc/self/status') if l[:6] in ('CapBnd', 'CapEff')]": (
                f"{['0' * 16] * 2}"
            ),
            "len(glob.glob('/proc/[0-9]*')) <= 2": "True",
            "[l for l in open('/proc/net/unix')][1:]": "[]",
            "[i for _, i in socket.if_nameindex()]": "['lo']",
        }
        everything = [
            "[open(f, 'rb').read() for f in glob.glob('/proc/[0-9]*/environ')]",
            "[open(f, 'rb').read() for f in glob.glob('/proc/[0-9]*/cmdline')]",
            "open('/proc/keys').read() if os.path.exists('/proc/keys') else ''",
        ]
        interpreter = [*Path(sys.base_prefix).resolve().parts, *Path(prefix).parts]
        first = PROBE.replace("{interpreter!r}", repr(interpreter))
        write_script(scene.bundle, first, each="answers = [probe(prompt) for prompt in prompts]")
        probes = [*refused, *visible, *everything]
        chosen = choose_isolation(Env.PROD, (repo, home), lambda _: None)
        found = dict(zip(probes, ask(scene.bundle, prompts=probes, chosen=chosen), strict=True))
        assert {probe: found[probe] for probe in refused} == dict.fromkeys(refused, "refused")
        assert {probe: found[probe] for probe in visible} == visible
        assert CANARY not in str(found) + scene.log.text
        for listener in listeners:
            listener.setblocking(False)
            with pytest.raises(BlockingIOError):
                listener.recv(1) if listener in (udp, datagrams) else listener.accept()
    Path("here.sock").unlink()
    scene.assert_nothing_left()
