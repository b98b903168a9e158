"""Versioned data with a real DVC repository and a real remote folder."""

import re
import shutil
import sys
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path

import pytest

from lynx_pipeline.adapters.dvc_data import digest, hand_on, read_versioned, track
from lynx_pipeline.adapters.dvc_versions import read_object, read_version
from lynx_pipeline.errors import BadInput, SystemFailed
from lynx_pipeline_tests.support import DVC_2
from lynx_pipeline_tests.support.builders import md5, sha256
from lynx_pipeline_tests.support.http_server import Answer, serving
from lynx_pipeline_tests.support.places import git

pytestmark = pytest.mark.slow

RAW = b'{"id": "1"}\n{"id": "2"}\n'


def dvc(root: Path, *arguments: str) -> None:
    """Run DVC's own command line in ``root``, in this process: importing DVC takes seconds."""
    from dvc.cli import main

    with chdir(root):
        assert main(list(arguments)) == 0, arguments


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with one data file, which is in the cache and in the remote."""
    root = tmp_path_factory.mktemp("dvc") / "root"
    root.mkdir()
    dvc(root, "init", "--no-scm")
    dvc(root, "config", "core.analytics", "false")
    dvc(root, "remote", "add", "-d", "here", "remote")
    (root / "eval.jsonl").write_bytes(RAW)
    track(root / "eval.jsonl", None)
    return root


@pytest.fixture
def root(template: Path, tmp_path: Path) -> Path:
    """A copy of the template that a test may damage."""
    shutil.copytree(template, tmp_path / "root", symlinks=True)
    return tmp_path / "root"


@pytest.mark.slow
def test_tracking_adds_and_pushes_the_file(root: Path) -> None:
    """Tracking writes the ``.dvc`` file and pushes the bytes to the remote."""
    assert (root / "eval.jsonl.dvc").exists()
    (pushed,) = (path for path in (root / "remote").rglob("*") if path.is_file())
    assert pushed.read_bytes() == RAW


def test_an_existing_file_is_read_without_dvc(root: Path) -> None:
    """The result has its MD5, as in the ``.dvc`` file, and its SHA-256."""
    shutil.rmtree(root / ".dvc")
    data = read_versioned(root / "eval.jsonl")
    assert (data.raw, data.dvc_hash, data.sha256) == (RAW, md5(RAW), sha256(RAW))


def test_a_missing_file_is_pulled(root: Path) -> None:
    """The remote has the file, as in a fresh clone."""
    (root / "eval.jsonl").unlink()
    shutil.rmtree(root / ".dvc" / "cache")
    assert read_versioned(root / "eval.jsonl").raw == RAW
    assert (root / "eval.jsonl").read_bytes() == RAW


@pytest.mark.parametrize("mode", [0o644, 0o444], ids=["writable", "read-only"])
def test_one_changed_byte_is_refused(root: Path, mode: int) -> None:
    """Even in a read-only file, which DVC trusts without reading it."""
    file = root / "eval.jsonl"
    file.unlink()
    file.write_bytes(RAW.replace(b"2", b"3"))
    file.chmod(mode)
    with pytest.raises(BadInput, match=r"the file was changed: .*dvc checkout"):
        read_versioned(file)
    file.chmod(0o644)


def test_a_damaged_cache_is_refused(root: Path) -> None:
    """DVC links a read-only cache file without reading it; we hash the bytes."""
    (cached,) = (path for path in (root / ".dvc/cache/files").rglob("*") if path.is_file())
    cached.chmod(0o644)
    cached.write_bytes(RAW.replace(b"2", b"3"))
    cached.chmod(0o444)
    (root / "eval.jsonl").unlink()
    with pytest.raises(BadInput, match=r"damaged: remove .dvc/cache"):
        read_versioned(root / "eval.jsonl")


def test_damaged_data_in_the_remote_is_refused(root: Path) -> None:
    """Either DVC or our own check finds the damage."""
    (pushed,) = (path for path in (root / "remote").rglob("*") if path.is_file())
    pushed.chmod(0o644)
    pushed.write_bytes(RAW.replace(b"2", b"3"))
    (root / "eval.jsonl").unlink()
    shutil.rmtree(root / ".dvc" / "cache")
    with pytest.raises((BadInput, SystemFailed)):
        read_versioned(root / "eval.jsonl")


GOOD = f"outs:\n- md5: {md5(RAW)}\n  path: eval.jsonl\n"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("outs: [", id="not YAML"),
        pytest.param("\x00", id="not text"),
        pytest.param("x: !!timestamp y", id="odd YAML"),
        pytest.param("[1]", id="a list"),
        pytest.param("outs: []", id="no output"),
        pytest.param("outs:\n- path: eval.jsonl\n", id="no md5"),
        pytest.param(GOOD + f"- md5: {md5(b'')}\n  path: other\n", id="two outputs"),
        pytest.param(GOOD.replace("eval.jsonl", "other.jsonl"), id="different file"),
        pytest.param(GOOD.replace("eval.jsonl", "../eval.jsonl"), id="path outside the folder"),
        pytest.param(GOOD.replace(md5(RAW), md5(RAW)[:-1]), id="31 digits"),
        pytest.param(GOOD.replace(md5(RAW), md5(RAW).upper()), id="upper case"),
        pytest.param(GOOD.replace(md5(RAW), md5(RAW) + ".dir"), id="a folder"),
        pytest.param(GOOD.replace(md5(RAW), "null"), id="null"),
        pytest.param("<<<<<<< HEAD\n" + GOOD, id="merge conflict"),
    ],
)
def test_a_damaged_dvc_file_is_refused(root: Path, text: str) -> None:
    """The message names the ``.dvc`` file, even though the data beside it is intact."""
    (root / "eval.jsonl.dvc").write_text(text)
    with pytest.raises(BadInput, match=r"eval\.jsonl\.dvc: expected"):
        read_versioned(root / "eval.jsonl")


def test_data_that_is_not_under_dvc_is_refused(root: Path) -> None:
    """Without a ``.dvc`` file the version of the data is unknown."""
    (root / "eval.jsonl.dvc").unlink()
    with pytest.raises(BadInput, match=r"not under DVC.*eval\.jsonl\.dvc"):
        read_versioned(root / "eval.jsonl")


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda root: shutil.rmtree(root / "remote"), id="missing remote"),
        pytest.param(lambda root: (root / ".dvc/config").write_text(""), id="no remote configured"),
        pytest.param(lambda root: (root / ".dvc/config").write_text("["), id="invalid config"),
        pytest.param(lambda root: shutil.rmtree(root / ".dvc"), id="no repository"),
    ],
)
def test_a_failed_pull_is_a_system_failure(root: Path, damage: Callable[[Path], object]) -> None:
    """The message is one line and quotes DVC."""
    (root / "eval.jsonl").unlink()
    shutil.rmtree(root / ".dvc" / "cache")
    damage(root)
    with pytest.raises(SystemFailed, match="DVC could not pull it") as caught:
        read_versioned(root / "eval.jsonl")
    assert "\n" not in str(caught.value)


def test_a_broken_link_into_the_cache_is_a_system_failure(root: Path) -> None:
    """The project links its files, and the remote does not deliver."""
    file = root / "eval.jsonl"
    file.unlink()
    file.symlink_to(root / ".dvc/cache/files/md5" / md5(RAW)[:2] / md5(RAW)[2:])
    shutil.rmtree(root / ".dvc/cache")
    shutil.rmtree(root / "remote")
    with pytest.raises(SystemFailed, match=r"not pull it from the remote .*: its folder does not"):
        read_versioned(file)


@pytest.mark.parametrize(
    ("url", "package", "extra"),
    [
        ("gs://bucket/x", "dvc-gs", "gs"),
        ("azure://container/x", "dvc-azure", "azure"),
        ("ssh://host/x", "dvc-ssh", "ssh"),
        ("webdavs://host/x", "dvc-webdav", None),
        ("oss://bucket/x", "dvc-oss", None),
    ],
)
def test_a_storage_without_its_package_is_a_system_failure(
    root: Path,
    url: str,
    package: str,
    extra: str | None,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The message says what to install, and DVC prints nothing itself."""
    monkeypatch.setitem(sys.modules, package.replace("-", "_"), None)  # it may be installed
    dvc(root, "remote", "modify", "here", "url", url)
    (root / "eval.jsonl").unlink()
    shutil.rmtree(root / ".dvc/cache")
    install = f"Install the extra '{extra}'" if extra else f"pip install {package}"
    for look_up in (read_versioned, lambda path: read_object(path, md5(RAW))):
        with pytest.raises(
            SystemFailed, match=f"it needs the Python package '{package}'.*{install}"
        ):
            look_up(root / "eval.jsonl")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:9/x",
        "http://me:hidden@127.0.0.1:9/x",
        "remote://nowhere/x",
    ],
)
def test_whatever_a_remote_raises_is_a_system_failure(root: Path, url: str) -> None:
    """In one paragraph, without the password."""
    dvc(root, "remote", "modify", "here", "url", url)
    (root / "eval.jsonl").unlink()
    shutil.rmtree(root / ".dvc/cache")
    with pytest.raises(SystemFailed) as caught:
        read_versioned(root / "eval.jsonl")
    assert "\n" not in str(caught.value)
    assert "hidden" not in str(caught.value)


def _pull_from(root: Path, url: str) -> str:
    """The message of a pull from another remote, which fails."""
    dvc(root, "remote", "modify", "-q", "here", "url", url)
    (root / "eval.jsonl").unlink()
    shutil.rmtree(root / ".dvc" / "cache")
    with pytest.raises(SystemFailed) as caught:
        read_versioned(root / "eval.jsonl")
    message = str(caught.value)
    assert "neither locally nor on remote" not in message
    return message


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (None, "can't be read: ClientConnectorError: Cannot connect to host 127.0.0.1:"),
        (Answer(status=403), "can't be read: ClientResponseError: 403"),
        (Answer(status=401), "can't be read: ClientResponseError: 401"),
        (Answer(status=404), f"does not have the object {md5(RAW)}. If it was never pushed, run"),
    ],
    ids=["dead server", "forbidden", "no credentials", "not pushed"],
)
def test_why_a_web_server_did_not_deliver_is_said(
    root: Path, answer: Answer | None, reason: str
) -> None:
    """DVC says of all of them that the file exists neither locally nor in the remote."""
    with serving(lambda _: answer or Answer()) as url:
        if answer is not None:
            message = _pull_from(root, f"{url}/store?key=hunter2")
    if answer is None:
        message = _pull_from(root, f"{url}/store")
    assert f"could not pull it from the remote 'here' ({url}/store" in message
    assert reason in message
    assert "hunter2" not in message


def test_a_folder_that_is_not_mounted_is_named(root: Path, tmp_path: Path) -> None:
    """It is not the same as data that was never pushed."""
    message = _pull_from(root, str(tmp_path / "mnt"))
    assert f"the remote 'here' ({tmp_path / 'mnt'}): its folder does not exist" in message


def test_the_commands_after_an_edit_keep_it_first(root: Path) -> None:
    """Each does what the message says."""
    file, edited = root / "eval.jsonl", RAW + b'{"id": "3"}\n'
    file.unlink()
    file.write_bytes(edited)
    with pytest.raises(BadInput) as caught:
        read_versioned(file)
    keep, discard = re.findall(r"'dvc ((?:add|checkout) [^']+)'", str(caught.value))
    assert (keep.split()[0], discard.split()[:2]) == ("add", ["checkout", "--force"])
    dvc(root, *discard.split())
    assert read_versioned(file).raw == RAW
    file.unlink()
    file.write_bytes(edited)
    dvc(root, *keep.split())
    assert read_versioned(file).raw == edited


def test_the_commands_after_an_edit_of_a_stages_output_work(root: Path) -> None:
    """It can't be added, only committed."""
    (root / "source").write_bytes(RAW)
    command = "cp source made.jsonl"
    dvc(root, "stage", "add", "-n", "make", "-d", "source", "-o", "made.jsonl", command)
    dvc(root, "repro")
    file, edited = root / "made.jsonl", RAW * 2
    for number, found in ((1, RAW), (0, edited)):
        file.unlink()
        file.write_bytes(edited)
        with pytest.raises(BadInput) as caught:
            read_versioned(file)
        commands = re.findall(r"'dvc ((?:commit|checkout) [^']+)'", str(caught.value))
        dvc(root, *commands[number].split())
        assert read_versioned(file).raw == found


@pytest.fixture
def dvc_2(tmp_path: Path) -> Path:
    """A copy of the project that DVC 2 made, with its remote."""
    shutil.copytree(DVC_2, tmp_path / "dvc_2")
    git(tmp_path / "dvc_2/project", "init", "--quiet")
    return tmp_path / "dvc_2/project"


def test_a_text_with_windows_line_endings_of_dvc_2_is_named_as_such(dvc_2: Path) -> None:
    """Its MD5 does not say which bytes are meant. The commands of the message migrate it."""
    file, raw = dvc_2 / "text/eval.jsonl", RAW.replace(b"\n", b"\r\n")
    with pytest.raises(BadInput, match=r"written by DVC 2.*line endings") as caught:
        read_versioned(file)
    assert file.read_bytes() == raw
    commands = re.findall(r"'dvc ([^']+)'", str(caught.value))
    assert commands == ["pull", "cache migrate --dvc-files", "push"]
    for command in commands:
        dvc(dvc_2, *command.split())
    shutil.rmtree(dvc_2 / ".dvc/cache")
    file.unlink()
    data = read_versioned(file)
    assert (data.raw, data.dvc_hash) == (raw, md5(raw))


@pytest.mark.parametrize("name", ["file/eval.jsonl", "folder/sets/eval.jsonl", "stage/eval.jsonl"])
def test_data_of_dvc_2_is_pulled_and_looked_up(dvc_2: Path, name: str) -> None:
    """In the remote and then in the cache, in the layout of DVC 2. Damaged bytes do not count."""
    raw = read_versioned(dvc_2 / name).raw
    shutil.rmtree(dvc_2 / ".dvc/cache")
    assert read_object(dvc_2 / name, md5(raw)) == raw
    remote = dvc_2.with_name("remote")
    remote.rename(dvc_2 / ".dvc/cache")
    (dvc_2 / name).unlink()
    assert read_object(dvc_2 / name, md5(raw)) == read_versioned(dvc_2 / name).raw == raw
    kept = dvc_2 / ".dvc/cache" / md5(raw)[:2] / md5(raw)[2:]
    kept.chmod(0o644)
    kept.write_bytes(raw + b"x")
    assert read_object(dvc_2 / name, md5(raw)) is None


def test_a_version_that_was_never_pushed_is_invalid_input_without_git(root: Path) -> None:
    """There is no history to look in."""
    with pytest.raises(BadInput, match=r"nor its remote has the eval set .*Run 'dvc push'"):
        read_version(root / "eval.jsonl", md5(b"other"), sha256(b"other"), "the eval set")


def test_a_forged_list_of_a_folder_is_not_used(root: Path) -> None:
    """The commit fixes the MD5 of the list, so only bytes with that MD5 count."""
    (root / "sets").mkdir()
    (root / "sets/a.jsonl").write_bytes(RAW)
    dvc(root, "add", "sets")
    (cached,) = (root / ".dvc/cache/files/md5").rglob("*.dir")
    edited = RAW.replace(b"2", b"3")
    (root / "sets/a.jsonl").unlink()
    (root / "sets/a.jsonl").write_bytes(edited)
    cached.chmod(0o644)
    cached.write_bytes(cached.read_bytes().replace(md5(RAW).encode(), md5(edited).encode()))
    with pytest.raises(SystemFailed, match="neither DVC's cache nor its remote has the list"):
        read_versioned(root / "sets/a.jsonl")


def test_what_is_handed_on_is_enough_on_a_machine_without_the_remote(
    root: Path, tmp_path: Path
) -> None:
    """For a file and for a file in a tracked folder. A forged copy is not used."""
    (root / "sets").mkdir()
    (root / "sets/a.jsonl").write_bytes(RAW)
    dvc(root, "add", "sets")
    for path in (root / "eval.jsonl", root / "sets/a.jsonl"):
        hand_on(path, tmp_path / "handed")
        path.unlink()
    shutil.rmtree(root / "remote")
    shutil.rmtree(root / ".dvc/cache")
    shutil.copytree(tmp_path / "handed", root / ".dvc/cache")
    for path in (root / "eval.jsonl", root / "sets/a.jsonl"):
        assert read_versioned(path).raw == RAW
        path.unlink()
    (root / ".dvc/cache/files/md5" / md5(RAW)[:2] / md5(RAW)[2:]).write_bytes(RAW + b"x")
    with pytest.raises(SystemFailed, match="DVC could not pull it"):
        read_versioned(root / "eval.jsonl")


def test_digests_of_empty_data_are_the_known_ones() -> None:
    """The MD5 and the SHA-256 of the empty input."""
    data = digest(b"")
    assert data.dvc_hash == "d41d8cd98f00b204e9800998ecf8427e"
    assert data.sha256.startswith("e3b0c44298fc1c149afbf4c8996fb924")
