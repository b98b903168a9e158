"""Candidates that attack: each is stopped, its reason told, and nothing of it is left.

They stand in the worker's place and speak its protocol, since loading a model adds nothing to what
they try; ``test_hostile_models.py`` has models that MLflow loads. Each attack has a bound of its
own, so that the machine survives should a defence fail. Without isolation on this machine, what
only isolation can hold is not tried; that prod refuses is asserted instead.
"""

import os
import re
import socket
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from lynx_pipeline.domain.candidate_eval import NONE
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.errors import BadInput
from lynx_pipeline.sandbox.isolation import Isolation, choose_isolation
from lynx_pipeline.sandbox.workers import Local
from lynx_pipeline_tests.sandbox.hostile import CANARY, TIGHT, Scene, staged
from lynx_pipeline_tests.support.strangers import PROMPTS, ask, batches, isolation, speaks

QUICK = replace(TIGHT, batch_seconds=1, load_seconds=4)


@pytest.fixture
def scene(
    stranger: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> Scene:
    """With a script in the worker's place."""
    return staged(stranger, tmp_path, monkeypatch, caplog)


# ----- what it reads and reaches ------------------------------------------------------------

LOOK = """
import ctypes, glob, mmap, shutil, socket
libc = ctypes.CDLL(None)
WAY = {way!r}
def names(folder):
    return sorted(set(os.listdir(folder)) - set(WAY)) if os.path.isdir(folder) else []
def to(kind, style, address):
    with socket.socket(kind, style) as s:
        s.settimeout(2)
        s.connect(address)
        s.send(b'x')
def look(text):
    try:
        found = eval(text)
    except OSError:
        return 'refused'
    except BaseException as error:
        return repr(error)
    return 'refused' if found == -1 else repr(found)
"""


def test_it_reaches_nothing(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, isolated: bool
) -> None:
    """Files, processes, sockets and kernel objects that are really there, and hold a secret."""
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
    us, prefix = os.getpid(), sys.prefix
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
            # Ways out of what it is shown.
            "open('/etc/passwd').read()",
            "open('/proc/1/root/etc/passwd').read()",
            "open('/proc/self/cwd/../../etc/passwd').read()",
            "open('/proc/self/root/../../etc/passwd').read()",
            # Us, and whoever else is there.
            *(f"open('/proc/{us}/{what}', 'rb').read(1)" for what in ("environ", "mem", "cmdline")),
            f"os.kill({us}, 0)",
            f"os.killpg({os.getpgid(0)}, 0)",
            f"os.pidfd_open({us})",
            f"os.setpriority(os.PRIO_PROCESS, {us}, 0)",
            f"libc.ptrace(16, {us}, 0, 0)",
            "libc.ptrace(16, 1, 0, 0)",
            f"libc.process_vm_readv({us}, 0, 0, 0, 0, 0)",
            # Sockets.
            f"to(socket.AF_INET, socket.SOCK_STREAM, ('127.0.0.1', {port}))",
            f"to(socket.AF_INET, socket.SOCK_DGRAM, ('192.0.2.1', {udp_port}))",
            f"to(socket.AF_UNIX, socket.SOCK_STREAM, {str(Path('here.sock').absolute())!r})",
            f"to(socket.AF_UNIX, socket.SOCK_STREAM, chr(0) + {name!r})",
            f"to(socket.AF_UNIX, socket.SOCK_DGRAM, chr(0) + '{name}-datagrams')",
            "socket.socket(40, socket.SOCK_STREAM)",
            "socket.getaddrinfo('example.org', 80)",
            "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)",
            # Memory and keys that outlive or belong to no process.
            "os.memfd_create('x')",
            "libc.shmget(77, 4096, 0o1666)",
            "libc.msgget(77, 0o1666)",
            # More rights.
            "libc.unshare(0x10000000)",
            "libc.mount(b'none', b'/tmp', b'tmpfs', 0, None)",
            "libc.umount2(b'/tmp', 2)",
            "libc.setuid(0)",
            "os.chroot('/tmp')",
            "os.sethostname('x') if hasattr(os, 'sethostname') else libc.sethostname(b'x', 1)",
            "open('/proc/self/uid_map', 'w').write('0 0 1')",
            # Writing.
            "open('/bundle/MLmodel', 'a')",
            "os.remove('/bundle/MLmodel')",
            "os.chmod('/bundle/MLmodel', 0o777)",
            "os.utime('/bundle/MLmodel')",
            "os.symlink('/tmp', '/bundle/out')",
            "os.link('/bundle/MLmodel', '/bundle/x')",
            "os.rename('/bundle', '/tmp/bundle')",
            "open('/worker.py', 'a')",
            "open('/launcher.py', 'a')",
            "open(json.__file__, 'a')",
            f"open({prefix!r} + '/lib/x', 'w')",
            *(f"open('{place}/x', 'w')" for place in ("", "/usr", "/dev", "/dev/pts", "/proc")),
            *(f"os.mkdir('{place}/x')" for place in ("", "/usr", "/dev", "/proc")),
            "open('/proc/self/oom_score_adj', 'w').write('-1000')",
            "open('/proc/sys/kernel/core_pattern', 'w').write('|/tmp/x')",
            "open('/proc/sysrq-trigger', 'w').write('x')",
            "os.mknod('/tmp/disk', 0o60600, os.makedev(8, 0))",
        ]
        seen = {
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
        way = [*Path(sys.base_prefix).resolve().parts, *Path(prefix).parts]
        first = LOOK.replace("{way!r}", repr(way))
        speaks(scene.bundle, first, each="answers = [look(prompt) for prompt in prompts]")
        looks = [*refused, *seen, *everything]
        chosen = choose_isolation(Env.PROD, (repo, home), lambda _: None)
        found = dict(zip(looks, ask(scene.bundle, prompts=looks, chosen=chosen), strict=True))
        assert {look: found[look] for look in refused} == dict.fromkeys(refused, "refused")
        assert {look: found[look] for look in seen} == seen
        assert CANARY not in str(found) + scene.log.text
        for listener in listeners:
            listener.setblocking(False)
            with pytest.raises(BlockingIOError):
                listener.recv(1) if listener in (udp, datagrams) else listener.accept()
    Path("here.sock").unlink()
    scene.nothing_left()


# ----- what it uses -------------------------------------------------------------------------

MEMORY = """
import mmap, threading
def eat(mib):
    block = bytearray(mib << 20)
    for at in range(0, len(block), 4096):
        block[at] = 1
    return block
def shared(mib):
    block = mmap.mmap(-1, mib << 20)
    block.write(bytes(mib << 20))
    return block
def fill(place, mib):
    with open(place, 'wb') as file:
        for _ in range(mib):
            file.write(bytes(1 << 20))
def threads(count):
    threading.stack_size(65536)
    for _ in range(count):
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    time.sleep(60)
def many(count, work=lambda: None, before=lambda: None):
    for _ in range(count):
        if os.fork() == 0:
            before()
            kept = work()
            time.sleep(60)
            os._exit(0)
    time.sleep(60)
"""
IN_MEMORY = "more than 256 MiB of memory"
# Whoever is not root is stopped by the kernel.
IN_NUMBER = "more than 40 processes and threads|BlockingIOError|can't start new thread"


@pytest.mark.parametrize(
    ("where", "attack", "says"),
    [
        pytest.param("each", "eat(2000)", "MemoryError", id="in one process"),
        pytest.param("each", "many(9, lambda: eat(90))", IN_MEMORY, id="in many"),
        pytest.param("first", "many(9, lambda: eat(90))", IN_MEMORY, id="while loading"),
        pytest.param("last", "many(9, lambda: eat(90))", IN_MEMORY, id="at the end"),
        pytest.param("each", "many(9, lambda: shared(90))", IN_MEMORY, id="shared pages"),
        pytest.param(
            "each",
            "os.close(1); os.close(2); many(9, lambda: eat(90))",
            IN_MEMORY,
            id="in silence",
        ),
        pytest.param("each", "many(60)", IN_NUMBER, id="processes"),
        pytest.param("each", "many(500)", IN_NUMBER, id="processes without end"),
        pytest.param("each", "many(500, before=os.setsid)", IN_NUMBER, id="sessions"),
        pytest.param(
            "each",
            "many(500, before=lambda: os.fork() and os._exit(0))",
            IN_NUMBER,
            id="orphans",
        ),
        pytest.param(
            "each",
            "[os.fork() or os._exit(0) for _ in range(500)]; time.sleep(60)",
            IN_NUMBER,
            id="zombies",
        ),
        pytest.param("first", "many(500)", IN_NUMBER, id="processes while loading"),
        pytest.param("last", "many(500)", IN_NUMBER, id="processes at the end"),
        pytest.param(
            "each",
            "threads(60)",
            IN_NUMBER,
            id="threads",
        ),
    ],
)
@pytest.mark.parametrize("level", ["isolated", "none"])
def test_all_its_processes_are_limited(
    scene: Scene, where: str, attack: str, says: str, level: str
) -> None:
    """Whatever form it takes, and whenever it comes."""
    chosen = isolation() if level == "isolated" else Isolation(NONE)
    script = {"first": MEMORY, where: attack}
    if where == "first":
        script["first"] = f"{MEMORY}\n{attack}"
    assert re.search(says, scene.stopped(script, TIGHT, chosen))


@pytest.mark.parametrize(
    ("attack", "says"),
    [
        pytest.param("[fill(f'/tmp/{k}', 100) for k in range(9)]", "No space left", id="tmp"),
        pytest.param("[fill(f'/dev/shm/{k}', 100) for k in range(9)]", "No space left", id="shm"),
        pytest.param("fill('/tmp/1', 900)", "No space left", id="one file"),
        pytest.param(
            "fill('/tmp/1', 90); fill('/dev/shm/1', 90); kept = eat(90); time.sleep(60)",
            IN_MEMORY,
            id="here and there",
        ),
        pytest.param(
            "[open(f'/tmp/{k}', 'w').close() for k in range(300_000)]; time.sleep(60)",
            IN_MEMORY,
            id="empty files",
        ),
        pytest.param("os.memfd_create('x')", "not implemented", id="memfd"),
    ],
)
def test_files_in_memory_are_limited(scene: Scene, attack: str, says: str, isolated: bool) -> None:
    """What it may write to is memory, and counts as such."""
    if isolated:
        assert says in scene.stopped({"first": MEMORY, "each": attack})


def test_what_many_share_counts_once(scene: Scene) -> None:
    """A model in memory, and processes that read it: no more than there is."""
    first = MEMORY + "kept = eat(90)\nfor _ in range(9):\n    os.fork() or time.sleep(2)"
    speaks(scene.bundle, first + " or os._exit(0)", each="ids[0] or time.sleep(1)")
    assert len(ask(scene.bundle, TIGHT)) == len(PROMPTS)
    scene.nothing_left()


@pytest.mark.parametrize(
    ("script", "says"),
    [
        pytest.param({"each": "while True: os.write(1, b'x' * 65536)"}, "more output", id="a line"),
        pytest.param({"each": "while True: print(1)"}, "no JSON object", id="lines"),
        pytest.param({"each": "while True: os.write(2, b'x' * 65536)"}, "more output", id="noise"),
        pytest.param(
            {"first": "while True: os.write(2, b'x' * 65536)"}, "more output", id="loading"
        ),
        pytest.param(
            {"last": "os.fork() or [os.write(1, b'x' * 65536) for _ in range(9999)]"},
            "more output|ended well|more than it was asked",
            id="from a child that stays",
        ),
        pytest.param(
            {"each": "answers[0] = 'x' * (3 << 20)"}, "more output", id="an enormous answer"
        ),
    ],
)
def test_output_is_limited(scene: Scene, script: dict[str, str], says: str) -> None:
    """On either stream."""
    assert re.search(says, scene.stopped(script))


def test_what_is_said_ahead_of_time_does_not_pile_up(scene: Scene) -> None:
    """All answers before the first question, then a little more with each."""
    first = (
        "for k in range(0, 600, 5):\n"
        "    ids = list(range(k, k + 5))\n"
        "    ahead = {'ids': ids, 'predictions': ['x'] * 5, 'seconds': 0, 'peak_mib': 1}\n"
        "    later = (later if k else '') + json.dumps(ahead) + '\\n'"
    )
    each = "os.write(1, later.encode() + b'x' * 50_000); later = ''; continue"
    speaks(scene.bundle, first, each)
    prompts, answered = PROMPTS * 50, []
    with pytest.raises(BadInput, match="more output"):
        for batch in Local(scene.bundle, isolation(), TIGHT, 1).answer(batches(prompts, 5), 600):
            answered.append(batch)
            time.sleep(0.03)  # or all would be read before there is more
    assert len(answered) < 100
    scene.nothing_left()


def test_a_gigabyte_of_noise_costs_no_memory(scene: Scene) -> None:
    """Its end is kept for the message, and no more."""
    each = "[os.write(2, b'x' * (1 << 20)) for _ in range(1024)]"
    assert "more output" in scene.stopped({"each": each}, replace(TIGHT, output_mib=1000))


@pytest.mark.parametrize(
    ("script", "says"),
    [
        pytest.param({"first": "time.sleep(99)"}, "ran out of time during loading", id="loading"),
        pytest.param({"each": "time.sleep(99)"}, "ran out of time during the batch", id="batch"),
        pytest.param({"last": "time.sleep(99)"}, "did not end in time", id="end"),
        pytest.param(
            {"each": "os.kill(os.getpid(), signal.SIGSTOP)"}, "ran out of time", id="stops itself"
        ),
        pytest.param(
            {"each": "[signal.signal(k, signal.SIG_IGN) for k in (1, 2, 3, 15)]; time.sleep(99)"},
            "ran out of time",
            id="ignores signals",
        ),
        pytest.param(
            {"last": "os.close(1); os.close(2); time.sleep(99)"},
            "did not end in time|but runs on",
            id="goes silent",
        ),
        pytest.param(
            {"each": "os.fork() and time.sleep(99); os.setsid(); time.sleep(99)"},
            "ran out of time",
            id="with a session of its own",
        ),
    ],
)
def test_time_is_limited(scene: Scene, script: dict[str, str], says: str) -> None:
    """Asleep, stopped or deaf."""
    assert re.search(says, scene.stopped(script, QUICK))


DAEMON = """
def daemon():
    if os.fork() == 0:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if os.fork() == 0:
            os.chdir('/')
            for fd in range(3): os.close(fd)
            time.sleep(99)
        os._exit(0)
"""


@pytest.mark.parametrize("level", ["isolated", "none"])
@pytest.mark.parametrize("where", ["first", "each", "last"])
def test_nothing_lives_on_after_the_end(scene: Scene, level: str, where: str) -> None:
    """An evaluation that went well leaves no more than one that did not."""
    script = {"first": DAEMON, where: "daemon()"}
    if where == "first":
        script["first"] = f"{DAEMON}daemon()"
    chosen = isolation() if level == "isolated" else Isolation(NONE)
    found = ask(speaks(scene.bundle, **script), TIGHT, chosen=chosen)
    assert found == [prompt.removeprefix("Say ") for prompt in PROMPTS]
    scene.nothing_left()


@pytest.mark.parametrize(
    "attack",
    [
        pytest.param("os.kill(1, signal.SIGSTOP)", id="stop bubblewrap"),
        pytest.param("os.kill(1, signal.SIGKILL)", id="kill bubblewrap"),
        pytest.param("os.kill(os.getppid(), signal.SIGSTOP)", id="stop its parent"),
        # Only where there are no others: the number says whether this is a namespace.
        pytest.param("os.getpid() < 9 and os.kill(-1, signal.SIGKILL)", id="kill everybody"),
        pytest.param("libc.prctl(4, 0)", id="hide from being read"),
        pytest.param("libc.prctl(1, 0)", id="outlive its parent"),
    ],
)
def test_what_does_no_harm(scene: Scene, attack: str, isolated: bool) -> None:
    """It may go on, and is limited as before."""
    if not isolated:
        return
    first = f"{MEMORY}\nimport ctypes\nlibc = ctypes.CDLL(None)\ntry: {attack}\n"
    first += "except ProcessLookupError: pass"
    assert len(ask(speaks(scene.bundle, first), TIGHT)) == len(PROMPTS)
    scene.nothing_left()
    assert IN_MEMORY in scene.stopped({"first": first, "each": "many(9, lambda: eat(90))"})


# ----- what it says -------------------------------------------------------------------------


def test_quotes_and_brackets_in_texts_are_no_values(scene: Scene) -> None:
    """However many there are, and whatever stands before them."""
    odd = ["[" * 99_999, '"' * 9999, '\\"' * 9999, "\\", '{"a": [' * 9999, ""]
    assert ask(speaks(scene.bundle), TIGHT, ["Say " + text for text in odd]) == odd


FORGED = (
    "{'canonical_sha': '5' * 64, 'n': 12, 'correct': 12, 'accuracy': 1.0, "
    "'buckets': {'half.a': {'n': 6, 'correct': 6, 'accuracy': 1.0}}}"
)


@pytest.mark.parametrize(
    ("script", "says"),
    [
        pytest.param({"each": f"say(**{FORGED})"}, "no list of", id="a report"),
        pytest.param({"first": f"say(**{FORGED})"}, "ready = None", id="a report at once"),
        pytest.param(
            {"first": "say(ready=1, ids=[0], predictions=['x'])"}, "no list of", id="two hellos"
        ),
        pytest.param(
            {"each": "say(ids=ids, predictions=answers, seconds=0, peak_mib=1)"},
            "other ids",
            id="twice",
        ),
        pytest.param({"each": "ids = [k + 5 for k in ids]"}, "other ids", id="ahead"),
        pytest.param({"last": "say(ids=[12], predictions=['x'])"}, "more than it", id="afterwards"),
        pytest.param({"last": "os.write(1, b' ')"}, "more than it", id="a blank afterwards"),
        pytest.param({"each": "ids = [[], {}, 1, 2, 3]"}, "other ids", id="odd ids"),
        pytest.param({"each": "answers[0] = {'text': 'x'}"}, "answered dict", id="an object"),
        pytest.param({"each": "answers[0] = float('nan')"}, "answered float", id="NaN"),
        pytest.param({"each": "answers[0] = 10 ** 999"}, "answered int", id="a long number"),
        pytest.param({"each": "seconds = 1e999"}, "seconds = inf", id="endless seconds"),
        pytest.param({"each": "peak = -1"}, "peak_mib = -1", id="negative memory"),
        pytest.param({"each": "answers *= 999"}, "far more than", id="many answers"),
        pytest.param({"each": "answers[0] = [{}] * 99_999"}, "far more than", id="many objects"),
        pytest.param({"each": "ids = [0.5] * 99_999"}, "far more than", id="many numbers"),
        pytest.param({"each": "seconds = {k: '' for k in range(999)}"}, "far more", id="many keys"),
        pytest.param({"each": "os.write(1, b'\\0' * 9 + b'\\n')"}, "no JSON", id="zeros"),
    ],
)
def test_forged_words_are_refused(scene: Scene, script: dict[str, str], says: str) -> None:
    """No report of its own, no answer that was not asked for."""
    assert says in scene.stopped(script)
