"""What a candidate can see and reach. Where bubblewrap does not work, the tests assert the fallback
instead."""

import json
import shutil
import socket
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import pytest

from lynx_pipeline.config import Limits
from lynx_pipeline.domain.candidate_eval import BUBBLEWRAP, NONE
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.errors import Refused
from lynx_pipeline.sandbox import isolation as isolation_module
from lynx_pipeline.sandbox.inside import launcher, worker
from lynx_pipeline.sandbox.isolation import Isolation, choose_isolation
from lynx_pipeline_tests.support.worker_scripts import ask_batches, isolation, write_script


def test_isolation_is_used_wherever_bubblewrap_works() -> None:
    """Otherwise the other tests would pass without testing anything."""
    path = shutil.which("bwrap")
    probe = [str(path), "--unshare-all", "--ro-bind", "/", "/", "true"]
    works = path is not None and subprocess.run(probe, check=False).returncode == 0
    assert isolation().level == (BUBBLEWRAP if works else NONE)


def evaluated(folder: Path, probes: dict[str, str], chosen: Isolation) -> dict[str, str | None]:
    """The value of each probe, a Python expression that is evaluated in the sandbox."""
    found = ask_batches(folder, prompts=list(probes.values()), chosen=chosen)
    answers = [text for batch in found for text in batch.answers]
    return dict(zip(probes, answers, strict=True))


def test_a_candidate_sees_only_prompts_and_its_bundle(
    scripted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The eval set, the repository, variables, sockets and processes are hidden, and no folder is
    writable."""
    secret = tmp_path / "eval.jsonl"
    secret.write_text("he went")
    repo = Path(worker.__spec__.origin or "").parents[3]
    monkeypatch.setenv("LYNX_SECRET", "he went")
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        # A folder that must be hidden, below the interpreter's, which must be visible.
        tempfile.TemporaryDirectory(dir=sys.prefix) as hidden,
    ):
        (Path(hidden) / "eval.jsonl").write_text("he went")
        port = server.getsockname()[1]
        probes = {
            "eval set": f"open({str(secret)!r}).read()",
            "repository": f"os.listdir({str(repo)!r})",
            "hidden": f"os.listdir({hidden!r})",
            "environment": "dict(os.environ)",
            "parent": "open(f'/proc/{os.getppid()}/environ').read()",
            "network": f"socket.create_connection(('127.0.0.1', {port}), 2)",
            "unix": "[l for l in open('/proc/net/unix').read().split(chr(10))[1:] if l]",
            "processes": "[p for p in os.listdir('/proc') if p.isdigit()]",
            "tmp": "os.listdir('/tmp')",
            "etc": "os.listdir('/etc')",
            "home": "os.listdir('/root') + os.listdir('/home')",
            "bundle": "open(os.path.join(sys.argv[1], 'MLmodel'), 'a')",
            "usr": "open('/usr/lynx', 'w')",
            "venv": f"open({str(Path(sys.prefix) / 'lib/lynx')!r}, 'w')",
            "mount": "ctypes.CDLL(None).mount(b'none', b'/mnt', b'tmpfs', 0, None)",
            "uid": "os.uname().nodename",
        }
        first = (
            "import ctypes, socket\ndef probe(text):\n    try:\n        return repr(eval(text))\n"
        )
        first += "    except BaseException as error:\n        return type(error).__name__\n"
        write_script(scripted, first, each="answers = [probe(prompt) for prompt in prompts]")
        chosen = choose_isolation(Env.DEV, [Path(hidden)], lambda _: None)
        found = evaluated(scripted, probes, chosen)
        server.setblocking(False)
        if chosen.level == NONE:
            assert "he went" in str(found["eval set"])  # which is why prod refuses
            with pytest.raises(Refused):
                choose_isolation(Env.PROD, (), lambda _: None)
            return
        with pytest.raises(BlockingIOError):
            server.accept()
    assert not any("he went" in str(text) for text in found.values())
    assert found["eval set"] == "FileNotFoundError"
    # A virtual environment inside the checkout is visible, but nothing beside it.
    inside = Path(sys.prefix).is_relative_to(repo)
    assert found["repository"] == (repr([Path(sys.prefix).name]) if inside else "FileNotFoundError")
    assert found["hidden"] == "[]"
    environment = set(json.loads(str(found["environment"]).replace("'", '"')))
    assert environment <= {"HOME", "PATH", "LANG", "LC_CTYPE", "LOGNAME", "PWD"}
    assert "SECRET" not in str(found["parent"])
    assert found["network"] == "ConnectionRefusedError"
    assert found["unix"] == "[]"
    assert len(str(found["processes"]).split(",")) <= 3
    # The interpreter may be below /tmp; nothing else in /tmp is visible.
    assert str(found["tmp"]) in ("[]", repr([Path(sys.prefix).parts[2]]))
    assert found["etc"] == "['ld.so.cache']"
    assert found["home"] == "FileNotFoundError"
    for place in ("bundle", "usr", "venv"):
        assert found[place] == "OSError", place  # a read-only file system
    assert found["mount"] == "-1"
    assert found["uid"] == "'localhost'"


@pytest.fixture
def no_bwrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder on the PATH, without bubblewrap."""
    path = tmp_path / "bin"
    path.mkdir()
    monkeypatch.setenv("PATH", str(path))
    return path


@pytest.mark.parametrize("state", ["missing", "broken", "not executable"])
def test_without_isolation_prod_refuses_and_dev_warns(no_bwrap: Path, state: str) -> None:
    """Whether bubblewrap works is tested by running it."""
    if state != "missing":
        (no_bwrap / "bwrap").write_text("#!/bin/sh\necho no user namespaces >&2\nexit 1\n")
    if state == "broken":
        (no_bwrap / "bwrap").chmod(0o755)
    reason = "no user namespaces" if state == "broken" else "bwrap is not installed"
    warnings: list[str] = []
    with pytest.raises(Refused, match=reason):
        choose_isolation(Env.PROD, (), warnings.append)
    assert warnings == []
    chosen = choose_isolation(Env.DEV, (), warnings.append)
    assert chosen.level == NONE
    assert len(warnings) == 1
    assert warnings[0].startswith("NO ISOLATION")
    assert reason in warnings[0]


@pytest.mark.parametrize(
    ("name", "value", "remedies"),
    [
        (
            "kernel/apparmor_restrict_unprivileged_userns",
            "1",
            [
                "sudo tee /etc/apparmor.d/bwrap && sudo apparmor_parser -r /etc/apparmor.d/bwrap",
                "profile bwrap /usr/bin/bwrap flags=(unconfined) { userns, }",
                "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
            ],
        ),
        (
            "kernel/unprivileged_userns_clone",
            "0",
            ["sudo sysctl -w kernel.unprivileged_userns_clone=1"],
        ),
        ("user/max_user_namespaces", "0", ["sudo sysctl -w user.max_user_namespaces=10000"]),
        ("user/max_user_namespaces", "9", ["bubblewrap 0.7 or newer"]),
    ],
)
def test_the_error_says_how_to_allow_user_namespaces(
    no_bwrap: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: str,
    remedies: list[str],
) -> None:
    """The error names the setting that forbids them, and commands to paste."""
    test_without_isolation_prod_refuses_and_dev_warns(no_bwrap, "broken")
    monkeypatch.setattr(isolation_module, "_SETTINGS", tmp_path / "sys")
    file = tmp_path / "sys" / name
    file.parent.mkdir(parents=True)
    file.write_text(f"{value}\n")
    with pytest.raises(Refused) as caught:
        choose_isolation(Env.PROD, (), lambda _: None)
    for remedy in remedies:
        assert remedy in str(caught.value)
    assert (name.replace("/", ".") in str(caught.value)) == (value != "9")


def test_a_bwrap_that_cannot_forbid_namespaces_is_accepted(
    no_bwrap: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system call filter forbids them anyway."""
    if isolation().level == NONE:
        return
    monkeypatch.undo()
    real = shutil.which("bwrap")
    (no_bwrap / "bwrap").write_text(
        '#!/bin/sh\ncase "$*" in *--disable-userns*) exit 1;; esac\n' + f'exec {real} "$@"\n'
    )
    (no_bwrap / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", f"{no_bwrap}:/usr/bin:/bin")
    chosen = choose_isolation(Env.PROD, (), lambda _: None)
    assert (chosen.level, chosen.extra_options) == (BUBBLEWRAP, ())


def test_a_machine_without_a_filter_has_no_isolation(monkeypatch: pytest.MonkeyPatch) -> None:
    """The filter needs the system call numbers of the machine's architecture."""
    monkeypatch.setattr(launcher, "MACHINES", {})
    with pytest.raises(Refused, match=r"no system call filter for|bwrap is not installed"):
        choose_isolation(Env.PROD, (), lambda _: None)


@pytest.mark.parametrize("linked", [False, True])
def test_a_project_that_is_also_the_virtual_environment_stays_hidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, linked: bool
) -> None:
    """Only the parts of an environment are mounted again, without hidden folders inside them."""
    if isolation().level == NONE:
        return
    project = tmp_path / "project"
    inner = project / "lib/state"
    inner.mkdir(parents=True)
    for file in (project / "eval.jsonl", project / "pip.conf", inner / "secret"):
        file.write_text("he went")
    (project / "lib/code.py").write_text("code")
    if linked:
        (tmp_path / "link").symlink_to(project)
    seen = tmp_path / "link" if linked else project
    python = sys.executable
    monkeypatch.setattr(sys, "prefix", str(seen))
    monkeypatch.setattr(sys, "executable", str(Path(python).resolve()))
    chosen = choose_isolation(Env.PROD, [inner, project], lambda _: None)
    listing = f"import os; print([(p, f) for p, _, f in os.walk({str(seen)!r}) if f])"
    command = [*chosen.jail({}, Limits()), sys.executable, "-I", "-S", "-c", listing]
    done = subprocess.run(command, capture_output=True, text=True, env={}, check=True)

    assert done.stdout.strip() == f"[({str(seen / 'lib')!r}, ['code.py'])]"


@pytest.mark.slow  # needs bubblewrap, as no quick test does
def test_the_installed_package_is_hidden(tmp_path: Path) -> None:
    """It is a part of the interpreter's folder, unless it is installed in editable mode. It does
    not show through the link lib64 either."""
    venv.create(tmp_path / "venv", symlinks=True)
    (packages,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    shutil.copytree(Path(launcher.__file__).parents[2], packages / "lynx_pipeline")
    assert (tmp_path / "venv/lib64").is_symlink()
    linked = Path(str(packages).replace("/venv/lib/", "/venv/lib64/"))
    script = (
        f"import subprocess, sys; sys.path += {sys.path[1:]!r}\n"
        "from lynx_pipeline.config import Limits\n"
        "from lynx_pipeline.domain.versioning import Env\n"
        "from lynx_pipeline.sandbox.isolation import choose_isolation\n"
        "jail = choose_isolation(Env.PROD, [], print).jail({}, Limits())\n"
        "for where in sys.argv[1:]:\n"
        "    look = f'import os; print(os.listdir({where!r}))'\n"
        "    subprocess.run([*jail, sys.executable, '-I', '-c', look], check=True, env={})\n"
    )
    seen = [packages, packages / "lynx_pipeline", linked, linked / "lynx_pipeline"]
    done = subprocess.run(
        [tmp_path / "venv/bin/python", "-I", "-c", script, *seen],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == ["['lynx_pipeline']", "[]"] * 2


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("exit 7", 7),
        ("kill -9 $$", 128 + 9),
        ("kill -10 $$", 128 + 10),  # not SIGTERM, which pytest's workers ignore
        ("(exit 0 &); sleep 0.3; grep -q '^State:.Z' /proc/[0-9]*/status", 1),  # found none
        ("sleep 60 & exit 5", 5),
    ],
    ids=["exit code", "SIGKILL", "SIGUSR1", "an orphan that ended", "a child that runs on"],
)
def test_the_first_process_reaps_and_reports(script: str, code: int) -> None:
    """A command in the sandbox gets its signals, leaves no zombies, and its end is everything's."""
    chosen = isolation()
    if chosen.level == NONE:
        return
    command = [*chosen.jail({}, Limits()), "/bin/sh", "-c", script]
    assert subprocess.run(command, env={}, timeout=20, check=False).returncode == code
