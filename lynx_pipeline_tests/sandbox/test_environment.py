"""A model's own environment, built by the real uv from handmade wheels."""

import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from lynx_pipeline.domain.candidate_eval import NONE
from lynx_pipeline.errors import BadInput, SystemFailed
from lynx_pipeline.sandbox import environment
from lynx_pipeline.sandbox.environment import own_environment
from lynx_pipeline.sandbox.isolation import Isolation
from lynx_pipeline_tests.support.wheels import bundle_with, use_only_wheels, wheel
from lynx_pipeline_tests.support.worker_scripts import ask_batches, isolation, write_script

pytestmark = pytest.mark.slow


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels, the only ones that uv finds."""
    use_only_wheels(monkeypatch, tmp_path / "wheels")
    return tmp_path / "wheels"


def evaluated(folder: Path, chosen: Isolation, probes: dict[str, str]) -> dict[str, str]:
    """The value of each probe, a Python expression that a worker evaluates."""
    first = "def probe(text):\n    try:\n        return repr(eval(text))\n"
    first += "    except BaseException as error:\n        return type(error).__name__\n"
    write_script(folder, first, each="answers = [probe(prompt) for prompt in prompts]")
    found = ask_batches(folder, prompts=list(probes.values()), chosen=chosen)
    answers = [str(text) for batch in found for text in batch.answers]
    return dict(zip(probes, answers, strict=True))


def test_a_model_runs_with_its_own_packages(scripted: Path, wheels: Path, tmp_path: Path) -> None:
    """The packages are compiled and read-only. Our packages and files are not visible."""
    wheel(wheels, "greeting", {"greeting.py": "WORD = 'hello'\n"})
    home = tmp_path / "home"
    made = own_environment(bundle_with(scripted, "Greeting>=1 # it greets"), home, isolation())
    (home / "secret").write_text("he went")
    probes = {
        "package": "__import__('greeting').WORD",
        "compiled": "os.path.exists(__import__('greeting').__cached__)",
        "ours": "__import__('dagster')",
        "prefix": "sys.prefix",
        "change": "open(sys.prefix + '/pyvenv.cfg', 'a')",
        "secret": f"os.listdir({str(home)!r})",
        "our environment": f"os.listdir({sys.prefix!r})",
    }
    found = evaluated(scripted, replace(isolation(), environment=made.folder), probes)
    assert (found["package"], found["compiled"]) == ("'hello'", "True")
    assert found["ours"] == "ModuleNotFoundError"
    if isolation().level != NONE:
        assert found["prefix"] == "'/opt/venv'"
        assert found["change"] == "OSError"
        assert found["secret"] == "FileNotFoundError"
        assert sys.prefix == sys.base_prefix or found["our environment"] == "FileNotFoundError"


def test_an_environment_works_without_isolation(
    scripted: Path, wheels: Path, tmp_path: Path
) -> None:
    """The candidate then has our permissions, but building still runs none of its code."""
    mark = tmp_path / "mark"
    files = {"greeting.py": "", "greeting.pth": f"import os; open({str(mark)!r}, 'w')\n"}
    wheel(wheels, "greeting", files)
    made = own_environment(bundle_with(scripted, "greeting"), tmp_path / "home", Isolation(NONE))
    assert not mark.exists()
    chosen = Isolation(NONE, environment=made.folder)
    found = evaluated(scripted, chosen, {"compiled": "__import__('greeting').__cached__"})
    assert Path(found["compiled"].strip("'")).is_relative_to(made.folder)
    assert mark.exists()


def test_an_environment_is_built_once(
    wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same requirements get the same environment without another build. Its SHA-256 in the
    evidence depends on the files that were installed."""
    wheel(wheels, "greeting", {"greeting.py": "WORD = 'hello'\n"})
    home, model = tmp_path / "home", bundle_with(tmp_path / "model", "greeting")
    steps: list[str] = []
    made = own_environment(model, home, isolation(), steps.append)
    assert [step.split()[0] for step in steps] == ["Building", "2", "Compiling", "The"]
    with monkeypatch.context() as patch:
        patch.setattr(environment, "_uv", lambda: pytest.fail("the environment exists already"))
        assert own_environment(model, home, isolation(), steps.append) == made
    assert len(steps) == 4, "nothing is said where nothing is built"
    assert {path.name for path in home.iterdir()} == {made.folder.name, f"{made.folder.name}.lock"}
    lock = (made.folder / "requirements.lock").read_text()
    assert "greeting==1.0" in lock
    assert "sha256:" in lock
    assert str(tmp_path) not in lock

    assert own_environment(model, tmp_path / "elsewhere", isolation()).sha256 == made.sha256
    wheel(wheels, "greeting", {"greeting.py": "WORD = 'good-bye'\n"})
    shutil.rmtree(tmp_path / "uv-cache")
    rebuilt = own_environment(model, tmp_path / "later", isolation())
    assert rebuilt.folder.name == made.folder.name
    assert rebuilt.sha256 != made.sha256

    # An environment whose interpreter is missing is built again.
    (made.folder / "bin/python").unlink()
    assert own_environment(model, home, isolation()).sha256 == rebuilt.sha256


# What uv 0.11 writes to standard error when no terminal reads it, then an error.
_UV = """
Using CPython 3.11.7 interpreter at: /usr/bin/python3
Resolved 2 packages in 450ms
Downloading scipy (33.7MiB)
Downloading numpy (16.1MiB)
 Downloaded numpy
error: Failed to download `scipy==1.17.1`
  Caused by: connection reset
"""


@pytest.mark.parametrize(("code", "error"), [(1, BadInput), (2, SystemFailed)])
def test_downloads_are_reported_with_their_sizes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, error: type[Exception]
) -> None:
    """An error contains what uv says about it, without its news."""
    uv = tmp_path / "uv"
    resolves = 'while [ "$1" != --output-file ]; do shift; done; touch "$2"; exit 0'
    installs = f"cat >&2 <<'END'{_UV}END\nexit {code}\n"
    uv.write_text(f'#!/bin/sh\n[ "$2" = compile ] && {{ {resolves}; }}\n{installs}')
    uv.chmod(0o755)
    monkeypatch.setattr(environment, "_uv", lambda: str(uv))
    steps: list[str] = []
    model = bundle_with(tmp_path / "model", "scipy")
    with pytest.raises(
        error, match=r"error: Failed to download `scipy==1\.17\.1` Caused by"
    ) as found:
        own_environment(model, tmp_path / "home", isolation(), steps.append)
    assert "numpy" not in str(found.value)
    assert steps[2:] == ["Downloading scipy (33.7MiB)", "Downloading numpy (16.1MiB)"]
    assert list((tmp_path / "home").glob("*.lock"))


def test_a_different_patch_release_of_python_is_accepted(wheels: Path, tmp_path: Path) -> None:
    """Only the minor version must equal the one that MLflow recorded."""
    model = bundle_with(tmp_path / "model")
    minor = f"{sys.version_info.major}.{sys.version_info.minor}"
    (model / "python_env.yaml").write_text(f"python: {minor}.99\n")
    assert own_environment(model, tmp_path / "home", isolation()).folder.is_dir()


def test_without_uv_the_error_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error also says how to do without uv."""
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(SystemFailed, match=r"uv is not installed.*pip install uv.*local"):
        own_environment(bundle_with(tmp_path / "model"), tmp_path / "home", isolation())


SDIST = "from setuptools import setup\nopen({!r}, 'w')\nsetup(name='source', version='1.0')\n"


def test_a_failed_build_names_the_package_and_leaves_nothing(
    wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The package does not exist, has source only or depends on a URL, or the index does not
    answer."""
    marker = tmp_path / "built"
    (tmp_path / "source-1.0").mkdir()
    (tmp_path / "source-1.0/setup.py").write_text(SDIST.format(str(marker)))
    (tmp_path / "source-1.0/PKG-INFO").write_text("Metadata-Version: 1.0\nName: source\n")
    shutil.make_archive(str(wheels / "source-1.0"), "gztar", tmp_path, "source-1.0")
    wheel(wheels, "elsewhere", requires=[f"greeting @ file://{tmp_path}/greeting.whl"])
    home = tmp_path / "home"
    for name, message in (
        ("nobody-has-this", "nobody-has-this was not found"),
        ("source", "wheels only, since a source distribution would run its code here\\): .*source"),
        ("elsewhere", "greeting.* was included as a URL dependency"),
    ):
        with pytest.raises(BadInput, match=f"environment can't be built.*{message}"):
            own_environment(bundle_with(tmp_path / "model", name), home, isolation())
    monkeypatch.delenv("UV_CONFIG_FILE")
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://somebody:secret@127.0.0.1:9/simple")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    with pytest.raises(SystemFailed, match=r"uv could not build.*127\.0\.0\.1") as caught:
        own_environment(bundle_with(tmp_path / "model", "far-away"), home, isolation())
    assert "secret" not in str(caught.value)
    assert not marker.exists()
    assert {path.suffix for path in home.iterdir()} == {".lock"}


HOSTILE = """import os, sys
try:
    open({mark!r}, "w").write("ran")
except OSError:
    pass
sys.ran = getattr(sys, "ran", 0) + 1
"""


def test_a_hostile_package_runs_only_in_the_sandbox(
    scripted: Path, wheels: Path, tmp_path: Path
) -> None:
    """No ``.pth`` file, ``sitecustomize``, script or link runs during installation or reuse, and no
    file outside the package's own folder is replaced."""
    mark = tmp_path / "mark"
    code = HOSTILE.format(mark=str(mark))
    files = {
        "hostile.pth": f"import sys; exec({code!r})\n",
        "sitecustomize.py": code,
        "usercustomize.py": code,
        "compileall.py": code,
        "hostile-1.0.data/data/pyvenv.cfg": "home = /nowhere\n",
        "hostile-1.0.data/data/bin/activate": "exit 1\n",
        "hostile-1.0.data/scripts/uv": f"#!/bin/sh\ntouch {mark}\n",
        "../../../../outside.py": code,
        "hostile-1.0.data/data/../../../../../outside.py": code,
    }
    wheel(wheels, "hostile", files, links={"hostile_link": "/etc"})
    home = tmp_path / "home"
    model = bundle_with(scripted, "hostile")
    for _ in range(2):
        made = own_environment(model, home, isolation())
        assert not mark.exists()
    packages = next((made.folder / "lib").glob("python*/site-packages"))
    assert (packages / "hostile.pth").is_file()  # otherwise nothing was tested
    assert not (packages / "hostile_link").is_symlink()
    assert list(tmp_path.rglob("outside.py")) == []
    assert (made.folder / "bin/python").resolve() == Path(sys.executable).resolve()
    assert "/nowhere" not in (made.folder / "pyvenv.cfg").read_text()
    if isolation().level != NONE:
        inside = replace(isolation(), environment=made.folder)
        assert int(evaluated(scripted, inside, {"ran": "sys.ran"})["ran"]) >= 2
        assert not mark.exists()

    wheel(wheels, "python", {"python-1.0.data/data/bin/python": f"#!/bin/sh\ntouch {mark}\n"})
    with pytest.raises(SystemFailed, match="must not use the reserved name"):
        own_environment(bundle_with(scripted, "python"), home, isolation())


def test_uv_gets_its_own_configuration_and_none_of_our_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the variables for indexes, proxies and certificates are passed on."""
    given = {
        "UV_INDEX_CORP_PASSWORD": "for uv",
        "HTTPS_PROXY": "http://proxy",
        "no_proxy": "localhost",
        "SSL_CERT_FILE": os.environ.get("SSL_CERT_FILE", "/certs"),
        "HOME": str(tmp_path),
    }
    secret = {
        "LYNX_HOME": "canary",
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "canary",
        "GITHUB_TOKEN": "canary",
        "AWS_SECRET_ACCESS_KEY": "canary",
        "MLFLOW_TRACKING_PASSWORD": "canary",
        "PYTHONPATH": "canary",
        "MY_UV_TOKEN": "canary",
        "UV_PUBLISH_TOKEN": "canary",
    }
    for name, value in {**given, **secret}.items():
        monkeypatch.setenv(name, value)
    uv = tmp_path / "uv"
    uv.write_text(f"#!/bin/sh\nenv > {tmp_path}/env; pwd > {tmp_path}/cwd; exit 1\n")
    uv.chmod(0o755)
    monkeypatch.setattr(environment, "_uv", lambda: str(uv))
    with pytest.raises(BadInput, match="can't be built"):
        own_environment(bundle_with(tmp_path / "model"), tmp_path / "home", isolation())
    seen = (tmp_path / "env").read_text()
    assert "canary" not in seen
    for name, value in given.items():
        assert f"{name}={value}\n" in seen
    assert str(tmp_path) not in (tmp_path / "cwd").read_text()


BUILDS = """
import sys
from pathlib import Path
from lynx_pipeline.sandbox import environment
from lynx_pipeline_tests.support.worker_scripts import isolation
model, home, uv = sys.argv[1:]
if uv:
    environment._uv = lambda: uv
print(environment.own_environment(Path(model), Path(home), isolation()).sha256)
"""


def test_a_killed_build_is_started_again(wheels: Path, tmp_path: Path) -> None:
    """The next process builds the environment, even if two start at once, and removes leftovers."""

    wheel(wheels, "greeting", {"greeting.py": "WORD = 'hello'\n"})
    home, model = tmp_path / "home", bundle_with(tmp_path / "model", "greeting")
    slow = tmp_path / "uv"
    slow.write_text(f'#!/bin/sh\n{environment._uv()} "$@"\n[ "$2" = compile ] || sleep 60\n')
    slow.chmod(0o755)

    def start(uv: Path | str = "") -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", BUILDS, str(model), str(home), str(uv)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)

    killed = start(slow)
    deadline = time.monotonic() + 60
    while not list(home.glob(".*/environment/lib/python*/site-packages/greeting.py")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(killed.pid, 9)
    killed.wait()
    left = {path for path in home.iterdir() if path.suffix != ".lock"}
    assert {path.name[0] for path in left} == {"."}
    two = [start(), start()]
    found = [process.communicate(timeout=60)[0] for process in two]
    os.killpg(killed.pid, 9)  # the shell that outlived it
    made = own_environment(model, home, isolation())
    assert found == [f"{made.sha256}\n"] * 2
    assert {path for path in home.iterdir() if path.suffix != ".lock"} == {made.folder}
